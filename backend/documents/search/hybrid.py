"""Hybrid search: passages whose embedding is near the question's and passages that share its words, scored together.

Every candidate gets both scores, even if only one half of the search proposed the candidate. The nearness score runs
from 0 for an unrelated passage to 1 for an equal passage. The word score runs from 0 for a passage without the
question's words to 1 for a passage full of all of them. Each score counts for one half. A passage's scores do not
depend on the other candidates. If scores came from ranks, or were stretched between the worst and the best candidate,
the best of many bad candidates would look good.
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
    import numpy as np  # Imported only where it is used at run time, because importing it would slow down the start.
    from numpy.typing import NDArray

LONGEST_QUERY = 8_192
"""The longest question, in bytes of UTF-8. The rest of a longer question is ignored."""
CANDIDATES = 100
"""The number of passages that each half of the search proposes. If more passages are requested, each half proposes the
requested number. A hundred passages are far more than anybody reads, and still fast to score."""

SIGNS_OF_A_SCRIPT = 200
"""How many characters at the start of a passage decide its script, if its language is unknown."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate passages in no particular order, with both scores, as arrays of the same length."""

    ids: "NDArray[np.int64]"
    similarity: "NDArray[np.float64]"
    """The cosine between question and passage; NaN for a passage without an embedding."""
    closeness: "NDArray[np.float64]"
    """How near the passage is: from 0 for an unrelated passage, or one without an embedding, to 1 for an equal one."""
    wording: "NDArray[np.float64]"
    """How well the passage matches the question's words: from 0 for no word to 1 for a passage full of all words."""


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that a search returned."""

    id: int
    document_id: int
    filename: str
    page_number: int | None
    text: str
    score: float
    """The passage's score, from 0 to 1: the mean of its nearness, from unrelated to equal, and `text_score`. Scores of
    different questions can be compared. The passage with the highest score comes first in the list."""
    start: int
    end: int
    vector_score: float | None
    """The cosine between question and passage; None while this model has no embedding of the passage."""
    text_score: float
    """The word score: from 0 for a passage without any of the question's words to 1 for a passage full of all these
    words. Each word is weighed by its rarity. A passage of average length that has each word once scores 0.7."""
    headings: str


@dataclass(frozen=True, slots=True)
class Found:
    """The passages, best first, or the reason why there are none."""

    passages: list[FoundPassage]
    reason: Reason | None


class Search:
    """Searches the user's documents that are ready and not deleted."""

    def __init__(self, scope: Scope) -> None:
        self._session = scope.session
        self._user_id = scope.user_id

    def find(self, query: str, vector: QueryVector, *, document_ids: list[int] | None, limit: int) -> Found:
        """Return at most `limit` passages, best first, from the documents in `document_ids`; None means all documents.

        No question raises an error: characters that cannot be stored are replaced, and a question that is too long is
        cut. The search returns `limit` passages if that many exist, even passages that have little to do with the
        question. The result is empty only if no passage shares a word with the question and every passage is as far
        away as an unrelated passage.
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
        """Return the passages that either half of the search proposes, with both scores, and the searched library.

        If there is nothing to search, return the reason instead of the library.
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
            # The texts nearest to one code are texts with any codes, so nearness means nothing.
            closeness = np.zeros(len(ids))
        else:
            closeness = _closeness(similarity, self._unrelated(ids, library, vector.unrelated))
        return Candidates(ids, similarity, closeness, words.of(ids)), library

    def _unrelated(
        self, ids: "NDArray[np.int64]", library: Library, figures: Mapping[str, float]
    ) -> "NDArray[np.float64]":
        """Return the cosine up to which each passage is unrelated to a question, by the language of its document.

        If the document's language is unknown, the passage's script decides: a short Greek note counts as Greek.
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
        """Read the passages at the positions `best` among the candidates. Leave out passages deleted meanwhile."""
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
    """Return each candidate's score from 0 to 1: the mean of its nearness and its word score."""
    return (candidates.closeness + candidates.wording) / 2


def _closeness(similarity: "NDArray[np.float64]", unrelated: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    return np.nan_to_num((similarity - unrelated) / (1 - unrelated)).clip(0, 1)


def _cut(query: str) -> str:
    """Prepare a question for search: cut it to `LONGEST_QUERY` bytes, and normalize its letters as in the index."""
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
