"""Hybrid search: the passages whose embedding is near the question's, and those that have its words, weighed together.

Both halves are scored for every candidate of either. Each half's scores are put between 0 and 1, by the least and the
greatest among the candidates, and count for one half; by ranks alone, how much better the best one is would be lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from sqlalchemy import text

from backend.database import Scope
from backend.documents.holdings import Library, Reason, holdings_of
from backend.documents.index import INVISIBLE, literal
from backend.documents.nearest import nearest
from backend.documents.words import worded
from backend.plain_text import storable

LONGEST_QUERY = 8_192
"""Bytes of UTF-8; what comes after them is not sought."""
CANDIDATES = 100
"""Of each half, or as many as are asked for: far more than anybody reads, and quickly told."""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A question's embedding, of unit length."""

    model_id: int
    values: list[float]
    unrelated: float
    """The cosine up to which, by this model, two texts have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage with what each half says of it."""

    id: int
    similarity: float | None
    bm25: float = 0.0
    coverage: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that was found."""

    id: int
    document_id: int
    filename: str
    page_number: int | None
    text: str
    score: float
    """From 0 to 1, falling along the list. The first one's can be compared between questions: it is the mean of how
    near it is, from unrelated to equal, and of its `text_score`."""
    start: int
    end: int
    vector_score: float | None
    """The cosine between question and passage; None while the passage has no embedding by the model."""
    text_score: float
    """From 0 to 1: how much of the question its words are, each weighed by its rarity."""
    headings: str


@dataclass(frozen=True, slots=True)
class Found:
    """The passages, best first, or the reason why there is none."""

    passages: list[FoundPassage]
    reason: Reason | None


class Search:
    """Finds passages of the user's documents that are ready and not deleted."""

    def __init__(self, scope: Scope) -> None:
        self._session = scope.session
        self._user_id = scope.user_id

    def find(self, query: str, vector: QueryVector, *, document_ids: list[int] | None, limit: int) -> Found:
        """Return at most `limit` passages, best first; only of some documents, if their ids are given.

        No question is an error: what cannot be stored is replaced, and what is too long is cut. As many passages as are
        asked for come back where there are as many, however little they have to do with the question; none comes back
        when no passage has a word of it and none is nearer than an unrelated one would be.
        """
        candidates, library = self.candidates(query, vector, document_ids=document_ids, depth=limit)
        if isinstance(library, str):
            return Found([], library)
        if not any(candidate.bm25 > 0 or _closeness(candidate, vector) > 0 for candidate in candidates):
            return Found([], "still_indexing" if library.is_growing else "below_threshold")
        scores = fused(candidates)
        best = sorted(candidates, key=lambda candidate: (-scores[candidate.id], candidate.id))[:limit]
        evidence = (_closeness(best[0], vector) + best[0].coverage) / 2 / scores[best[0].id]
        return Found(self._told(best, {chunk_id: evidence * score for chunk_id, score in scores.items()}), None)

    def candidates(
        self, query: str, vector: QueryVector, *, document_ids: list[int] | None, depth: int
    ) -> tuple[list[Candidate], Library | Reason]:
        """Return the passages that either half proposes, in no order, and what they were sought in.

        Each has the scores of both halves. Where there is nothing to search in, the reason stands in its place.
        """
        values: dict[str, Any] = {"user_id": self._user_id, "document_ids": document_ids}
        library = holdings_of(self._session, values)
        if isinstance(library, str):
            return [], library
        values |= {"model_id": vector.model_id, "vector": literal(vector.values)}
        most = max(depth, CANDIDATES)
        words = worded(self._session, _cut(query), library, values)
        best = words.best(most)
        near = nearest(self._session, library, values, most=most, beside=best)
        proposed = [*near, *(key for key in best if key not in near)]
        found = [
            Candidate(key, near.get(key), *of_words) for key, of_words in zip(proposed, words.of(proposed), strict=True)
        ]
        return found, library

    def _told(self, best: Sequence[Candidate], scores: dict[int, float]) -> list[FoundPassage]:
        values = {"user_id": self._user_id, "ids": [candidate.id for candidate in best]}
        passages = {row.id: row for row in self._session.execute(_PASSAGES, values)}
        return [
            FoundPassage(
                id=row.id,
                document_id=row.document_id,
                filename=row.filename,
                page_number=row.page_number,
                text=row.content,
                score=round(scores[row.id], 4),
                start=row.start,
                end=row.end,
                vector_score=candidate.similarity,
                text_score=candidate.coverage,
                headings=row.headings,
            )
            for candidate in best
            if (row := passages.get(candidate.id))
        ]


def fused(candidates: Sequence[Candidate]) -> dict[int, float]:
    """Return each candidate's score from 0 to 1: half by its embedding, half by its words."""
    near = _spread([candidate.similarity for candidate in candidates])
    by_words = _spread([candidate.bm25 for candidate in candidates])
    return {one.id: (first + second) / 2 for one, first, second in zip(candidates, near, by_words, strict=True)}


def _spread(values: Sequence[float | None]) -> list[float]:
    """Return the values put between 0 and 1. What has none gets 0; where all are alike, what is above 0 gets 1."""
    known = [value for value in values if value is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    if least == most:
        return [float(value is not None and value > 0) for value in values]
    return [0.0 if value is None else (value - least) / (most - least) for value in values]


def _closeness(candidate: Candidate, vector: QueryVector) -> float:
    """Return how near a passage is, from 0 for unrelated to 1 for equal."""
    if candidate.similarity is None:
        return 0.0
    return min(max((candidate.similarity - vector.unrelated) / (1 - vector.unrelated), 0.0), 1.0)


def _cut(query: str) -> str:
    """Return a question that can be sought, at most `LONGEST_QUERY` long and with its letters as they are indexed."""
    start = storable(query).encode()[:LONGEST_QUERY].decode(errors="ignore")
    return normalize("NFKC", start.translate(dict.fromkeys(map(ord, INVISIBLE))).replace("\ufffd", " "))


_PASSAGES = text(
    """
    select c.id, c.document_id, d.filename, c.page_number, c.content, c.start, c."end", c.headings
    from chunks c join documents d on d.user_id = c.user_id and d.id = c.document_id
    where c.user_id = :user_id and c.id = any(:ids) and d.status = 'ready' and d.deleted_at is null
    """
)
