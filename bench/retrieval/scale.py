"""A user with 80,000 passages next to others with 120,000: how many neighbors the approximate index misses."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.documents.embedding.hnsw import index_ddl, index_name
from backend.documents.search.holdings import Library
from backend.documents.search.index import literal
from backend.documents.search.vectors import nearest
from bench.retrieval.sets import DEPTH, recall
from bench.retrieval.shelves import MODEL_ID, Shelves, Vectors

BUILD_MEMORY = "512MB"


@dataclass
class Scale:
    """Results over many questions of the large user."""

    passages: int
    others: int
    questions: int
    building: float
    """Seconds that building the index took."""
    megabytes: float
    recall: float
    """Recall@10, compared with an exact search."""
    fewest: int
    """The fewest passages that a search returned for any question. Each search requested 100."""
    approximate: float
    """Median milliseconds for finding the nearest 100 passages with the index."""
    exact: float
    """Median milliseconds for finding the nearest 100 passages with an exact search."""
    small_recall: float
    """Recall@10 of a user with so few passages that search is exact, although the index exists."""


def scale(shelves: Shelves, real: Vectors, asked: Vectors, *, passages: int = 80_000, others: int = 120_000) -> Scale:
    """Fill users with vectors similar to real ones, build the index, and compare its results with an exact search."""
    chance = np.random.default_rng(2)
    shelves.copy_vectors("large", _alike(real, passages, chance))
    small = 1_000
    shelves.copy_vectors("small", _alike(real, small, chance))
    for number in range(4):
        shelves.copy_vectors(f"other {number}", _alike(real, (others - small) // 4, chance))
    shelves.run("vacuum analyze")
    began = time.perf_counter()
    with shelves.connected() as connection, connection.cursor() as cursor:
        cursor.execute(f"set local maintenance_work_mem = '{BUILD_MEMORY}'")
        cursor.execute(index_ddl(MODEL_ID, real.shape[1]))
        connection.commit()
    building = time.perf_counter() - began
    [(size,)] = shelves.run("select pg_relation_size(%s::regclass) / 1e6", index_name(MODEL_ID))
    approximate = [_ask(shelves, "large", values, passages) for values in asked]
    exact = [_ask(shelves, "large", values, 1) for values in asked]
    few = [_ask(shelves, "small", values, small) for values in asked]
    all_few = [_ask(shelves, "small", values, 1) for values in asked]
    return Scale(
        passages=passages,
        others=others,
        questions=len(asked),
        building=building,
        megabytes=float(size),
        recall=_recall(approximate, exact),
        fewest=min(len(found) for found, _ in [*approximate, *few]),
        approximate=statistics.median(took for _, took in approximate),
        exact=statistics.median(took for _, took in exact),
        small_recall=_recall(few, all_few),
    )


def _alike(real: Vectors, many: int, chance: np.random.Generator) -> Vectors:
    """Return unit vectors between real ones: each mixes two of them, plus noise of about a third of their length."""
    first, second = (real[chance.integers(len(real), size=many)] for _ in range(2))
    share = chance.uniform(0, 0.7, (many, 1))
    noise = chance.normal(0, 1 / 3 / real.shape[1] ** 0.5, (many, real.shape[1]))
    mixed = (1 - share) * first + share * second + noise
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


def _ask(shelves: Shelves, user: str, values: Vectors, sought: int) -> tuple[list[int], float]:
    """Return the nearest 100 and the milliseconds; `sought` is the number of passages search assumes the user has."""
    asked = {"user_id": user, "model_id": MODEL_ID, "vector": literal(values.tolist()), "document_ids": None}
    library = Library(passages={"simple": sought}, words=sought, sought=sought)
    with shelves.user(user) as scope:
        began = time.perf_counter()
        found = nearest(scope.session, library, asked, most=100)
        took = (time.perf_counter() - began) * 1_000
    return sorted(found, key=lambda chunk_id: -found[chunk_id]), took


def _recall(found: Sequence[tuple[list[int], float]], exact: Sequence[tuple[list[int], float]]) -> float:
    return statistics.fmean(
        recall(one[:DEPTH], other[:DEPTH]) for (one, _), (other, _) in zip(found, exact, strict=True)
    )
