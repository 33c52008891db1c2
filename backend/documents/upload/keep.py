"""The tool that keeps an uploaded file, with its input and result."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field

from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository, Kept, NewFile
from backend.documents.schemas import DocumentSeen
from backend.documents.upload.form import ReceivedFile
from backend.operations.tool import PREPARED, tool
from backend.postgres.database import Scope


@dataclass(frozen=True, slots=True)
class Original:
    """An upload's bytes, and the rules for keeping them.

    It is a prepared argument, because the ledger stores ordinary arguments. `Call.record` does not write the bytes,
    because it runs while the ledger's number is locked. All other calls by the user would have to wait until all
    slices, up to 25, are written.
    """

    file: ReceivedFile
    rules: KeepingRules


class DocumentKept(DocumentSeen):
    """The document that an upload became."""

    kept: Kept = Field(description="Whether it is new, is tried again, or was there already with the same bytes.")
    operation_id: int | None = Field(default=None, description="The number of the change, for undoing it.")


class DocumentsKept(BaseModel):
    """The documents from an upload of several files, in the order of the files."""

    documents: list[DocumentKept]


@tool(title="Keep an upload", writes=True, published=False)
def keep_upload(
    filename: str,
    original_filename: str,
    content_type: str,
    file_size: int,
    sha256: str,
    scope: Scope,
    original: Annotated[Original, PREPARED],
    sent_together: str | None = None,  # noqa: ARG001  (It makes a request with other files another request.)
) -> DocumentKept:
    """Keep an uploaded file, for REST's POST."""
    file = NewFile(
        filename=filename,
        original_filename=original_filename,
        content_type=content_type,
        file_size=file_size,
        sha256=sha256,
    )
    document, kept = DocumentRepository(scope).keep(file, original.file.slices(), original.rules)
    return DocumentKept(kept=kept, **DocumentSeen.of(document, scope.zone).model_dump())
