"""Documents as models, clients and people see them; REST and the tools validate with the same types."""

from datetime import datetime
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, StringConstraints

from backend.documents.models import Chunk, Document, DocumentPage
from backend.plain_text import NUMBER, ONE_LINE
from backend.postgres.repository import LARGEST_ID

DocumentId = Annotated[
    int, Field(ge=1, le=LARGEST_ID, description="The document's number, as list_documents shows it."), NUMBER
]
PageNumber = Annotated[int, Field(ge=1, le=LARGEST_ID, description="The page, from 1."), NUMBER]
PassageId = Annotated[int, Field(ge=1, le=LARGEST_ID, description="The passage's id, as a search shows it."), NUMBER]
DocumentQuery = Annotated[
    str, Field(max_length=200, description="Words that the file name or the title must contain."), ONE_LINE
]
DocumentStatus = Literal["pending", "processing", "ready", "failed"]
StatusWanted = Annotated[
    Literal["all", "pending", "processing", "ready", "failed"],
    Field(description="Which documents, all by default; only ready ones can be searched."),
]
Limit = Annotated[int, Field(ge=1, le=100, description="How many to return, at most 100; 50 by default."), NUMBER]
Cursor = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,10}$"),
    Field(description="next_cursor of the page before, to go on from there."),
]


class Progress(BaseModel):
    """How far a document's ingestion has come."""

    stage: Literal["waiting", "reading", "indexing", "done", "failed"]
    done: int = Field(description="Pages that this stage is done with.")
    total: int | None = Field(description="Pages in all, once they are known.")

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the progress of a document's ingestion."""
        total = document.pages
        match document.status:
            case "pending":
                return cls(stage="waiting", done=0, total=total)
            case "processing" if document.is_read:
                return cls(stage="indexing", done=document.pages_cut, total=total)
            case "processing":
                return cls(stage="reading", done=document.pages_read, total=total)
            case "ready":
                return cls(stage="done", done=document.pages_read, total=total)
        return cls(stage="failed", done=document.pages_read, total=total)


class DocumentSeen(BaseModel):
    """A document without its text."""

    id: int
    filename: str
    original_filename: str
    content_type: str
    file_size: int = Field(description="In bytes.")
    status: DocumentStatus
    reason: str | None = Field(description="Why it failed.")
    title: str
    language: str
    pages: int | None
    has_pages: bool = Field(description="Whether its pages have numbers for people, or are just parts.")
    chunks: int = Field(description="Passages that can be found.")
    progress: Progress
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, document: Document, zone: ZoneInfo) -> Self:
        """Return a document with its times in a time zone."""
        return cls(
            progress=Progress.of(document),
            created_at=document.created_at.astimezone(zone),
            updated_at=document.updated_at.astimezone(zone),
            **document.model_dump(include=_AS_THEY_ARE),
        )


_AS_THEY_ARE = DocumentSeen.model_fields.keys() - {"progress", "created_at", "updated_at"}


class DocumentsListed(BaseModel):
    """One page of documents, newest first."""

    documents: list[DocumentSeen]
    next_cursor: str | None


class DocumentDeleted(BaseModel):
    """A document that was deleted."""

    document_id: int
    status: Literal["deleted"] = "deleted"
    filename: str


class HeadingSeen(BaseModel):
    """A heading, with its place in the page's text."""

    start: int
    level: int
    title: str


class PassageSpan(BaseModel):
    """A passage's span in the page's text, in characters."""

    id: int
    start: int
    end: int

    @classmethod
    def of(cls, chunk: Chunk) -> Self:
        """Return a passage's span."""
        return cls(id=chunk.id, start=chunk.start, end=chunk.end)


class PageSeen(BaseModel):
    """A page's text, with the places of its headings and passages."""

    document_id: int
    filename: str
    page_number: int
    pages: int = Field(description="Pages in all.")
    text: str
    headings: list[HeadingSeen]
    is_scanned: bool = Field(description="Whether the page is a picture and has no text.")
    passages: list[PassageSpan]

    @classmethod
    def of(cls, document: Document, page: DocumentPage, passages: list[PassageSpan]) -> Self:
        """Return a page of a document."""
        return cls(
            document_id=document.id,
            filename=document.filename,
            page_number=page.number,
            pages=max(document.pages or 0, document.pages_read, page.number),
            text=page.content,
            headings=[HeadingSeen.model_validate(heading) for heading in page.headings],
            is_scanned=page.is_scanned,
            passages=passages,
        )

    def document_ids_read(self) -> list[int]:
        """Return the id of the document that the text is from."""
        return [self.document_id]


class PassageOnPage(PageSeen):
    """The page that a passage is on, and the passage's own span."""

    passage_id: int
    start: int
    end: int


class OriginalSeen(BaseModel):
    """What a download needs to know about an original file."""

    document_id: int
    filename: str
    content_type: str
    file_size: int
