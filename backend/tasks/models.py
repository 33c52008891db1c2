"""The table of tasks."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, Text, false, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from backend.postgres.repository import Owned, belongs_to_user, timestamp


class Task(Owned, table=True):
    """Something that a person wants to get done."""

    __tablename__ = "tasks"

    id: int = Field(primary_key=True, sa_type=Integer)
    title: str = Field(sa_type=Text)
    description: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    completed: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    completed_at: datetime | None = timestamp()
    due: datetime | None = timestamp()
    priority: str = Field(default="none", sa_type=Text, sa_column_kwargs={"server_default": "none"})
    tags: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(Text),
        sa_column_kwargs={"server_default": text("'{}'")},
    )
    document_id: int | None = Field(default=None, sa_type=Integer, description="The document that it was taken from.")
    page_number: int | None = Field(default=None, sa_type=Integer)
    quote: str | None = Field(default=None, sa_type=Text, description="The document's own words.")
    created_at: datetime = timestamp(default_now=True)
    updated_at: datetime = timestamp(default_now=True)
    version: int = Field(default=1, sa_type=Integer, sa_column_kwargs={"server_default": text("1")})

    __table_args__ = (
        belongs_to_user(),
        CheckConstraint("priority in ('none', 'low', 'medium', 'high')", name="priority"),
        Index("ix_tasks_user_id_title", "user_id", "title"),
        Index("ix_tasks_user_id_completed", "user_id", "completed"),
        Index("ix_tasks_user_id_due", "user_id", "due"),
        Index("ix_tasks_user_id_created_at", "user_id", "created_at"),
    )
