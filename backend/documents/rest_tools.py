"""The document tools that only REST uses."""

from backend.documents.repository import DocumentRepository
from backend.documents.schemas import (
    DocumentDeleted,
    DocumentId,
    DocumentSeen,
    OriginalSeen,
    PageNumber,
    PageSeen,
    PassageId,
    PassageOnPage,
    PassageSpan,
)
from backend.errors import NotFound
from backend.operations.tool import tool
from backend.postgres.database import Scope


class OriginalNotKept(NotFound):
    """The document's original file is not kept, only its text."""

    code = "original_not_kept"

    def __init__(self) -> None:
        super().__init__(
            "The original file of this document was not kept. Its text is still here.", hint="GET its pages."
        )


@tool(title="Show a document", published=False)
def show_document(document_id: DocumentId, scope: Scope) -> DocumentSeen:
    """Show a document without its text."""
    return DocumentSeen.of(DocumentRepository(scope).get(document_id), scope.zone)


@tool(title="Delete a document", writes=True, destructive=True, published=False)
def delete_document(document_id: DocumentId, scope: Scope, purge: bool = False) -> DocumentDeleted:
    """Hide a document everywhere. With `purge`, also mark it to be removed for good, even if it is already hidden."""
    document = DocumentRepository(scope).delete(document_id, purge=purge)
    return DocumentDeleted(document_id=document.id, filename=document.filename)


@tool(title="Show a page", published=False, returns_documents=True)
def show_page(document_id: DocumentId, page_number: PageNumber, scope: Scope) -> PageSeen:
    """Show a page's text, and where its headings and passages are."""
    repository = DocumentRepository(scope)
    document = repository.get(document_id)
    page = repository.page(document, page_number)
    return PageSeen.of(document, page, [PassageSpan.of(chunk) for chunk in repository.passages(page)])


@tool(title="Show a passage", published=False, returns_documents=True)
def show_passage(document_id: DocumentId, passage_id: PassageId, scope: Scope) -> PassageOnPage:
    """Show the page that contains a passage, and the passage's place on the page."""
    repository = DocumentRepository(scope)
    document = repository.get(document_id)
    chunk = repository.passage(document_id, passage_id)
    page = repository.page(document, chunk.page)
    seen = PageSeen.of(document, page, [PassageSpan.of(each) for each in repository.passages(page)])
    return PassageOnPage(passage_id=chunk.id, start=chunk.start, end=chunk.end, **seen.model_dump())


@tool(title="Download a document", published=False)
def download_document(document_id: DocumentId, scope: Scope) -> OriginalSeen:
    """Return the original file's name, type and size for a download. The bytes are read slice by slice afterwards."""
    document = DocumentRepository(scope).get(document_id)
    if not document.is_original_kept:
        raise OriginalNotKept
    return OriginalSeen(
        document_id=document.id,
        filename=document.filename,
        content_type=document.content_type,
        file_size=document.file_size,
    )
