"""Stores documents as ingestion leaves them: each paragraph is a passage, and its vector depends only on its words."""

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.documents.embedding.embedder import QueryVector
from backend.documents.embedding.models.known import UNRELATED
from backend.documents.language import UNSURE
from backend.documents.models import Document, DocumentPage
from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository, NewFile
from backend.documents.search.index import Index, IndexedPassage
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.postgres.database import Database, Scope
from backend.workspace.tools import preparations

ADDRESS = "https://docutalk.example"
DIM = 384
MODEL_ID = 1


def meaning(text: str) -> list[float]:
    """Return a vector of length 1 computed from a text's words, so that texts with similar words are near."""
    values = [0.0] * DIM
    for word in re.findall(r"\w+", text.lower()) or [text]:
        values[zlib.crc32(word.encode()) % DIM] += 1.0
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def embed(arguments: dict[str, Any]) -> QueryVector:
    """Embed the `query` in a tool's arguments."""
    return QueryVector(MODEL_ID, meaning(arguments["query"]), {UNSURE: UNRELATED})


def door(database: Database) -> Operations:
    """Return the operations, with the inputs that tools for documents need."""
    return Operations(database, preparations=preparations(embed, address=ADDRESS, rules=KeepingRules()))


@dataclass(frozen=True)
class Filed:
    """A document and its passages."""

    id: int
    passages: dict[str, int] = field(default_factory=dict)
    """Ids of the passages by text."""


def file(database: Database, caller: Caller, *pages: str, **about: Any) -> Filed:
    """Store a document with these pages for a caller; keyword arguments change its row."""
    with database.scope(caller.user_id, caller.zone) as scope:
        return filed(scope, *pages, **about)


def filed(scope: Scope, *pages: str, filename: str = "handbook.pdf", **about: Any) -> Filed:
    """Store a document with these pages; it is ready unless keyword arguments change that."""
    content = "\f".join([filename, *pages]).encode(errors="replace")
    name = NewFile(
        filename=filename,
        original_filename=filename,
        content_type="application/pdf",
        file_size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    document, _ = DocumentRepository(scope).keep(name, [content], KeepingRules())
    document.pages = document.pages_read = document.pages_cut = len(pages)
    # Even a document marked as in progress gets an end, so that no service running beside the tests ingests it.
    document.status, document.is_read, document.ended_at = "ready", True, scope.now
    document.has_pages = True
    for key, value in about.items():
        setattr(document, key, value)
    passages = _indexed(scope, document, pages) if pages else {}
    return Filed(document.id, passages)


def _indexed(scope: Scope, document: Document, pages: Sequence[str]) -> dict[str, int]:
    passages: list[IndexedPassage] = []
    for number, text in enumerate(pages, 1):
        page = DocumentPage(user_id=scope.user_id, document_id=document.id, number=number, content=text)
        scope.session.add(page)
        for found in re.finditer(r"\S(?:.|\n(?!\n))*", text):
            passages.append(
                IndexedPassage(
                    page=number,
                    page_number=number if document.has_pages else None,
                    chunk_index=len(passages),
                    start=found.start(),
                    end=found.end(),
                    content=found[0],
                    headings="",
                    vector=meaning(found[0]),
                )
            )
    scope.session.flush()
    added = Index(scope).add(document.id, language="english", model_id=MODEL_ID, passages=passages)
    document.chunks, document.words, document.language = added.chunks, added.words, "english"
    kept = [
        passage
        for page in DocumentRepository(scope).pages(document.id, first=1, last=len(pages))
        for passage in DocumentRepository(scope).passages(page)
    ]
    return {passage.content: passage.id for passage in kept}
