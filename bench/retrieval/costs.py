"""The cost of a search for a user with 10,000 passages: time compared with plain SQL, and CPU of both processes."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from backend.documents.embedding.embedder import Embedder, QueryVector
from backend.documents.search.bm25 import K1, B
from backend.documents.search.hybrid import CANDIDATES, Search
from backend.documents.search.index import literal
from bench.retrieval.sets import DEPTH, Judged, recall
from bench.retrieval.shelves import MODEL_ID, Shelves, Text, Vectors, embedded, passage_texts, texts_of

USER = "ten thousand"
PASSAGES = 10_000
PASSAGES_OF_A_DOCUMENT = 40
PASSES = 10
"""How often the questions are asked. The median pass is reported, because a machine's speed may vary by half from
minute to minute."""
NOISE = 0.02
"""Standard deviation in each dimension, so that a passage and its copy are as close as two versions of one text."""


@dataclass(frozen=True)
class Cpu:
    """Mean milliseconds of CPU for one question."""

    embedding: float
    process: float
    database: float

    @property
    def total(self) -> float:
        """The CPU of embedding, process and database together."""
        return self.embedding + self.process + self.database


@dataclass
class Costs:
    """The costs of many questions."""

    questions: int
    search: list[float] = field(default_factory=list)
    """Milliseconds of a search in its transaction, without embedding."""
    halves: list[float] = field(default_factory=list)
    """Milliseconds of both halves in plain SQL."""
    passes: list[Cpu] = field(default_factory=list)
    recall: float = 0.0
    """Recall@10 of the nearest passages, compared with brute force in this process."""

    @property
    def ratio(self) -> float:
        """The time of a search divided by that of plain SQL, using medians."""
        return statistics.median(self.search) / statistics.median(self.halves)

    @property
    def cpu(self) -> Cpu:
        """The CPU of the median pass; for an even number of passes, the more expensive of the middle two."""
        return sorted(self.passes, key=lambda one: one.total)[len(self.passes) // 2]


def costs(shelves: Shelves, sets: Sequence[Judged], embedder: Embedder, cache: Path | None, *, most: int) -> Costs:
    """Give a user 10,000 passages from the sets, ask questions of each set, and return the costs."""
    chance = np.random.default_rng(1)
    vectors = _fill(shelves, sets, embedder, cache, chance)
    questions = [question for judged in sets for question in judged.some(most)]
    found = Costs(len(questions))
    asked = [embedder.embed([question], "query")[0] for question in questions]
    with shelves.user(USER) as scope:
        nearest = [
            _nearest(Search(scope), question, values, embedder)
            for question, values in zip(questions, asked, strict=True)
        ]
    exact = [_brute_force(vectors, values) for values in asked]
    found.recall = statistics.fmean(recall(one, other) for one, other in zip(nearest, exact, strict=True))
    backend = _backend(shelves)
    found.passes = [_pass(shelves, questions, embedder, found, backend) for _ in range(PASSES)]
    _time_halves(shelves, questions, asked, found)
    return found


def _fill(
    shelves: Shelves, sets: Sequence[Judged], embedder: Embedder, cache: Path | None, chance: np.random.Generator
) -> Vectors:
    """Index sequences of the sets' passages, one document each; return the vectors in order of passage id."""
    shelves.add_user(USER)
    shelf: list[tuple[str, Text, Any]] = []
    for judged in sets:
        documents = texts_of(judged, embedder)
        vectors = embedded(embedder, passage_texts(documents), "passage", cache)
        texts = [(language, one) for _, language, passages in documents for one in passages]
        shelf += [(language, one, vector) for (language, one), vector in zip(texts, vectors, strict=True)]
    kept: list[Vectors] = []
    while len(kept) < PASSAGES:
        start = int(chance.integers(len(shelf) - PASSAGES_OF_A_DOCUMENT))
        part = shelf[start : start + PASSAGES_OF_A_DOCUMENT]
        near = [_unit(vector + chance.normal(0, NOISE, len(vector))) for _, _, vector in part]
        with shelves.user(USER) as scope:
            passages = [(one, vector.tolist()) for (_, one, _), vector in zip(part, near, strict=True)]
            shelves.keep(scope, "book", part[0][0], passages)
        kept += near
    shelves.run("vacuum analyze")
    return np.array(kept, dtype=np.float16).astype(np.float32)


def _pass(shelves: Shelves, questions: Sequence[str], embedder: Embedder, found: Costs, backend: int) -> Cpu:
    """Ask every question once, and return the CPU it took."""
    many = len(questions)
    with _cpu(os.getpid()) as spent:
        asked = [embedder.embed([question], "query")[0] for question in questions]
        embedding = spent() / many
    with _cpu(os.getpid()) as process, _cpu(backend) as database:
        for question, values in zip(questions, asked, strict=True):
            began = time.perf_counter()
            with shelves.user(USER) as scope:
                vector = QueryVector(MODEL_ID, values, embedder.unrelated)
                Search(scope).find(question, vector, document_ids=None, limit=DEPTH)
            found.search.append((time.perf_counter() - began) * 1_000)
        return Cpu(embedding, process() / many, database() / many)


def _time_halves(shelves: Shelves, questions: Sequence[str], asked: Sequence[list[float]], found: Costs) -> None:
    for statement in _PLAIN:
        shelves.run(statement)
    with shelves.connected() as connection, connection.cursor() as cursor:
        for question, values in zip(questions, asked, strict=True):
            began = time.perf_counter()
            cursor.execute("set local role docutalk_app")
            cursor.execute("select set_config('app.user_id', %s, true)", (USER,))
            common = {"user_id": USER, "query": question, "vector": literal(values)}
            cursor.execute(_VECTORS, common | {"model_id": MODEL_ID, "most": CANDIDATES})
            cursor.fetchall()
            cursor.execute(_WORDS, common | {"k1": K1, "b": B, "most": CANDIDATES})
            cursor.fetchall()
            connection.commit()
            found.halves.append((time.perf_counter() - began) * 1_000)


def _nearest(search: Search, question: str, values: list[float], embedder: Embedder) -> list[int]:
    """Return the nearest passages, as search ranks them."""
    candidates, _ = search.candidates(
        question, QueryVector(MODEL_ID, values, embedder.unrelated), document_ids=None, depth=DEPTH
    )
    found: list[int] = candidates.ids[np.argsort(-candidates.similarity, kind="stable")[:DEPTH]].tolist()
    return found


def _brute_force(vectors: Vectors, values: Sequence[float]) -> list[int]:
    question = np.array(values, dtype=np.float16).astype(np.float32)
    return [int(place) + 1 for place in np.argsort(-(vectors @ question), kind="stable")[:DEPTH]]


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def _backend(shelves: Shelves) -> int:
    """Return the process id of the server process behind the pool's only connection."""
    with shelves.user(USER) as scope:
        return int(scope.session.execute(text("select pg_backend_pid()")).scalar_one())


@contextmanager
def _cpu(pid: int) -> Iterator[Callable[[], float]]:
    """Yield a function that returns the milliseconds of CPU a process has used since the block began."""
    start = cpu_seconds(pid)
    yield lambda: (cpu_seconds(pid) - start) * 1_000


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds a process has used, with a resolution of 0.01 s, or better if the kernel provides it."""
    if pid == os.getpid():
        return time.process_time()
    told = Path(f"/proc/{pid}/schedstat")
    if told.exists():
        return int(told.read_text().split()[0]) / 1e9
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# What one would write by hand, without languages, hidden documents or bounds: a table of words with one row for each
# word of a passage.
_PLAIN = (
    """
    create table plain_words as
    select c.user_id, w.lexeme, c.id, cardinality(w.positions) as count,
           sum(cardinality(w.positions)) over (partition by c.user_id, c.id) as length
    from chunks c, unnest(to_tsvector('english', c.headings || E'\\n' || c.content)) as w
    """,
    "create index on plain_words (user_id, lexeme)",
    "grant select on plain_words to docutalk_app",
    "vacuum analyze plain_words",
)
_VECTORS = """
select chunk_id, (embedding <#> %(vector)s::halfvec) + 0 as distance from chunk_vectors
where user_id = %(user_id)s and model_id = %(model_id)s order by distance limit %(most)s
"""
_WORDS = """
with size as (
    select sum(chunks) as passages, (sum(words) / sum(chunks))::float8 as average from documents
    where user_id = %(user_id)s
), hits as (
    select lexeme, id, count, length from plain_words
    where user_id = %(user_id)s and lexeme = any(tsvector_to_array(to_tsvector('english', %(query)s)))
), rarity as (
    select lexeme, ln(1 + (passages - count(*) + 0.5)::float8 / (count(*) + 0.5)::float8) as weight
    from hits, size group by lexeme, passages
)
select id, sum(weight * count * (%(k1)s::float8 + 1)
    / (count + %(k1)s::float8 * (1 - %(b)s::float8 + %(b)s::float8 * length / average))) as bm25
from hits join rarity using (lexeme), size group by id order by bm25 desc limit %(most)s
"""
