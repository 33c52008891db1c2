"""Tables of documents: the file, its pages, its passages and its index."""

from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from backend.jobs.leases import LeasedTable
from backend.postgres.repository import Owned, belongs_to_user, timestamp

# One document per user at a time, so that a user who uploads many does not delay other users.
DOCUMENTS = LeasedTable("documents", "document", waiting="pending", notified_as="document", is_numbered=True)


def _count(**options: Any) -> Any:
    return Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")}, **options)


def _of_document() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["user_id", "document_id"], ["documents.user_id", "documents.id"], ondelete="CASCADE")


class Document(Owned, table=True):
    """A user's file or text. The row is also the document's ingestion job."""

    __tablename__ = "documents"

    id: int = Field(primary_key=True, sa_type=Integer)
    filename: str = Field(sa_type=Text, description="The name as it is shown: one line, no path.")
    original_filename: str = Field(sa_type=Text, description="The name as it was sent, storable.")
    content_type: str = Field(sa_type=Text)
    file_size: int = Field(sa_type=BigInteger, description="Bytes.")
    sha256: str = Field(sa_type=String(64), description="Of the original's bytes, in hexadecimal.")
    is_original_kept: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    status: str = Field(default="pending", sa_type=Text, sa_column_kwargs={"server_default": "pending"})
    reason: str | None = Field(default=None, sa_type=Text, description="Why it failed, for a person.")
    title: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    language: str = Field(
        default="simple",
        sa_type=Text,
        sa_column_kwargs={"server_default": "simple"},
        description="The text search configuration that stems it.",
    )
    pages: int | None = Field(default=None, sa_type=Integer, description="Pages in the file, once known.")
    pages_read: int = _count()
    pages_cut: int = _count(description="Pages whose passages are all indexed.")
    chunks: int = _count(description="Passages that are indexed.")
    words: int = _count(description="Words in the index, for the average length of a passage.")
    is_read: bool = Field(
        default=False, sa_column_kwargs={"server_default": false()}, description="Whether all pages are stored."
    )
    has_pages: bool = Field(
        default=False,
        sa_column_kwargs={"server_default": false()},
        description="Whether the numbers of its pages mean something to a person.",
    )
    attempt: int = _count()
    fruitless: int = _count(description="Attempts since the last committed step.")
    lease_owner: str | None = Field(default=None, sa_type=Text)
    lease_until: datetime | None = timestamp()
    cancel_requested: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    created_at: datetime = timestamp(default_now=True)
    updated_at: datetime = timestamp(default_now=True)
    ended_at: datetime | None = timestamp(description="When its ingestion ended.")
    deleted_at: datetime | None = timestamp()
    purge_wanted: bool = Field(
        default=False, sa_column_kwargs={"server_default": false()}, description="Whether it is to go before its time."
    )

    __table_args__ = (
        belongs_to_user(),
        CheckConstraint("status in ('pending', 'processing', 'ready', 'failed')", name="status"),
        Index("ix_documents_user_id_created_at", "user_id", "created_at"),
        Index(
            "uq_documents_sha256",
            "user_id",
            "sha256",
            unique=True,
            postgresql_where=text("deleted_at is null"),
        ),
        Index(
            "ix_documents_leased",
            "user_id",
            "lease_until",
            postgresql_where=text("ended_at is null and lease_until is not null"),
        ),
        Index(
            "ix_documents_lapsing", "lease_until", postgresql_where=text("ended_at is null and lease_until is not null")
        ),
        Index(
            "ix_documents_unended",
            "user_id",
            "created_at",
            postgresql_where=text("ended_at is null and deleted_at is null"),
        ),
        Index("ix_documents_deleted", "deleted_at", postgresql_where=text("deleted_at is not null")),
    )


class DocumentBytes(Owned, table=True):
    """A slice of an original file, at most `SLICE_BYTES` long."""

    __tablename__ = "document_bytes"

    document_id: int = Field(primary_key=True, sa_type=Integer)
    number: int = Field(primary_key=True, sa_type=Integer, description="From 0.")
    content: bytes = Field(sa_type=LargeBinary)

    __table_args__ = (_of_document(),)


class DocumentPage(Owned, table=True):
    """The extracted text of one page, and the headings in that text."""

    __tablename__ = "document_pages"

    document_id: int = Field(primary_key=True, sa_type=Integer)
    number: int = Field(primary_key=True, sa_type=Integer, description="From 1.")
    content: str = Field(sa_type=Text)
    headings: list[dict[str, Any]] = Field(
        default_factory=list,
        sa_type=JSON,
        sa_column_kwargs={"server_default": text("'[]'")},
        description="`{start, level, title}` each, by their place in the text.",
    )
    is_scanned: bool = Field(
        default=False,
        sa_column_kwargs={"server_default": false()},
        description="Whether it shows a picture and has no text.",
    )

    __table_args__ = (_of_document(),)


class Chunk(Owned, table=True):
    """A passage: a span of one page."""

    __tablename__ = "chunks"

    id: int = Field(primary_key=True, sa_type=Integer)
    document_id: int = Field(sa_type=Integer)
    content: str = Field(sa_type=Text)
    page_number: int | None = Field(default=None, sa_type=Integer, description="None where the format has no pages.")
    page: int = Field(sa_type=Integer, description="The page as it is stored, whatever the format.")
    chunk_index: int = Field(sa_type=Integer, description="From 0, in the order of the document.")
    start: int = Field(sa_type=Integer, description="The span in the page's text, in characters.")
    end: int = Field(sa_type=Integer)
    headings: str = Field(
        default="", sa_type=Text, sa_column_kwargs={"server_default": ""}, description="Title and heading path."
    )

    __table_args__ = (
        _of_document(),
        Index("ix_chunks_user_id_document_id", "user_id", "document_id", "chunk_index"),
    )


class ChunkVector(Owned, table=True):
    """A passage's embedding by one model, stored uncompressed and apart from the text, so that exact search is fast."""

    __tablename__ = "chunk_vectors"

    # The primary key begins with the foreign key's columns. Otherwise deleting one passage would read the keys of all
    # the user's vectors.
    chunk_id: int = Field(primary_key=True, sa_type=Integer)
    model_id: int = Field(primary_key=True, sa_type=SmallInteger)
    document_id: int = Field(sa_type=Integer)
    embedding: Any = Field(sa_type=HALFVEC)

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "chunk_id"], ["chunks.user_id", "chunks.id"], ondelete="CASCADE"),
    )


class Postings(Owned, table=True):
    """The passages of a document that contain a lexeme: an inverted index, separate for each user."""

    __tablename__ = "postings"

    language: str = Field(primary_key=True, sa_type=Text)
    lexeme: str = Field(primary_key=True, sa_type=Text)
    document_id: int = Field(primary_key=True, sa_type=Integer)
    first_chunk: int = Field(primary_key=True, sa_type=Integer, description="Of the batch that was indexed at once.")
    entries: bytes = Field(
        sa_type=LargeBinary,
        description="8 bytes for each passage, high ones first: its id in 4, how often it has it in 2, its words in 2.",
    )

    __table_args__ = (_of_document(), Index("ix_postings_user_id_document_id", "user_id", "document_id"))


class EmbeddingModel(SQLModel, table=True):
    """An embedding model with vectors in this database. Exactly one model is in use.

    The table belongs to no user. Only the database owner can change it.
    """

    __tablename__ = "embedding_models"

    id: int = Field(primary_key=True, sa_type=SmallInteger)
    name: str = Field(sa_type=Text, unique=True)
    dim: int = Field(sa_type=Integer)
    is_current: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    created_at: datetime = timestamp(default_now=True)

    __table_args__ = (
        Index("uq_embedding_models_current", "is_current", unique=True, postgresql_where=text("is_current")),
    )
