"""Score passages by the words they share with a question: BM25 over the postings.

A score runs from 0, for a passage without any of the question's words, to 1, for a passage full of all these words. A
passage of average length that has each word once scores 0.7. This scale is the same for every question, so scores of
different questions can be compared.

The database returns which passages have a word, how often they have it, and how long they are. The scores are computed
here, in a fraction of the time that the database would need. It also spares the database, which all users share.
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
    import numpy as np  # Imported only where it is used at run time, because importing it would slow down the start.
    from numpy.typing import NDArray

K1 = 1.2
B = 0.75
"""BM25's usual constants: how soon repetitions of a word stop counting (`K1`) and how much a long passage is penalized
(`B`)."""
FEWEST_PASSAGES = 100
"""The smallest number of passages that word rarities are computed from. A user with fewer passages is treated as having
this many, and the additional passages as having none of the words. Otherwise a word in somebody's only passage would
count for almost nothing."""
MOST_TERMS = 16
"""The most terms looked up for each language. The rarest terms carry nearly all that distinguishes a question."""
MOST_POSITIONS = 16_384
"""PostgreSQL's highest position for a word in a text."""
MOST_POSTINGS = 20_000
"""A question is searched once for each language of the user's documents. This is the most postings that one such search
scores, counting all terms together. The rarest term is scored in full, even if it alone has more."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a question, stemmed for one language."""

    language: str
    lexeme: str
    positions: tuple[int, ...]
    """The word's positions in the question, the same in every language. Codes come after all other words."""
    passages: int
    """How many passages of this language have the term."""
    entries: bytes | memoryview | None = None
    """The term's postings in the wanted documents, in the format of `models.Postings`. None until the search decides
    whether to read them."""
    spelling: int = 0
    """0 for an ordinary word. For a part of a code, the number of the spelling that the part belongs to, from 1."""

    @property
    def identifies(self) -> bool:
        """Whether this is the part of a code that distinguishes it from other codes."""
        return self.spelling > 0 and identifies(self.lexeme)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A term to look up, with its weight."""

    term: Term
    share: float
    """The term's inverse document frequency, divided by the sum over all terms of the question in that language; from 0
    to 1."""


_Rated = tuple[float, Term]
"""A term's inverse document frequency, and the term."""


@dataclass(frozen=True, slots=True)
class Worded:
    """Scores of the passages that have any of a question's words, as two arrays of the same length."""

    ids: "NDArray[np.int64]"
    """Passage ids, ascending."""
    scores: "NDArray[np.float64]"
    """Scores from 0 to 1. Words of the question that no passage has count as missing."""

    def best(self, most: int) -> list[int]:
        """Return the ids of the `most` best passages, best first."""
        import numpy as np

        places = np.arange(len(self.ids))
        if len(places) > most:
            # Only the best passages need to be sorted.
            places = np.flatnonzero(self.scores >= np.partition(self.scores, -most)[-most])
        ranked = places[(-self.scores[places]).argsort(kind="stable")[:most]]
        found: list[int] = self.ids[ranked].tolist()
        return found

    def of(self, chunk_ids: "NDArray[np.int64]") -> "NDArray[np.float64]":
        """Return the score of each passage in `chunk_ids`; 0 for a passage without any of the words."""
        import numpy as np

        if not len(self.ids):
            return np.zeros(len(chunk_ids))
        places = self.ids.searchsorted(chunk_ids).clip(max=len(self.ids) - 1)
        scores: NDArray[np.float64] = self.scores[places] * (self.ids[places] == chunk_ids)
        return scores


def worded(session: Session, query: str, codes: str, library: Library, values: dict[str, Any]) -> Worded:
    """Score every passage that has at least one of the question's words or codes worth looking up.

    A passage matches a code only if it has the part that identifies the code. The code's other parts count only in such
    a passage. INV-2041 therefore does not match INV-9999, although both have INV.
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
    """Map BM25 scores to scores from 0 to 1. The input is divided by the sum of the rarities, so it is at most K1 + 1.

    The more of the question's words a passage has, the less each further word adds. BM25 treats repetitions of one word
    in the same way.
    """
    return bm25 * (K1 + 1 + K1) / (K1 + 1) / (bm25 + K1)


def _in_one_spelling(terms: Sequence[Term]) -> list[Term]:
    """Keep all ordinary words and, for each code, the terms of the first spelling that occurs in a passage."""
    there = [term.spelling for term in terms if term.passages and term.identifies]
    return [term for term in terms if term.spelling in (0, min(there, default=1))]


def _terms(session: Session, query: str, codes: str, library: Library, values: dict[str, Any]) -> list[Term]:
    """Stem the question's words for each language, and return the stems.

    If all stems will be looked up, also return their postings.
    """
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
    """Yield the postings of each chosen term. Read the postings that `_terms` did not return."""
    left = [one.term for one in chosen if one.term.entries is None]
    asked = {"languages": [term.language for term in left], "lexemes": [term.lexeme for term in left]}
    rows = iter(session.execute(statement(_ENTRIES, only(library, "p"), "entries"), values | asked) if left else ())
    for one in chosen:
        yield next(rows).entries if one.term.entries is None else one.term.entries


def weighed(terms: Sequence[Term], library: Library) -> list[Weighed]:
    """Return the terms worth looking up, with their weights.

    A word has the same weight in every language. The weight depends on how many passages in all languages together have
    the word. If a language drops a word as a stop word, all passages of that language are assumed to have the word. For
    example, a note in an unknown language keeps its "the", but "the" weighs nothing once there are English documents.
    """
    rarity = _rarity(terms, library.passages)
    of_language: dict[str, list[_Rated]] = defaultdict(list)
    for term in terms:
        of_language[term.language].append((min(rarity[position] for position in term.positions), term))
    return [chosen for found in of_language.values() for chosen in _chosen(found)]


def _rarity(terms: Sequence[Term], passages: Mapping[str, int]) -> dict[int, float]:
    """Return the inverse document frequency of the word at each position of the question."""
    at: dict[int, dict[str, int]] = defaultdict(dict)
    for term in terms:
        for position in term.positions:
            at[position][term.language] = term.passages
    there = sum(passages.values())
    every = max(there, FEWEST_PASSAGES)
    return {
        # If a language drops the word, all passages of that language are assumed to have it.
        position: _inverse(sum(found.get(language, many * every / there) for language, many in passages.items()), every)
        for position, found in at.items()
    }


def _inverse(having: float, every: int) -> float:
    """Return Lucene's form of the inverse document frequency, which is never negative."""
    having = min(having, every)
    return math.log(1 + (every - having + 0.5) / (having + 0.5))


def _chosen(found: Sequence[_Rated]) -> Iterator[Weighed]:
    rarest = sorted(found, key=lambda rated: (-rated[0], rated[1].lexeme))
    # Words that no passage has count in the total: a passage with all found words may still lack what was asked for.
    total = sum(weight for weight, _ in rarest[:MOST_TERMS])
    postings = 0
    for weight, term in [rated for rated in rarest if rated[1].passages][:MOST_TERMS]:
        if postings and postings + term.passages > MOST_POSTINGS:
            return
        postings += term.passages
        yield Weighed(term, weight / total)


# All words of a short question are looked up, whatever they weigh, so this statement reads their postings at once. The
# table's primary key includes the postings, because the rows of one word lie next to each other in the key's index. In
# the table they are scattered.
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
