"""Users with documents, in the benchmark's own database."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg2
from numpy.typing import NDArray
from sqlalchemy import make_url, text

from backend.documents.embedding.embedder import Embedder, prefixed
from backend.documents.ingestion.chunking import cut
from backend.documents.ingestion.index_pages import BATCH_PASSAGES
from backend.documents.language import language_of
from backend.documents.reading.reader import Page
from backend.documents.search.index import Index, IndexedPassage, literal
from backend.postgres.database import Database, Scope
from backend.postgres.embedded import EmbeddedPostgres
from backend.postgres.schema import migrate
from bench.retrieval.sets import Judged

ZONE = ZoneInfo("UTC")
LANGUAGE_CHARACTERS = 3_000
MODEL_ID = 1
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Text:
    """A passage that has no vector yet."""

    content: str
    headings: str
    start: int = 0


class Shelves:
    """The database; all its users belong to the benchmark."""

    def __init__(self, url: str) -> None:
        """Open the migrated database at the superuser's URL."""
        self.url = url
        self.database = Database()
        self.database.open(url)

    @contextmanager
    def user(self, name: str) -> Iterator[Scope]:
        """Open a transaction as a user."""
        with self.database.scope(name, ZONE) as scope:
            yield scope

    def add_user(self, name: str) -> None:
        """Create a user without documents."""
        self.run("insert into users (user_id, kind, name) values (%s, 'guest', %s)", name, name)

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, outside a transaction."""
        with self.connected() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect as the superuser, without a pool."""
        url = make_url(self.url)
        connection = psycopg2.connect(
            host=url.query["host"], port=url.query["port"], user=url.username, dbname=url.database
        )
        try:
            yield connection
        finally:
            connection.close()

    def keep(self, scope: Scope, name: str, language: str, passages: Sequence[tuple[Text, Any]]) -> int:
        """Index a document with these passages and vectors, and return its number."""
        values = {"user_id": scope.user_id, "name": name, "language": language}
        document_id = int(scope.session.execute(_DOCUMENT, values).scalar_one())
        indexed = [
            IndexedPassage(1, place, one.start, one.start + len(one.content), one.content, one.headings, list(vector))
            for place, (one, vector) in enumerate(passages)
        ]
        for first in range(0, len(indexed), BATCH_PASSAGES):
            batch = indexed[first : first + BATCH_PASSAGES]
            added = Index(scope).add(document_id, language=language, model_id=MODEL_ID, passages=batch)
            counts = {"user_id": scope.user_id, "id": document_id, "chunks": added.chunks, "words": added.words}
            scope.session.execute(_COUNTED, counts)
        return document_id

    def copy_vectors(self, user: str, vectors: Vectors, *, passages_of_a_document: int = 40) -> None:
        """Create a user with documents that have only vectors."""
        self.add_user(user)
        self.run(_EMPTY_DOCUMENTS, user, passages_of_a_document, -(-len(vectors) // passages_of_a_document))
        self.run(_EMPTY_CHUNKS, user, passages_of_a_document, len(vectors))
        with tempfile.TemporaryFile("w+") as file, self.connected() as connection, connection.cursor() as cursor:
            for place, vector in enumerate(vectors):
                document = place // passages_of_a_document + 1
                file.write(f"{user}\t{MODEL_ID}\t{place + 1}\t{document}\t{literal(vector)}\n")
            file.seek(0)
            cursor.copy_expert(
                "copy chunk_vectors (user_id, model_id, chunk_id, document_id, embedding) from stdin", file
            )
            connection.commit()


@contextmanager
def shelves() -> Iterator[Shelves]:
    """Start a database for the benchmark, yield it, and remove it afterwards."""
    # The database's socket needs a short path, which the database's own user must be able to reach.
    with tempfile.TemporaryDirectory(prefix="retrieval-") as directory:
        Path(directory).chmod(0o755)
        postgres = EmbeddedPostgres.start(Path(directory, "postgres"))
        try:
            migrate(postgres.url, service_url=postgres.url)
            opened = Shelves(postgres.url)
            yield opened
            opened.database.close()
        finally:
            postgres.stop()


def texts_of(judged: Judged, embedder: Embedder) -> list[tuple[str, str, list[Text]]]:
    """Return each document's id, language and passages, cut as ingestion would cut them."""
    found = []
    for number, title, content in judged.documents:
        passages = cut(Page(1, content, (), False), title=title or f"{number}.txt", path=[], embedder=embedder)
        language = language_of(content[:LANGUAGE_CHARACTERS])
        found.append((number, language, [Text(one.text, one.headings, one.start) for one in passages]))
    return found


def embedded(embedder: Embedder, texts: Sequence[str], kind: Any, cache: Path | None) -> Vectors:
    """Return the vectors of texts, from a file in `cache` if it exists."""
    path = cache / f"{embedder.id}-{kind}-{_mark(texts)}.npy" if cache else None
    if path and path.exists():
        kept: Vectors = np.load(path)
        return kept
    vectors = np.array(embedder.embed(texts, kind), dtype=np.float32)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors)
    return vectors


def passage_texts(documents: Sequence[tuple[str, str, list[Text]]]) -> list[str]:
    """Return the text that is embedded for each passage, in order."""
    return [prefixed(one.headings, one.content) for _, _, passages in documents for one in passages]


def _mark(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


_DOCUMENT = text(
    """
    insert into documents
        (user_id, id, filename, original_filename, content_type, file_size, sha256, status, language, ended_at)
    select :user_id, n, :name, :name, 'text/plain', 0, n, 'ready', :language, now()
    from (select coalesce(max(id), 0) + 1 as n from documents where user_id = :user_id) as next
    returning id
    """
)
_COUNTED = text(
    "update documents set chunks = chunks + :chunks, words = words + :words where user_id = :user_id and id = :id"
)
_EMPTY_DOCUMENTS = """
insert into documents
    (user_id, id, filename, original_filename, content_type, file_size, sha256, status, language, chunks, words)
select %s, n, n, n, 'text/plain', 0, n, 'ready', 'simple', %s, 1 from generate_series(1, %s) as n
"""
_EMPTY_CHUNKS = """
insert into chunks (user_id, id, document_id, content, page, chunk_index, start, "end")
select u.name, n, (n - 1) / u.many + 1, '', 1, n, 0, 0
from (values (%s, %s)) as u (name, many), generate_series(1, %s) as n
"""
_COPY = "copy chunk_vectors (user_id, model_id, chunk_id, document_id, embedding) from stdin"
