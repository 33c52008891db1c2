"""Tables of conversations and messages."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, Index, Integer, String, Text, text
from sqlmodel import Field

from backend.postgres.repository import Owned, belongs_to_user, timestamp


class Conversation(Owned, table=True):
    """A conversation: a list of messages with a title."""

    __tablename__ = "conversations"

    id: int = Field(primary_key=True, sa_type=Integer)
    title: str = Field(sa_type=Text)
    created_at: datetime = timestamp(default_now=True)
    updated_at: datetime = timestamp(default_now=True)
    deleted_at: datetime | None = timestamp()

    __table_args__ = (
        belongs_to_user(),
        Index("ix_conversations_deleted", "deleted_at", postgresql_where=text("deleted_at is not null")),
        Index("ix_conversations_user_id_created_at", "user_id", "created_at"),
        Index("ix_conversations_user_id_updated_at", "user_id", "updated_at"),
    )


class Message(Owned, table=True):
    """A user's message, or the assistant's answer with the assistant's tool calls."""

    __tablename__ = "messages"

    id: int = Field(primary_key=True, sa_type=Integer)
    conversation_id: int = Field(sa_type=Integer)
    role: str = Field(sa_type=Text, description="user, or assistant")
    content: str = Field(sa_type=Text)
    run_id: str | None = Field(default=None, sa_type=String(32))
    tool_calls: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": text("'[]'")}
    )
    citations: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": text("'[]'")}
    )
    created_at: datetime = timestamp(default_now=True)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        CheckConstraint("role in ('user', 'assistant')", name="role"),
        Index("ix_messages_user_id_conversation_id", "user_id", "conversation_id", "id"),
        Index("ix_messages_user_id_role", "user_id", "role"),
        Index("ix_messages_user_id_created_at", "user_id", "created_at"),
    )
