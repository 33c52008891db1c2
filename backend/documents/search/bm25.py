"""Which passages have the words of a question, and how much that says: BM25 over the postings.

A score goes from 0 for a passage that has none of the question's words to 1 for one that is full of all of them; one
of average length that has each once has .7. So scores of different questions can be compared.

The database says which passages have a word, how often, and how long they are; the scores are worked out here, where
it takes a fraction of the time that the database would need, which everybody shares.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlmodel import Session

from backend.documents.search.codes import identifies, spellings
from backend.documents.search.holdings import Library, only, statement

if TYPE_CHECKING:
    import numpy as np  # Where it is needed it is imported anew: that takes time, which starting has not.
    from numpy.typing import NDArray

K1 = 1.2
B = 0.75
"""BM25's usual constants: how soon a repeated word stops counting, and how much a long passage is marked down."""
FEWEST_PASSAGES = 100
"""Fewer say little about how rare a word is. Words are weighed as if there were so many, and no other one had them:
otherwise the one word that a lone passage has of a question would count next to nothing."""
MOST_TERMS = 16
"""Of one language; the rarest say nearly all that a question says."""
MOST_POSITIONS = 16_384
"""PostgreSQL numbers a text's words up to this."""
MOST_POSTINGS = 20_000
"""Passages of one language that are scored for a question, each once for each term; its rarest has all of its own."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a question, as one language stems it."""

    language: str
    lexeme: str
    positions: tuple[int, ...]
    """In the question, the same in every language; those of codes come after all others."""
    passages: int
    """How many of this language have it."""
    entries: bytes | memoryview | None = None
    """Its postings, as `models.Postings` says, of the documents that are asked for; None where it has yet to be chosen
    whether they are looked at."""
    spelling: int = 0
    """0 for a word of the question; from 1 for a part of a code, the number of the way in which the code is written."""

    @property
    def identifies(self) -> bool:
        """Whether it is the part of a code that tells the code from others."""
        return self.spelling > 0 and identifies(self.lexeme)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A term that is looked for."""

    term: Term
    share: float
    """Its part of the inverse document frequencies of all the question's terms in its language, from 0 to 1."""


_Rated = tuple[float, Term]
"""A term's inverse document frequency, and the term."""


@dataclass(frozen=True, slots=True)
class Worded:
    """How well passages match a question's words, of those that match any: two arrays of the same length."""

    ids: "NDArray[np.int64]"
    """Of the passages, rising."""
    scores: "NDArray[np.float64]"
    """From 0 to 1, by all the question's words, those that stand nowhere included."""

    def best(self, most: int) -> list[int]:
        """Return the ids of the best passages, at most so many, best first."""
        import numpy as np

        places = np.arange(len(self.ids))
        if len(places) > most:
            # All others need not be sorted.
            places = np.flatnonzero(self.scores >= np.partition(self.scores, -most)[-most])
        ranked = places[(-self.scores[places]).argsort(kind="stable")[:most]]
        found: list[int] = self.ids[ranked].tolist()
        return found

    def of(self, chunk_ids: "NDArray[np.int64]") -> "NDArray[np.float64]":
        """Return the score of each of these passages, 0 for one that has none of the words."""
        import numpy as np

        if not len(self.ids):
            return np.zeros(len(chunk_ids))
        places = self.ids.searchsorted(chunk_ids).clip(max=len(self.ids) - 1)
        scores: NDArray[np.float64] = self.scores[places] * (self.ids[places] == chunk_ids)
        return scores


def worded(session: Session, query: str, codes: str, library: Library, values: dict[str, Any]) -> Worded:
    """Return what the question's words and codes say of all passages that have any of those worth looking for.

    A passage has a code if it has the part that tells the code from others; its other parts count in such a passage
    alone. INV-2041 is no answer to INV-9999.
    """
    import numpy as np

    terms = weighed(_in_one_spelling(_terms(session, query, codes, library, values)), library)
    if not terms:
        return Worded(np.empty(0, np.int64), np.empty(0))
    entries = [bytes(one) for one in _entries(session, terms, library, values)]
    found = np.frombuffer(b"".join(entries), [("id", ">i4"), ("count", ">i2"), ("length", ">i2")])
    sizes = [len(one) // found.itemsize for one in entries]
    shares = np.repeat([one.share for one in terms], sizes)
    counts = found["count"].astype(np.float64)
    length = found["length"] / library.average_length
    bm25 = shares * (K1 + 1) * counts / (counts + K1 * (1 - B + B * length))
    ids, places = np.unique(found["id"].astype(np.int64), return_inverse=True)
    if codes:
        has_code = np.bincount(places, np.repeat([one.term.identifies for one in terms], sizes)) > 0
        bm25 *= has_code[places] | np.repeat([not one.term.spelling for one in terms], sizes)
    scores = saturated(np.bincount(places, bm25))
    return Worded(ids[scores > 0], scores[scores > 0])


def saturated(bm25: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return BM25, which is at most K1 + 1 when divided by the question's rarities, as a score from 0 to 1.

    The more of its words a passage has, the less one more counts, as one word repeated does within BM25.
    """
    return bm25 * (K1 + 1 + K1) / (K1 + 1) / (bm25 + K1)


def _in_one_spelling(terms: Sequence[Term]) -> list[Term]:
    """Return the terms without those of all spellings of the codes but the first that stands somewhere."""
    there = [term.spelling for term in terms if term.passages and term.identifies]
    return [term for term in terms if term.spelling in (0, min(there, default=1))]


def _terms(session: Session, query: str, codes: str, library: Library, values: dict[str, Any]) -> list[Term]:
    """Return the question's words as each language stems them, with their postings where all of them are looked at."""
    asked = {
        "languages": list(library.passages),
        "queries": [query, *(spellings(codes) if codes else ())],
        "most_terms": MOST_TERMS,
        "most_postings": MOST_POSTINGS,
    }
    rows = session.execute(
        statement(_TERMS, only(library, "p", filtered=False), *_COLUMNS_OF_TERMS),
        values | asked,
    )
    return [
        Term(
            row.language,
            row.lexeme,
            tuple(position + row.spelling * MOST_POSITIONS for position in row.positions),
            row.passages,
            row.entries,
            row.spelling,
        )
        for row in rows
    ]


def _entries(
    session: Session, chosen: Sequence[Weighed], library: Library, values: dict[str, Any]
) -> Iterator[bytes | memoryview]:
    """Yield the postings of each term, those that did not come with the terms by a second look."""
    left = [one.term for one in chosen if one.term.entries is None]
    asked = {"languages": [term.language for term in left], "lexemes": [term.lexeme for term in left]}
    rows = iter(session.execute(statement(_ENTRIES, only(library, "p"), "entries"), values | asked) if left else ())
    for one in chosen:
        yield next(rows).entries if one.term.entries is None else one.term.entries


def weighed(terms: Sequence[Term], library: Library) -> list[Weighed]:
    """Return the terms worth looking for, and what each weighs.

    A word weighs the same in every language, by how many of all passages have it. Where a language drops it, it is so
    common that all of its passages are taken to have it: a "the" that stands in a note of unknown language, which drops
    nothing, weighs nothing as soon as there are English documents.
    """
    rarity = _rarity(terms, library.passages)
    of_language: dict[str, list[_Rated]] = defaultdict(list)
    for term in terms:
        of_language[term.language].append((min(rarity[position] for position in term.positions), term))
    return [chosen for found in of_language.values() for chosen in _chosen(found)]


def _rarity(terms: Sequence[Term], passages: Mapping[str, int]) -> dict[int, float]:
    """Return the inverse document frequency of the word at each place of the question."""
    at: dict[int, dict[str, int]] = defaultdict(dict)
    for term in terms:
        for position in term.positions:
            at[position][term.language] = term.passages
    there = sum(passages.values())
    every = max(there, FEWEST_PASSAGES)
    return {
        # What is too common for a language stands in the others too.
        position: _inverse(sum(found.get(language, many * every / there) for language, many in passages.items()), every)
        for position, found in at.items()
    }


def _inverse(having: float, every: int) -> float:
    """Return Lucene's form of the inverse document frequency, which is never negative."""
    having = min(having, every)
    return math.log(1 + (every - having + 0.5) / (having + 0.5))


def _chosen(found: Sequence[_Rated]) -> Iterator[Weighed]:
    rarest = sorted(found, key=lambda rated: (-rated[0], rated[1].lexeme))
    # Words that stand nowhere count here: a passage with all that was found may still lack what was asked.
    total = sum(weight for weight, _ in rarest[:MOST_TERMS])
    postings = 0
    for weight, term in [rated for rated in rarest if rated[1].passages][:MOST_TERMS]:
        if postings and postings + term.passages > MOST_POSTINGS:
            return
        postings += term.passages
        yield Weighed(term, weight / total)


# Of a short question all words are looked at, whatever they weigh, and so their postings come at once. The key of the
# table has them too: in it those of a word lie side by side, in the table they are scattered.
_TERMS = """
select l.language, q.spelling - 1 as spelling, w.lexeme, w.positions, coalesce(f.passages, 0) as passages,
       case when length(v.lexemes) <= :most_terms
            and coalesce(sum(f.passages) over (partition by l.language), 0) <= :most_postings
            then coalesce(f.entries, '') end as entries
from unnest(cast(:languages as text[])) as l (language)
cross join unnest(cast(:queries as text[])) with ordinality as q (query, spelling)
cross join lateral to_tsvector(cast(l.language as regconfig), q.query) as v (lexemes)
cross join lateral unnest(v.lexemes) as w
cross join lateral (
    select sum(octet_length(p.entries)) / 8 as passages,
           string_agg(p.entries, cast('' as bytea)) filter (
               where length(v.lexemes) <= :most_terms and (
                   cast(:document_ids as integer[]) is null or p.document_id = any(cast(:document_ids as integer[]))
               )
           ) as entries
    from postings p where p.user_id = :user_id and p.language = l.language and p.lexeme = w.lexeme {only}
) as f
"""

_COLUMNS_OF_TERMS = ("language", "spelling", "lexeme", "positions", "passages", "entries")

_ENTRIES = """
select (
    select coalesce(string_agg(p.entries, cast('' as bytea)), '') from postings p
    where p.user_id = :user_id and p.language = t.language and p.lexeme = t.lexeme {only}
) as entries
from unnest(cast(:languages as text[]), cast(:lexemes as text[])) with ordinality as t (language, lexeme, place)
order by t.place
"""
