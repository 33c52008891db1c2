"""The quality of results: hybrid, and each half alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from backend.documents.embedding.embedder import Embedder, QueryVector
from backend.documents.search.hybrid import Candidates, Search
from bench.retrieval.sets import DEPTH, Judged, ndcg
from bench.retrieval.shelves import MODEL_ID, Shelves, embedded, passage_texts, texts_of

PASSAGES = 4 * DEPTH
"""The passages requested for each question. They cover ten documents, because few have more than three passages."""


@dataclass(frozen=True)
class Quality:
    """nDCG@10 on one set, averaged over its questions."""

    name: str
    documents: int
    passages: int
    questions: int
    hybrid: float
    words: float
    vectors: float


def quality(shelves: Shelves, judged: Judged, embedder: Embedder, cache: Path | None) -> Quality:
    """Index a set as a user's documents, ask all its questions, and return the quality of the results."""
    user = f"{judged.name} {embedder.id}"
    shelves.add_user(user)
    documents = texts_of(judged, embedder)
    vectors = iter(embedded(embedder, passage_texts(documents), "passage", cache))
    with shelves.user(user) as scope:
        for name, language, passages in documents:
            shelves.keep(scope, name, language, [(one, next(vectors)) for one in passages])
    shelves.run("analyze")
    asked = embedded(embedder, [question for _, question in judged.questions], "query", cache)
    gains: list[tuple[float, float, float]] = []
    with shelves.user(user) as scope:
        names = {row.id: row.filename for row in scope.session.execute(_NAMES, {"user_id": user})}
        for (number, question), values in zip(judged.questions, asked, strict=True):
            vector, grades = QueryVector(MODEL_ID, values.tolist(), embedder.unrelated), judged.grades[number]
            search = Search(scope)
            found = search.find(question, vector, document_ids=None, limit=PASSAGES).passages
            candidates, _ = search.candidates(question, vector, document_ids=None, depth=PASSAGES)
            gains.append(
                (
                    ndcg(_documents([one.id for one in found], names), grades),
                    ndcg(_documents(_by(candidates, candidates.wording), names), grades),
                    ndcg(_documents(_by(candidates, np.nan_to_num(candidates.similarity)), names), grades),
                )
            )
    hybrid, words, by_vectors = (statistics.fmean(column) for column in zip(*gains, strict=True))
    return Quality(judged.name, len(documents), len(names), len(gains), hybrid, words, by_vectors)


def _by(candidates: Candidates, scores: NDArray[np.float64]) -> list[int]:
    """Return the passages that one half proposes, best first."""
    best = np.lexsort((candidates.ids, -scores))
    found: list[int] = candidates.ids[best[scores[best] > 0]].tolist()
    return found


def _documents(passages: Sequence[int], names: dict[int, str]) -> list[str]:
    """Return the documents in the order of their best passages."""
    return list(dict.fromkeys(names[passage] for passage in passages))


_NAMES = text(
    "select c.id, d.filename from chunks c join documents d on d.user_id = c.user_id and d.id = c.document_id "
    "where c.user_id = :user_id"
)
