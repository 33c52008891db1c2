"""Tasks as models, clients and people see them; REST and the tools validate with the same types."""

from datetime import datetime
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from backend.operations.tool import only
from backend.plain_text import NUMBER, ONE_LINE, PLAIN
from backend.postgres.repository import LARGEST_ID
from backend.tasks.cursor import Sort
from backend.tasks.dates import in_words
from backend.tasks.models import Task

TaskId = Annotated[int, Field(ge=1, le=LARGEST_ID, description="The task's number, as list_tasks shows it."), NUMBER]
Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Field(description="What is to be done, in a few words, at most 200 characters."),
    ONE_LINE,
]
Description = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=10_000),
    Field(description="Details, at most 10,000 characters."),
    PLAIN,
]
DueWords = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=100),
    Field(
        description='When it is due, in the user\'s own words ("tomorrow", "next Friday at 5") or as RFC 3339. '
        "The server resolves it in the user's time zone; do not compute dates yourself."
    ),
    ONE_LINE,
]
Priority = Annotated[Literal["none", "low", "medium", "high"], Field(description="How urgent it is.")]
Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=50),
    ONE_LINE,
    Field(description="A label, without #."),
]
Tags = Annotated[list[Tag], Field(max_length=20, description="Labels, at most 20, without #.")]
Limit = Annotated[int, Field(ge=1, le=100, description="How many to return, at most 100; 50 by default."), NUMBER]
SortWanted = Annotated[
    Sort,
    Field(description="The order, by number by default; - reverses it. Tasks without a due date come last."),
]


LISTED_DESCRIPTION = 300
"""Characters of a description that a list shows."""


class TaskSeen(BaseModel):
    """A task with all its fields."""

    id: int
    title: str
    description: str
    completed: bool
    completed_at: datetime | None
    due: datetime | None
    due_understood: str | None = Field(description="The due date in words, in the user's time zone.")
    priority: Literal["none", "low", "medium", "high"]
    tags: list[str]
    document_id: int | None = Field(None, description="The document that it was taken from.")
    page_number: int | None = Field(None, description="The page there, where the format has pages.")
    quote: str | None = Field(None, description="The document's own words, for people; models read the document.")
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, task: Task, zone: ZoneInfo) -> Self:
        """Return a task with its times in a time zone."""
        return cls(
            id=task.id,
            title=task.title,
            description=task.description,
            completed=task.completed,
            completed_at=task.completed_at and task.completed_at.astimezone(zone),
            due=task.due and task.due.astimezone(zone),
            due_understood=task.due and in_words(task.due, zone),
            priority=task.priority,
            tags=task.tags,
            document_id=task.document_id,
            page_number=task.page_number,
            created_at=task.created_at.astimezone(zone),
            updated_at=task.updated_at.astimezone(zone),
            version=task.version,
        )

    @classmethod
    def in_list(cls, task: Task, zone: ZoneInfo) -> Self:
        """Return a task for a list, with its description shortened, because a list may have a hundred tasks."""
        seen = cls.of(task, zone)
        if len(seen.description) > LISTED_DESCRIPTION:
            seen.description = seen.description[: LISTED_DESCRIPTION - 1] + "…"
        return seen

    @classmethod
    def with_quote(cls, task: Task, zone: ZoneInfo) -> Self:
        """Return a task for a person, with the quote from the document that it was created from.

        No tool for models returns the quote, because anybody may have written it.
        """
        seen = cls.of(task, zone)
        seen.quote = task.quote
        return seen


class TasksListed(BaseModel):
    """One page of tasks. Long descriptions are cut; get_task shows a whole description."""

    tasks: list[TaskSeen]
    next_cursor: str | None


class TaskChanged(TaskSeen):
    """A task after a change. The published schema lists only the fields that matter after a change."""

    model_config = ConfigDict(json_schema_extra=only("task_id", "status", "title", "due", "due_understood"))

    task_id: int
    status: Literal["created", "updated"]

    @classmethod
    def by(cls, change: Literal["created", "updated"], task: Task, zone: ZoneInfo) -> Self:
        """Return a task that was created or updated."""
        return cls(task_id=task.id, status=change, **TaskSeen.of(task, zone).model_dump())


class TaskStatus(BaseModel):
    """A task that was completed, reopened or deleted."""

    task_id: int
    status: Literal["completed", "pending", "deleted"]
    title: str
