"""Keeping a file that was uploaded: the tool, and the way its bytes take beside its arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pydantic import Field

from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository, Kept, NewFile
from backend.documents.schemas import DocumentSeen
from backend.documents.upload.form import ReceivedFile
from backend.operations.tool import tool
from backend.postgres.database import Scope


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes of an upload, and by which rules they are kept."""

    file: ReceivedFile
    rules: KeepingRules


_uploading: ContextVar[Original] = ContextVar("uploading")


@contextmanager
def uploading(original: Original) -> Iterator[None]:
    """Let `keep_upload` have the bytes of an upload inside the block.

    They are no argument, for the ledger keeps those. And they are not written by `Call.record`, which runs when the
    ledger's number is taken: everything else that the user does would wait for the last of up to 25 slices.
    """
    token = _uploading.set(original)
    try:
        yield
    finally:
        _uploading.reset(token)


class DocumentKept(DocumentSeen):
    """The document that an upload became."""

    kept: Kept = Field(description="Whether it is new, is tried again, or was there already with the same bytes.")


@tool(title="Keep an upload", writes=True, published=False)
def keep_upload(
    filename: str,
    original_filename: str,
    content_type: str,
    file_size: int,
    sha256: str,
    scope: Scope,
    sent_together: str | None = None,  # noqa: ARG001  (It makes a request with other files another request.)
) -> DocumentKept:
    """Keep a file that was uploaded: what REST's POST does."""
    file = NewFile(
        filename=filename,
        original_filename=original_filename,
        content_type=content_type,
        file_size=file_size,
        sha256=sha256,
    )
    original = _uploading.get()
    document, kept = DocumentRepository(scope).keep(file, original.file.slices(), original.rules)
    return DocumentKept(kept=kept, **DocumentSeen.of(document, scope.zone).model_dump())
