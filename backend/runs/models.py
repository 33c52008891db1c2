"""Tables of runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, Index, Integer, String, Text, false, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from backend.jobs.leases import LeasedTable
from backend.postgres.repository import Owned, timestamp

RUNS = LeasedTable("runs", "run", waiting="queued", most_of_a_user=4, notified_as="work")

NULLABLE_JSON: Any = JSON(none_as_null=True)
"""A JSON column that stores None as SQL's null instead of JSON's null, so that SQL statements can test for null."""


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["user_id", "run_id"], ["runs.user_id", "runs.id"], ondelete="CASCADE")


class Run(Owned, table=True):
    """The work of answering one message: its input, its worker, and its progress."""

    __tablename__ = "runs"

    id: str = Field(primary_key=True, sa_type=String(32))
    conversation_id: int = Field(sa_type=Integer)
    message_id: int = Field(sa_type=Integer, description="The user's message.")
    answer_id: int | None = Field(default=None, sa_type=Integer, description="The assistant's message.")
    status: str = Field(sa_type=Text)
    model: str = Field(sa_type=Text)
    model_notice: dict[str, Any] | None = Field(
        default=None,
        sa_type=NULLABLE_JSON,
        description="Why the offline model answers in place of the configured one, and until when.",
    )
    door: str = Field(default="chat", sa_type=Text, sa_column_kwargs={"server_default": "chat"})
    client: str | None = Field(default=None, sa_type=Text)
    scopes: list[str] = Field(sa_type=ARRAY(Text), description="What the caller may do.")
    input: dict[str, Any] | None = Field(
        default=None,
        sa_type=NULLABLE_JSON,
        description="Instructions, items and tools; fixed when the run is first claimed.",
    )
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    request_hash: str | None = Field(default=None, sa_type=Text)
    last_seq: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    attempt: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    fruitless: int = Field(
        default=0,
        sa_type=Integer,
        sa_column_kwargs={"server_default": text("0")},
        description="Attempts since the last committed step.",
    )
    lease_owner: str | None = Field(default=None, sa_type=Text)
    lease_until: datetime | None = timestamp()
    cancel_requested: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    error: dict[str, Any] | None = Field(default=None, sa_type=NULLABLE_JSON)
    usage: dict[str, Any] | None = Field(default=None, sa_type=NULLABLE_JSON)
    created_at: datetime = timestamp(default_now=True)
    started_at: datetime | None = timestamp()
    ended_at: datetime | None = timestamp()
    purged_at: datetime | None = timestamp()

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        CheckConstraint(
            "status in ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')", name="status"
        ),
        Index("ix_runs_user_id_conversation_id", "user_id", "conversation_id", "created_at"),
        Index("ix_runs_lapsing", "lease_until", postgresql_where=text("ended_at is null and lease_until is not null")),
        Index(
            "ix_runs_unended",
            "user_id",
            "conversation_id",
            "message_id",
            postgresql_where=text("ended_at is null"),
        ),
        Index("ix_runs_unpurged", "ended_at", postgresql_where=text("purged_at is null")),
        Index(
            "uq_runs_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
    )


class RunResponse(Owned, table=True):
    """A model's response, committed before any of its tool calls ran."""

    __tablename__ = "run_responses"

    run_id: str = Field(primary_key=True, sa_type=String(32))
    number: int = Field(primary_key=True, sa_type=Integer)
    attempt: int = Field(sa_type=Integer)
    response: dict[str, Any] = Field(sa_type=JSON, description="The output items and the usage, with our call ids.")
    created_at: datetime = timestamp(default_now=True)

    __table_args__ = (_of_run(),)


class RunEvent(Owned, table=True):
    """One event for the run's followers; `seq` counts from 1 without gaps."""

    __tablename__ = "run_events"

    run_id: str = Field(primary_key=True, sa_type=String(32))
    seq: int = Field(primary_key=True, sa_type=Integer)
    kind: str = Field(sa_type=Text)
    data: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = timestamp(default_now=True)

    __table_args__ = (_of_run(),)
