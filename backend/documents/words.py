"""Which passages have the words of a question, and how much that says: BM25 in plain SQL, over the postings."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from backend.documents.holdings import Library, only, statement

K1 = 1.2
B = 0.75
"""BM25's usual constants: how soon a repeated word stops counting, and how much a long passage is marked down."""
MOST_TERMS = 16
"""Of one language; the rarest say nearly all that a question says."""
MOST_POSTINGS = 20_000
"""Passages of one language that are scored for a question, each once for each term; its rarest has all of its own. A
thousand take one or two milliseconds; who has fewer passages than this loses nothing."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a question, as one language stems it."""

    language: str
    lexeme: str
    positions: tuple[int, ...]
    """In the question, the same in every language."""
    passages: int
    """How many of this language have it."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A term that is looked for."""

    language: str
    lexeme: str
    weight: float
    """Its inverse document frequency."""
    share: float
    """Its part of what all the question's terms weigh in its language, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Worded:
    """What the question's words say of a passage."""

    bm25: float
    coverage: float
    """From 0 to 1: what its words weigh, of what all of the question's weigh."""
    similarity: float | None
    """The cosine between it and the question; None while it has no embedding by the model."""


def worded(
    session: Session, query: str, library: Library, values: dict[str, Any], *, near: Sequence[int], most: int
) -> dict[int, Worded]:
    """Return the best passages by their words, by their ids, and beside them those of `near` that have any.

    `values` has the question's `vector` and its `model_id` too.
    """
    terms = weighed(_terms(session, query, library, values), library)
    if not terms:
        return {}
    asked = {
        "languages": [term.language for term in terms],
        "lexemes": [term.lexeme for term in terms],
        "weights": [term.weight * (K1 + 1) for term in terms],
        "shares": [term.share for term in terms],
        "least": K1 * (1 - B),
        "slope": K1 * B / library.average_length,
        "near": list(near),
        "most": most,
    }
    rows = session.execute(statement(_WORDED, only(library, "p")), values | asked).all()
    return {row[0]: Worded(row[1], min(row[2], 1.0), row[3]) for row in rows}


def _terms(session: Session, query: str, library: Library, values: dict[str, Any]) -> list[Term]:
    """Return the question's words as each language stems them, and how many passages have each."""
    asked = {"languages": list(library.passages), "query": query}
    rows = session.execute(statement(_TERMS, only(library, "p", filtered=False)), values | asked)
    return [Term(row.language, row.lexeme, tuple(row.positions), row.passages) for row in rows]


def weighed(terms: Sequence[Term], library: Library) -> list[Weighed]:
    """Return the terms worth looking for, and what each weighs.

    A word weighs the same in every language, by how many of all passages have it. Where a language drops it, it is so
    common that all of its passages are taken to have it: a "the" that stands in a note of unknown language, which drops
    nothing, weighs nothing as soon as there are English documents.
    """
    rarity = _rarity(terms, library.passages)
    of_language: dict[str, list[tuple[float, Term]]] = defaultdict(list)
    for term in terms:
        of_language[term.language].append((min(rarity[position] for position in term.positions), term))
    return [chosen for found in of_language.values() for chosen in _chosen(found)]


def _rarity(terms: Sequence[Term], passages: Mapping[str, int]) -> dict[int, float]:
    """Return the inverse document frequency of the word at each position of the question."""
    at: dict[int, dict[str, int]] = defaultdict(dict)
    for term in terms:
        for position in term.positions:
            at[position][term.language] = term.passages
    every = sum(passages.values())
    return {
        position: _inverse(sum(found.get(language, many) for language, many in passages.items()), every)
        for position, found in at.items()
    }


def _inverse(having: int, every: int) -> float:
    """Return Lucene's form of the inverse document frequency, which is never negative."""
    having = min(having, every)
    return math.log(1 + (every - having + 0.5) / (having + 0.5))


def _chosen(found: Sequence[tuple[float, Term]]) -> Iterator[Weighed]:
    rarest = sorted(found, key=lambda pair: (-pair[0], pair[1].lexeme))
    # Words that stand nowhere count here: a passage with all that was found may still lack what was asked.
    total = sum(weight for weight, _ in rarest[:MOST_TERMS])
    postings = 0
    for weight, term in [pair for pair in rarest if pair[1].passages][:MOST_TERMS]:
        if postings and postings + term.passages > MOST_POSTINGS:
            return
        postings += term.passages
        yield Weighed(term.language, term.lexeme, weight, weight / total)


_TERMS = """
select l.language, w.lexeme, w.positions, coalesce(f.passages, 0) as passages
from unnest(cast(:languages as text[])) as l (language)
cross join lateral unnest(to_tsvector(cast(l.language as regconfig), :query)) as w
cross join lateral (
    select sum(cardinality(p.chunk_ids)) as passages from postings p
    where p.user_id = :user_id and p.language = l.language and p.lexeme = w.lexeme {only}
) as f
"""

# Arrays are unnested side by side among the columns: as a table, each row of postings would cost three times as much.
_WORDED = """
with hits as (
    select t.weight, t.share, unnest(p.chunk_ids) as id, unnest(p.counts) as count, unnest(p.lengths) as length
    from unnest(
        cast(:languages as text[]), cast(:lexemes as text[]),
        cast(:weights as float8[]), cast(:shares as float8[])
    ) as t (language, lexeme, weight, share)
    join postings p on p.user_id = :user_id and p.language = t.language and p.lexeme = t.lexeme {only}
), scored as materialized (
    select id, sum(share) as coverage, sum(
        weight * count / (count + cast(:least as float8) + cast(:slope as float8) * length)
    ) as bm25
    from hits group by id
), best as (
    (select * from scored order by bm25 desc, id limit :most)
    union
    select * from scored s where s.id = any(cast(:near as integer[]))
)
select s.id, s.bm25, s.coverage, -(v.embedding <#> cast(:vector as halfvec)) as similarity
from best s
left join chunk_vectors v on v.user_id = :user_id and v.model_id = :model_id and v.chunk_id = s.id
"""
