"""Indexed documents without files, with passages and vectors given by the tests."""

import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from backend.documents.embedding.embedder import QueryVector
from backend.documents.embedding.models.known import UNRELATED
from backend.documents.language import UNSURE
from backend.documents.models import Document
from backend.documents.search.hybrid import Found, Search
from backend.documents.search.index import Index, IndexedPassage
from backend.identity.caller import Caller
from backend.postgres.database import Database, Scope

ENTRY = struct.Struct(">ihh")
"""A passage in a word's postings: its id, how often it has the word, and its number of words."""

DIM = 384
MODEL_ID = 1


def axis(number: int) -> list[float]:
    """Return a unit vector that is orthogonal to all others this function returns."""
    return [float(place == number) for place in range(DIM)]


def somewhere(chance: random.Random) -> list[float]:
    """Return a random vector of unit length."""
    values = [chance.gauss(0, 1) for _ in range(DIM)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


@contextmanager
def user(database: Database, caller: Caller) -> Iterator[Scope]:
    """Open a transaction as a caller."""
    with database.scope(caller.user_id, caller.zone) as scope:
        yield scope


def indexed(
    scope: Scope,
    passages: Sequence[str],
    *,
    vectors: Sequence[list[float]] | None = None,
    headings: str = "",
    language: str = "english",
    model_id: int = MODEL_ID,
    **about: Any,
) -> int:
    """Index a document with these passages and return its number; it is ready unless `about` changes that.

    Without `vectors`, all passages are alike and unrelated to the questions of `sought`.
    """
    numbers = {"user_id": scope.user_id}
    document_id = int(
        scope.session.execute(
            text("select coalesce(max(id), 0) + 1 from documents where user_id = :user_id"), numbers
        ).scalar_one()
    )
    given: dict[str, Any] = {
        "filename": f"{document_id}.txt",
        "original_filename": f"{document_id}.txt",
        "content_type": "text/plain",
        "file_size": 1,
        "sha256": f"{document_id:064}",
        "status": "ready",
        "language": language,
    }
    given |= about
    if given["status"] not in ("pending", "processing"):
        # Without it a service on the same database would ingest the document, and fail because it has no bytes.
        given.setdefault("ended_at", scope.now)
    document = Document(user_id=scope.user_id, id=document_id, **given)
    scope.session.add(document)
    scope.session.flush()
    vectors = vectors or [axis(DIM - 1)] * len(passages)
    added = Index(scope).add(
        document_id, language=language, model_id=model_id, passages=as_passages(passages, vectors, headings)
    )
    assert added.chunks == len(passages)
    document.chunks, document.words = added.chunks, added.words
    scope.session.flush()
    return document_id


def as_passages(passages: Sequence[str], vectors: Sequence[list[float]], headings: str = "") -> list[IndexedPassage]:
    """Return texts as consecutive passages on page 3."""
    starts = [sum(len(earlier) + 1 for earlier in passages[:number]) for number in range(len(passages))]
    return [
        IndexedPassage(3, number, start, start + len(content), content, headings, vector)
        for number, (start, content, vector) in enumerate(zip(starts, passages, vectors, strict=True))
    ]


def sought(
    scope: Scope,
    query: str,
    vector: list[float] | None = None,
    *,
    document_ids: list[int] | None = None,
    limit: int = 10,
    model_id: int = MODEL_ID,
    unrelated: float | Mapping[str, float] = UNRELATED,
) -> Found:
    """Search; without a vector the question is near no passage. `unrelated` may differ by language."""
    figures = unrelated if isinstance(unrelated, Mapping) else {UNSURE: unrelated}
    return Search(scope).find(
        query, QueryVector(model_id, vector or axis(0), figures), document_ids=document_ids, limit=limit
    )


def texts(found: Found) -> list[str]:
    """Return the texts of the found passages, best first."""
    return [passage.text for passage in found.passages]
