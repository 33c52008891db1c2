"""Cursors: where a page of tasks ends, so that a client can ask for the next one."""

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StringConstraints

from backend.errors import InvalidInput
from backend.plain_text import storable
from backend.postgres.repository import LARGEST_ID
from backend.tasks.models import Task

Sort = Literal["created", "-created", "due", "-due", "priority", "-priority", "title", "-title"]
PRIORITIES = ("none", "low", "medium", "high")

OFFSETS_END = timedelta(hours=16)
"""PostgreSQL rejects UTC offsets of this size or more, while Python accepts all offsets below a day."""

Cursor = Annotated[
    str,
    StringConstraints(max_length=2000),
    Field(description="next_cursor of the page before, to go on from there."),
]
"""A task's number or, for a sorted list, a JSON array in Base64. This Base64 begins with a letter, so a number and an
array cannot be confused."""


class NoSuchPage(InvalidInput):
    """This cursor does not come from a list of tasks."""

    def __init__(self) -> None:
        super().__init__(
            "This page does not exist. Start again from the first page.",
            hint="Pass next_cursor as it was given, or none.",
        )


class PageOfAnotherOrder(InvalidInput):
    """The cursor comes from a list in another order."""

    def __init__(self) -> None:
        super().__init__(
            "This page belongs to a list in another order. Start again from the first page.",
            hint="Pass the sort that the cursor was given for, or leave the cursor out.",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The last task of a page: its number, and the value it was sorted by when the page was listed."""

    task_id: int
    sort: Sort | None = None
    value: datetime | str | None = None

    @classmethod
    def of(cls, task: Task, sort: Sort | None) -> Self:
        """Return the place of a task in a list with this order."""
        if sort is None:
            return cls(task.id)
        value: datetime | str | None = {
            "created": task.created_at,
            "due": task.due,
            "priority": task.priority,
            "title": task.title,
        }[sort.removeprefix("-")]
        return cls(task.id, sort, value)

    @classmethod
    def read(cls, cursor: str, sort: Sort | None) -> Self:
        """Return the place that a cursor stands for.

        Raises:
            NoSuchPage: No list returned this cursor.
            PageOfAnotherOrder: The cursor comes from a list in another order.
        """
        if cursor.isascii() and cursor.isdigit():
            sort_then, value, task_id = None, None, min(int(cursor), LARGEST_ID)
        else:
            sort_then, value, task_id = _parts(cursor)
        if sort_then != sort:
            raise PageOfAnotherOrder
        return cls(task_id, sort, value)

    @property
    def cursor(self) -> str:
        """The cursor for this place."""
        if self.sort is None:
            return str(self.task_id)
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        parts = json.dumps([self.sort, value, self.task_id], ensure_ascii=False, separators=(",", ":"))
        return base64.urlsafe_b64encode(parts.encode()).decode().rstrip("=")


def _parts(cursor: str) -> tuple[Sort, datetime | str | None, int]:
    try:
        sort, value, task_id = json.loads(base64.b64decode(f"{cursor}===", altchars=b"-_"))
        if sort not in get_args(Sort) or type(task_id) is not int or not 0 < task_id <= LARGEST_ID:
            raise NoSuchPage
        return sort, _value(sort.removeprefix("-"), value), task_id
    except (ValueError, TypeError, RecursionError):
        raise NoSuchPage from None


def _value(key: str, value: Any) -> datetime | str | None:
    """Return the value of a sort key; raise ValueError or TypeError if it is invalid."""
    if key == "due" and value is None:
        return None
    if key in ("created", "due"):
        moment = datetime.fromisoformat(value)
        offset = moment.utcoffset()
        if offset is None or abs(offset) >= OFFSETS_END:
            raise ValueError("A moment has an offset that the database takes.")
        return moment
    if not isinstance(value, str) or value != storable(value) or (key == "priority" and value not in PRIORITIES):
        raise ValueError("This is no title and no priority.")
    return value
