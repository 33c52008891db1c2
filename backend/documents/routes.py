"""The document routes. Each route performs a tool through `Operations`."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from backend.api_router import OPERATION_HEADER, api_router
from backend.documents import rest_tools, tools
from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository
from backend.documents.schemas import (
    Cursor,
    DocumentId,
    DocumentQuery,
    DocumentSeen,
    DocumentsListed,
    Limit,
    OriginalSeen,
    PageNumber,
    PageSeen,
    PassageId,
    PassageOnPage,
    StatusWanted,
)
from backend.documents.upload.accept import Uploads
from backend.documents.upload.form import FIELD, UploadLimits
from backend.documents.upload.keep import DocumentKept, DocumentsKept
from backend.idempotency import IdempotencyHeader
from backend.identity.caller import Caller
from backend.limits.fair_share import FairShare
from backend.operations.perform import Operations
from backend.postgres.database import Database

UPLOAD_PATHS = frozenset({"/api/documents", "/api/documents/upload"})
"""Paths that accept larger bodies than other paths. `received` limits these bodies."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class SearchWanted(BaseModel):
    """What to search for, and in which documents; by default in all documents."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(description="A question or words; of a very long one the beginning counts.")
    limit: tools.PassageLimit | None = None
    document_ids: tools.DocumentIds | None = None


def document_routes(
    operations: Operations,
    database: Database,
    signed_in: Callable[..., Any],
    *,
    limits: UploadLimits,
    rules: KeepingRules,
    on_added: Callable[[], None],
    purge: Callable[[str, int], object],
) -> APIRouter:
    """Return the routes under `/api/documents`, and the search route.

    `on_added` is called when there may be a document to read. `purge` gets a deleted document's user and number, and
    removes the document now if no run uses it.
    """
    router = api_router(signed_in, tags=["documents"])
    uploads = Uploads(operations, database, limits, rules)
    SignedInCaller = Annotated[Caller, Depends(signed_in)]
    DocumentInPath = Annotated[DocumentId, Path()]

    @router.post("/api/documents", status_code=202, summary="Upload one or more documents", openapi_extra=_FORM)
    @router.post("/api/documents/upload", status_code=202, summary="Upload documents", openapi_extra=_FORM)
    async def upload(
        request: Request, caller: SignedInCaller, response: Response, idempotency_key: IdempotencyHeader = None
    ) -> DocumentKept | DocumentsKept:
        kept = await uploads.accept(request, caller, idempotency_key)
        response.headers[OPERATION_HEADER] = ", ".join(str(document.operation_id) for document in kept)
        on_added()
        return kept[0] if len(kept) == 1 else DocumentsKept(documents=kept)

    @router.get("/api/documents", summary="List documents, the newest first")
    async def list_documents(
        caller: SignedInCaller,
        query: Annotated[DocumentQuery | None, Query()] = None,
        status: Annotated[StatusWanted, Query()] = "all",
        limit: Annotated[Limit, Query()] = 50,
        cursor: Annotated[Cursor | None, Query()] = None,
    ) -> DocumentsListed:
        wanted = {"query": query, "status": status, "limit": limit, "cursor": cursor}
        outcome = await operations.perform_fairly(tools.list_documents, wanted, caller)
        return DocumentsListed.model_validate(outcome.result)

    @router.get("/api/documents/{document_id}", summary="Show a document")
    async def show_document(document_id: DocumentInPath, caller: SignedInCaller) -> DocumentSeen:
        outcome = await operations.perform_fairly(rest_tools.show_document, {"document_id": document_id}, caller)
        return DocumentSeen.model_validate(outcome.result)

    @router.delete("/api/documents/{document_id}", status_code=204, summary="Delete a document")
    async def delete_document(
        document_id: DocumentInPath,
        caller: SignedInCaller,
        purge_now: Annotated[
            bool, Query(alias="purge", description="Remove its bytes and text for good, now.")
        ] = False,
    ) -> Response:
        if purge_now:
            caller.require_person()
        arguments = {"document_id": document_id, "purge": purge_now}
        outcome = await operations.perform_fairly(rest_tools.delete_document, arguments, caller)
        if purge_now:
            await operations.share.run(caller.user_id, partial(purge, caller.user_id, document_id), is_patient=True)
        return Response(status_code=204, headers={OPERATION_HEADER: str(outcome.operation_id)})

    @router.get("/api/documents/{document_id}/pages/{page_number}", summary="Show the text of a page")
    async def show_page(
        document_id: DocumentInPath, page_number: Annotated[PageNumber, Path()], caller: SignedInCaller
    ) -> PageSeen:
        arguments = {"document_id": document_id, "page_number": page_number}
        outcome = await operations.perform_fairly(rest_tools.show_page, arguments, caller)
        return PageSeen.model_validate(outcome.result)

    @router.get("/api/documents/{document_id}/passages/{passage_id}", summary="Show a passage on its page")
    async def show_passage(
        document_id: DocumentInPath, passage_id: Annotated[PassageId, Path()], caller: SignedInCaller
    ) -> PassageOnPage:
        arguments = {"document_id": document_id, "passage_id": passage_id}
        outcome = await operations.perform_fairly(rest_tools.show_passage, arguments, caller)
        return PassageOnPage.model_validate(outcome.result)

    @router.get(
        "/api/documents/{document_id}/content", summary="Download the original", response_class=StreamingResponse
    )
    async def download(document_id: DocumentInPath, caller: SignedInCaller) -> StreamingResponse:
        outcome = await operations.perform_fairly(rest_tools.download_document, {"document_id": document_id}, caller)
        original = OriginalSeen.model_validate(outcome.result)
        return StreamingResponse(
            original_slices(database, operations.share, caller, document_id),
            headers=_download_headers(original),
            media_type=original.content_type,
        )

    @router.post("/api/search", summary="Search the documents")
    async def search(wanted: SearchWanted, caller: SignedInCaller) -> tools.PassagesFound:
        outcome = await operations.perform_fairly(tools.search_documents, wanted.model_dump(exclude_none=True), caller)
        return tools.PassagesFound.model_validate(outcome.result)

    return router


async def original_slices(
    database: Database, share: FairShare, caller: Caller, document_id: int
) -> AsyncIterator[bytes]:
    """Yield the original file slice by slice.

    Between slices, the download holds neither a database connection nor a slot, because the client may be slow.
    """

    def read(number: int) -> bytes | None:
        with database.scope(caller.user_id, caller.zone) as scope:
            return DocumentRepository(scope).find_slice(document_id, number)

    number = 0
    while (content := await share.run(caller.user_id, partial(read, number), is_patient=True)) is not None:
        yield content
        number += 1


def _download_headers(original: OriginalSeen) -> dict[str, str]:
    """Return headers that make a browser save the file, and that stop any code in the file from running."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in original.filename)
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(original.filename, safe='')}"
    return {
        "Content-Disposition": named,
        "Content-Length": str(original.file_size),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
