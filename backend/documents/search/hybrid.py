"""Hybrid search: the passages whose embedding is near the question's, and those that have its words, weighed together.

Both halves are scored for every candidate of either, on scales that do not depend on the candidates: nearness from 0
for an unrelated passage to 1 for an equal one, and words from 0 to 1 for a passage full of all of them. Each counts
for one half. By ranks, or stretched to the candidates' own extremes, the best of a bad lot would look like a good one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from backend.documents.embedding.embedder import QueryVector
from backend.documents.language import UNSURE, language_of_script
from backend.documents.search.bm25 import worded
from backend.documents.search.codes import codes_of
from backend.documents.search.common_words import without_common_words
from backend.documents.search.holdings import Library, Reason, library_of
from backend.documents.search.index import literal, spelled
from backend.documents.search.vectors import nearest
from backend.plain_text import storable
from backend.postgres.database import Scope

if TYPE_CHECKING:
    import numpy as np  # Where it is needed it is imported anew: that takes time, which starting has not.
    from numpy.typing import NDArray

LONGEST_QUERY = 8_192
"""Bytes of UTF-8; what comes after them is not sought."""
CANDIDATES = 100
"""Of each half, or as many as are asked for: far more than anybody reads, and quickly told."""

SIGNS_OF_A_SCRIPT = 200
"""At the beginning of a passage of unknown language."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Passages in no order, with what each half says of them: arrays of one length."""

    ids: "NDArray[np.int64]"
    similarity: "NDArray[np.float64]"
    """The cosine between question and passage; NaN where a passage has no embedding."""
    closeness: "NDArray[np.float64]"
    """How near they are: from 0 for unrelated, or for no embedding, to 1 for equal."""
    wording: "NDArray[np.float64]"
    """How well they match the question's words: from 0 for none to 1 for a passage full of all of them."""


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that was found."""

    id: int
    document_id: int
    filename: str
    page_number: int | None
    text: str
    score: float
    """From 0 to 1, falling along the list, and comparable between questions: one half is how near the passage is, from
    unrelated to equal, and the other is `text_score`."""
    start: int
    end: int
    vector_score: float | None
    """The cosine between question and passage; None while the passage has no embedding by the model."""
    text_score: float
    """From 0 for a passage with none of the question's words to 1 for one that is full of all of them, each weighed by
    its rarity; one of average length that has each once has .7."""
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
        import numpy as np

        candidates, library = self.candidates(query, vector, document_ids=document_ids, depth=limit)
        if isinstance(library, str):
            return Found([], library)
        scores = fused(candidates)
        if not (scores > 0).any():
            return Found([], "still_indexing" if library.is_growing else "below_threshold")
        nearness = np.nan_to_num(candidates.similarity, nan=-1.0)
        best = np.lexsort((candidates.ids, -nearness, -scores))[:limit]
        return Found(self._told(candidates, best, scores), None)

    def candidates(
        self, query: str, vector: QueryVector, *, document_ids: list[int] | None, depth: int
    ) -> tuple[Candidates, Library | Reason]:
        """Return the passages that either half proposes, and what they were sought in.

        Each has the scores of both halves. Where there is nothing to search in, the reason stands in its place.
        """
        import numpy as np

        values: dict[str, Any] = {"user_id": self._user_id, "document_ids": document_ids}
        library = library_of(self._session, values)
        if isinstance(library, str):
            return Candidates(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0)), library
        values |= {"model_id": vector.model_id, "vector": literal(vector.values)}
        most = max(depth, CANDIDATES)
        question = without_common_words(_cut(query), sorted(library.passages, key=lambda one: -library.passages[one]))
        codes, others = codes_of(question)
        words = worded(self._session, others, codes, library, values)
        best = words.best(most)
        near = nearest(self._session, library, values, most=most, beside=best)
        proposed = [*near, *(key for key in best if key not in near)]
        ids = np.array(proposed, np.int64)
        similarity = np.array([near.get(key, np.nan) for key in proposed])
        if codes and not others:
            # What an embedding finds near one code are texts with any other.
            closeness = np.zeros(len(ids))
        else:
            closeness = _closeness(similarity, self._unrelated(ids, library, vector.unrelated))
        return Candidates(ids, similarity, closeness, words.of(ids)), library

    def _unrelated(
        self, ids: "NDArray[np.int64]", library: Library, figures: Mapping[str, float]
    ) -> "NDArray[np.float64]":
        """Return the cosine up to which each passage is unrelated to a question, by its document's language.

        Where the language is unknown, the passage's script counts: a short Greek note is Greek.
        """
        import numpy as np

        if len(figures) == 1 or (len(library.passages) == 1 and UNSURE not in library.passages):
            return np.full(len(ids), figures.get(next(iter(library.passages)), figures[UNSURE]))
        values = {"user_id": self._user_id, "ids": ids.tolist(), "unsure": UNSURE, "signs": SIGNS_OF_A_SCRIPT}
        languages = {
            row.id: row.language if row.beginning is None else language_of_script(row.beginning)
            for row in self._session.execute(_LANGUAGES, values)
        }
        return np.array([figures.get(languages.get(key, UNSURE), figures[UNSURE]) for key in ids.tolist()])

    def _told(
        self, candidates: Candidates, best: "NDArray[np.int64]", scores: "NDArray[np.float64]"
    ) -> list[FoundPassage]:
        """Return the passages at the places `best` among the candidates, but those that are gone meanwhile."""
        chosen = [
            column[best].tolist() for column in (candidates.ids, scores, candidates.similarity, candidates.wording)
        ]
        values = {"user_id": self._user_id, "ids": chosen[0]}
        passages = {row.id: row for row in self._session.execute(_PASSAGES, values)}
        return [
            FoundPassage(
                id=row.id,
                document_id=row.document_id,
                filename=row.filename,
                page_number=row.page_number,
                text=row.content,
                score=round(score, 4),
                start=row.start,
                end=row.end,
                vector_score=None if isnan(similarity) else similarity,
                text_score=wording,
                headings=row.headings,
            )
            for key, score, similarity, wording in zip(*chosen, strict=True)
            if (row := passages.get(key))
        ]


def fused(candidates: Candidates) -> "NDArray[np.float64]":
    """Return each candidate's score from 0 to 1: half by its embedding, half by its words."""
    return (candidates.closeness + candidates.wording) / 2


def _closeness(similarity: "NDArray[np.float64]", unrelated: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    return np.nan_to_num((similarity - unrelated) / (1 - unrelated)).clip(0, 1)


def _cut(query: str) -> str:
    """Return a question that can be sought, at most `LONGEST_QUERY` long and with its letters as they are indexed."""
    start = storable(query).encode()[:LONGEST_QUERY].decode(errors="ignore")
    return spelled(start.replace("\ufffd", " "))


_LANGUAGES = text(
    """
    select c.id, d.language, case when d.language = :unsure then left(c.content, :signs) end as beginning
    from chunks c join documents d on d.user_id = c.user_id and d.id = c.document_id
    where c.user_id = :user_id and c.id = any(:ids)
    """
)

_PASSAGES = text(
    """
    select c.id, c.document_id, d.filename, c.page_number, c.content, c.start, c."end", c.headings
    from chunks c join documents d on d.user_id = c.user_id and d.id = c.document_id
    where c.user_id = :user_id and c.id = any(:ids) and d.status = 'ready' and d.deleted_at is null
    """
)
