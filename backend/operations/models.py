"""The tables of the ledger, of the changes of rows by operations, and of the access log."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from backend.postgres.repository import Owned, belongs_to_user, timestamp

CallOutcome = Literal["ok", "failed", "denied"]


class Operation(Owned, table=True):
    """A tool call that can change something or belongs to a run, and how it ended."""

    __tablename__ = "operations"

    id: int = Field(primary_key=True, sa_type=Integer)
    door: str = Field(sa_type=Text, description="chat, mcp, or rest")
    client: str | None = Field(default=None, sa_type=Text, description="The client's own name for itself, if any.")
    run_id: str | None = Field(default=None, sa_type=String(32))
    call_id: str | None = Field(default=None, sa_type=Text)
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    request_hash: str | None = Field(default=None, sa_type=Text, description="SHA-256 of the arguments, with a key.")
    tool: str = Field(sa_type=Text)
    arguments: dict[str, Any] = Field(sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    outcome: str = Field(sa_type=Text, description="ok, failed (our sentence stands in result), or denied")
    milliseconds: int = Field(default=0, sa_type=Integer)
    document_ids: list[int] = Field(
        default_factory=list,
        sa_type=ARRAY(Integer),
        sa_column_kwargs={"server_default": text("'{}'")},
        description="The documents whose text the call brought back.",
    )
    change_id: UUID | None = Field(default=None, sa_type=Uuid, description="Names the row changes that a write made.")
    undone_by: UUID | None = Field(default=None, sa_type=Uuid, description="The change_id of the undo, if undone.")
    created_at: datetime = timestamp(default_now=True)

    __table_args__ = (
        belongs_to_user(),
        CheckConstraint("door in ('chat', 'mcp', 'rest')", name="door"),
        CheckConstraint("outcome in ('ok', 'failed', 'denied')", name="outcome"),
        Index(
            "uq_operations_call",
            "user_id",
            "run_id",
            "call_id",
            unique=True,
            postgresql_where=text("call_id is not null"),
        ),
        Index(
            "uq_operations_idempotency_key",
            "user_id",
            "tool",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
        Index("ix_operations_user_id_created_at", "user_id", "created_at"),
        Index("ix_operations_user_id_read", "user_id", "run_id", postgresql_where=text("document_ids <> '{}'")),
    )


class RowChange(Owned, table=True):
    """A row's values before and after an operation changed it. A trigger writes this record."""

    __tablename__ = "row_changes"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    change_id: UUID = Field(sa_type=Uuid)
    kind: str = Field(sa_type=Text, description="task, document, or conversation")
    row_id: int = Field(sa_type=Integer)
    before: dict[str, Any] | None = Field(default=None, sa_type=JSONB, description="None if the row was added.")
    after: dict[str, Any] | None = Field(default=None, sa_type=JSONB, description="None if the row was removed.")
    at: datetime = timestamp(default_now=True)

    __table_args__ = (
        belongs_to_user(),
        Index("ix_row_changes_user_id_change_id", "user_id", "change_id"),
        Index("ix_row_changes_at", "at"),
    )


class Access(Owned, table=True):
    """A read by an outside MCP client, and how it ended."""

    __tablename__ = "access_log"

    id: UUID | None = Field(
        default=None,
        primary_key=True,
        sa_type=Uuid,
        sa_column_kwargs={"server_default": text("gen_random_uuid()")},
    )
    at: datetime = timestamp(default_now=True)
    client: str | None = Field(default=None, sa_type=Text, description="The client's own name for itself, if any.")
    tool: str = Field(sa_type=Text)
    outcome: str = Field(sa_type=Text, description="ok, failed or denied")
    milliseconds: int = Field(sa_type=Integer)
    document_ids: list[int] = Field(
        default_factory=list,
        sa_type=ARRAY(Integer),
        sa_column_kwargs={"server_default": text("'{}'")},
        description="The documents whose text the call brought back.",
    )

    __table_args__ = (
        belongs_to_user(),
        CheckConstraint("outcome in ('ok', 'failed', 'denied')", name="outcome"),
        Index("ix_access_log_at", "at"),
    )
