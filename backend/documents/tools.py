"""The tools for documents."""

import hashlib
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from backend.documents.embedding.embedder import QueryVector
from backend.documents.models import Chunk, Document, DocumentPage
from backend.documents.quota import KeepingRules
from backend.documents.repository import SLICE_BYTES, DocumentRepository, NewFile
from backend.documents.schemas import (
    Cursor,
    DocumentId,
    DocumentQuery,
    DocumentSeen,
    DocumentsListed,
    Limit,
    PageNumber,
    StatusWanted,
)
from backend.documents.search.holdings import Reason
from backend.documents.search.hybrid import FoundPassage, Search
from backend.errors import Conflict
from backend.operations.tool import PREPARED, only, tool
from backend.plain_text import NUMBER, ONE_LINE, PLAIN, storable
from backend.postgres.database import Scope
from backend.postgres.repository import LARGEST_ID

MOST_QUESTION = 8_000
"""Characters of a question that are searched for. The rest is cut off without an error."""
MOST_TEXT_BYTES = 100 * 1024
"""Size limit of a text for `add_document`."""
MOST_READ = 20_000
"""Characters of text that `read_document` returns in one call."""


class StillIndexing(Conflict):
    """The document's text is not available yet."""

    code = "still_indexing"

    def __init__(self, document: Document) -> None:
        done = f"{document.pages_cut} of {document.pages} pages are done" if document.pages else "it has just begun"
        super().__init__(
            f"Document {document.id} is still being indexed: {done}. Try again in a moment.",
            retry_after=5,
        )


class NotReadable(Conflict):
    """The document could not be read."""

    code = "document_failed"

    def __init__(self, document: Document) -> None:
        reason = (document.reason or "Its text could not be read.").rstrip(".")
        super().__init__(f"Document {document.id} has no text. {reason}.", hint="Tell the user what to do about it.")


def _question(value: Any) -> Any:
    return storable(value)[:MOST_QUESTION] if isinstance(value, str) else value


def _short_enough(value: str) -> str:
    if len(value.encode()) > MOST_TEXT_BYTES:
        raise ValueError("The text may have at most 100 kB. Split it, or let the user upload it as a file.")
    return value


Question = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(description="What to look for, as a question or in the words that the text may use."),
    BeforeValidator(_question),
]
DocumentIds = Annotated[list[DocumentId], Field(max_length=20, description="Search only in these documents.")]
PassageLimit = Annotated[int, Field(ge=1, le=20, description="How many passages, at most 20; 8 by default."), NUMBER]
PageCount = Annotated[int, Field(ge=1, le=5, description="How many pages, at most 5; 1 by default."), NUMBER]
DocumentTitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Field(description="What the text is called."),
    ONE_LINE,
]
DocumentText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(description="The whole text, as Markdown or plain, at most 100 kB."),
    AfterValidator(_short_enough),
    PLAIN,
]


_IN_LIST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "filename": {"type": "string"},
        "status": {"type": "string"},
        "reason": {"type": ["string", "null"]},
        "title": {"type": "string"},
        "pages": {"type": ["integer", "null"]},
    },
}


class PassageSeen(BaseModel):
    """A found passage. `start` and `end` are its place in the page's text."""

    id: int = Field(description="Cite it as [p<id>].")
    document_id: int
    filename: str
    page_number: int | None
    text: str
    score: float = Field(description="From 0 to 1.")
    start: int
    end: int

    @classmethod
    def of(cls, found: FoundPassage) -> Self:
        """Return a found passage as models and clients see it."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class PassagesFound(BaseModel):
    """The passages, best first."""

    passages: list[PassageSeen]
    reason: Reason | None = Field(description="Why there is none.")

    def document_ids_read(self) -> list[int]:
        """Return the ids of the documents that the text is from."""
        return [passage.document_id for passage in self.passages]


class DocumentsSeen(DocumentsListed):
    """One page of documents as models see it; the published schema lists only the fields they need."""

    documents: list[Annotated[DocumentSeen, WithJsonSchema(_IN_LIST)]]

    def document_ids_read(self) -> list[int]:
        """Return the ids of the documents listed: their names and titles were chosen by the files' authors."""
        return [document.id for document in self.documents]


class DocumentAdded(DocumentSeen):
    """A document made from a text. The published schema lists only the fields that matter after adding a document."""

    model_config = ConfigDict(json_schema_extra=only("id", "filename", "status", "title"))


class PassageRead(BaseModel):
    """A passage within its page."""

    id: int = Field(description="Cite it as [p<id>].")
    text: str
    start: int
    end: int

    @classmethod
    def of(cls, chunk: Chunk) -> Self:
        """Return a passage within its page."""
        return cls(id=chunk.id, text=chunk.content, start=chunk.start, end=chunk.end)


class PageRead(BaseModel):
    """A page, as a list of its passages."""

    page: int
    page_number: int | None = Field(description="As people count; null where the format has no pages.")
    is_scanned: bool = Field(description="It is a picture without text.")
    is_cut: bool = Field(description="It goes on; search_documents finds the rest.")
    passages: list[PassageRead]


class DocumentRead(BaseModel):
    """Consecutive pages of a document."""

    document_id: int
    filename: str
    pages: int
    pages_read: list[PageRead]
    next_page: int | None

    def document_ids_read(self) -> list[int]:
        """Return the id of the document that the text is from."""
        return [self.document_id]


@tool(title="Search documents", returns_documents=True)
def search_documents(
    query: Question,
    scope: Scope,
    vector: Annotated[QueryVector, PREPARED],
    document_ids: DocumentIds | None = None,
    limit: PassageLimit = 8,
) -> PassagesFound:
    """Find passages in the user's documents by meaning and by words.

    Use it for any question that the user's files may answer, before you say that you do not know. Cite [p<id>] after
    each sentence that rests on a passage; if no passage is found, explain `reason` to the user.
    """
    for document_id in document_ids or []:
        DocumentRepository(scope).get(document_id)
    found = Search(scope).find(query, vector, document_ids=document_ids or None, limit=limit)
    return PassagesFound(passages=[PassageSeen.of(passage) for passage in found.passages], reason=found.reason)


@tool(title="List documents", returns_documents=True)
def list_documents(
    scope: Scope,
    status: StatusWanted = "all",
    query: DocumentQuery | None = None,
    limit: Limit = 50,
    cursor: Cursor | None = None,
) -> DocumentsSeen:
    """List the user's documents, newest first, with their numbers.

    Use it to find the number of a document that the user names, or to say which documents there are and how far they
    are indexed.
    """
    before = min(int(cursor), LARGEST_ID) if cursor else None
    found = DocumentRepository(scope).all(query=query, status=status, before=before, limit=limit + 1)
    page = [DocumentSeen.of(document, scope.zone) for document in found[:limit]]
    return DocumentsSeen(documents=page, next_cursor=str(page[-1].id) if len(found) > limit else None)


@tool(title="Read a document", returns_documents=True)
def read_document(document_id: DocumentId, scope: Scope, page: PageNumber = 1, pages: PageCount = 1) -> DocumentRead:
    """Read pages of a document in order, as passages to cite by [p<id>].

    Use it to summarize, or to read further around a passage; search_documents is better at finding an answer. Continue
    with `next_page`.
    """
    repository = DocumentRepository(scope)
    document = readable(repository.get(document_id))
    first = repository.page(document, page)
    following = repository.pages(document_id, first=page + 1, last=page + pages - 1)
    read = list(_within_bounds(document, repository, [first, *following]))
    last = read[-1].page
    return DocumentRead(
        document_id=document.id,
        filename=document.filename,
        pages=document.pages_read,
        pages_read=read,
        next_page=last + 1 if last < document.pages_read else None,
    )


@tool(title="Add a document", writes=True, keyed=True)
def add_document(
    title: DocumentTitle, text: DocumentText, scope: Scope, rules: Annotated[KeepingRules, PREPARED]
) -> DocumentAdded:
    """Store a text among the user's documents, so that it can be searched and cited a moment later.

    Use it when the user wants a longer text or note kept; the same text is stored only once. For something to do use
    add_task.
    """
    content = text.encode()
    name = _file_name(title)
    file = NewFile(
        filename=name,
        original_filename=name,
        content_type="text/markdown",
        file_size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    slices = [content[start : start + SLICE_BYTES] for start in range(0, len(content), SLICE_BYTES)]
    document, kept = DocumentRepository(scope).keep(file, slices, rules)
    if kept == "new":
        document.title = title
    return DocumentAdded.of(document, scope.zone)


DOCUMENT_TOOLS = (search_documents, list_documents, read_document, add_document)


def readable(document: Document) -> Document:
    """Return the document if its text is available.

    Raises:
        StillIndexing: The text is not available yet.
        NotReadable: The document could not be read.
    """
    if document.status == "failed":
        raise NotReadable(document)
    if document.status != "ready":
        raise StillIndexing(document)
    return document


def _within_bounds(document: Document, repository: DocumentRepository, pages: list[DocumentPage]) -> Iterator[PageRead]:
    """Yield the pages that fit into `MOST_READ` characters together.

    The first page is always yielded, cut after a passage if it is too long.
    """
    left = MOST_READ
    for page in pages:
        passages = repository.passages(page)
        size = sum(len(passage.content) for passage in passages)
        if size > left and page is not pages[0]:
            return
        shown = [passage for passage in passages if (left := left - len(passage.content)) >= 0]
        yield PageRead(
            page=page.number,
            page_number=page.number if document.has_pages else None,
            is_scanned=page.is_scanned,
            is_cut=len(shown) < len(passages),
            passages=[PassageRead.of(passage) for passage in shown],
        )


def _file_name(title: str) -> str:
    """Return the title as a file name, without invisible characters or path separators."""
    seen = "".join(
        "-" if letter in '/\\:"<>|?*' else letter for letter in title if unicodedata.category(letter)[0] != "C"
    )
    return f"{' '.join(seen.split())[:196].strip(' .') or 'Note'}.md"
