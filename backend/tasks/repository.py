"""The repository of tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, and_, case, func, literal, or_
from sqlmodel import col, select

from backend.errors import Conflict, NotFound
from backend.postgres.repository import UserRepository, escaped
from backend.tasks.cursor import PRIORITIES, Place, Sort
from backend.tasks.models import Task

Status = Literal["all", "pending", "completed"]


MOST_TASKS = 10_000
"""The most tasks of one user."""


class TooManyTasks(Conflict):
    """The user already has as many tasks as allowed."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST_TASKS:,} tasks, which is the limit. Delete some completed ones.")


class TaskNotFound(NotFound):
    """The user has no such task."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"Task {task_id} does not exist.", hint="Call list_tasks to see the user's tasks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list, and in which order. Without a `sort`, tasks are listed by number."""

    status: Status = "all"
    query: str | None = None
    due_before: datetime | None = None
    tag: str | None = None
    priority: str | None = None
    sort: Sort | None = None


class TaskRepository(UserRepository[Task]):
    """The user's tasks."""

    model = Task

    def get(self, task_id: int, *, lock: bool = False) -> Task:
        """Return a task. With `lock`, lock its row until the transaction ends, so that the row can be changed."""
        statement = self._mine().where(Task.id == task_id)
        task = self._session.exec(statement.with_for_update() if lock else statement).one_or_none()
        if task is None:
            raise TaskNotFound(task_id)
        return task

    def all(self, wanted: TaskFilter, *, after: Place | None = None, limit: int) -> list[Task]:
        """Return at most `limit` matching tasks in the wanted order, starting after the place `after`.

        The place must come from a list in the same order. Tasks with equal sort keys are ordered by number. Tasks
        without a due date come last in both directions.
        """
        statement = self._mine()
        if wanted.status != "all":
            statement = statement.where(col(Task.completed).is_(wanted.status == "completed"))
        if wanted.query:
            for word in wanted.query.split()[:10]:
                pattern = f"%{escaped(word)}%"
                statement = statement.where(or_(col(Task.title).ilike(pattern), col(Task.description).ilike(pattern)))
        if wanted.due_before is not None:
            statement = statement.where(col(Task.due) <= wanted.due_before)
        if wanted.tag:
            statement = statement.where(col(Task.tags).contains([wanted.tag]))
        if wanted.priority:
            statement = statement.where(col(Task.priority) == wanted.priority)
        order: list[ColumnElement[Any]] = [col(Task.id).asc()]
        if wanted.sort:
            key = _key(wanted.sort)
            order.insert(0, (key.desc() if wanted.sort.startswith("-") else key.asc()).nulls_last())
        if after:
            statement = statement.where(_follows(after))
        return list(self._session.exec(statement.order_by(*order).limit(limit)))

    def add(self, **fields: Any) -> Task:
        """Store a new task under the user's next number.

        Raises:
            TooManyTasks: The user already has as many tasks as allowed.
        """
        now, task_id = self._scope.now, self._next("task")
        if task_id > MOST_TASKS and self._count() >= MOST_TASKS:
            raise TooManyTasks
        task = Task(user_id=self._scope.user_id, id=task_id, created_at=now, updated_at=now, **fields)
        return self._keep(task, "added")

    def change(self, task_id: int, **fields: Any) -> Task:
        """Change the given fields of a task. If the task already has these values, it is not written."""
        task = self.get(task_id, lock=True)
        changed = {name: value for name, value in fields.items() if getattr(task, name) != value}
        return self._keep(self._changed(task, changed), "updated") if changed else task

    def complete(self, task_id: int) -> Task:
        """Mark a task as done. A task that is already done stays unchanged."""
        task = self.get(task_id, lock=True)
        if task.completed:
            return task
        return self._keep(self._changed(task, {"completed": True, "completed_at": self._scope.now}), "completed")

    def reopen(self, task_id: int) -> Task:
        """Mark a task as not done. A task that is already open stays unchanged."""
        task = self.get(task_id, lock=True)
        if not task.completed:
            return task
        return self._keep(self._changed(task, {"completed": False, "completed_at": None}), "reopened")

    def find(self, task_id: int) -> Task | None:
        """Return a task, with its row locked until the transaction ends, or None."""
        return self._session.exec(self._mine().where(Task.id == task_id).with_for_update()).one_or_none()

    def restore(self, former: Task) -> Task:
        """Restore a task's former values under a new version. A deleted task comes back with its old number.

        Raises:
            TooManyTasks: A deleted task cannot come back, because the user has as many tasks as allowed.
        """
        task = self.find(former.id)
        if task is not None:
            return self._keep(self._changed(task, content_of(former)), "restored")
        if self._count() >= MOST_TASKS:
            raise TooManyTasks
        return self._keep(self._changed(former, {}), "restored")

    def delete(self, task_id: int) -> Task:
        """Delete a task, and return it."""
        task = self.get(task_id, lock=True)
        self._session.delete(task)
        self._session.flush()
        self._written("deleted", task_id=task_id)
        return task

    def taken_from(self, document_id: int) -> list[Task]:
        """Return the tasks that were created from a document."""
        return list(self._session.exec(self._mine().where(Task.document_id == document_id).order_by(col(Task.id))))

    def forget_document(self, document_id: int) -> None:
        """Delete a document's words from the tasks that were created from that document."""
        for task in self._session.exec(self._mine().where(Task.document_id == document_id)):
            task.quote = None
            self._session.add(task)
        self._session.flush()

    def _count(self) -> int:
        return int(self._session.exec(select(func.count()).select_from(self._mine().subquery())).one())

    def _changed(self, task: Task, fields: dict[str, Any]) -> Task:
        for name, value in fields.items():
            setattr(task, name, value)
        task.updated_at = self._scope.now
        task.version += 1
        return task

    def _keep(self, task: Task, outcome: str) -> Task:
        self._session.add(task)
        self._session.flush()
        self._written(outcome, task_id=task.id)
        return task


def content_of(task: Task) -> dict[str, Any]:
    """Return a task's fields, without its version and the time of its last change."""
    return {name: getattr(task, name) for name in Task.model_fields if name not in ("version", "updated_at")}


def _rank(priority: Any) -> ColumnElement[Any]:
    return case({name: rank for rank, name in enumerate(PRIORITIES)}, value=priority)


def _as_it_is(value: Any) -> Any:
    return value


_KEYS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "created": (col(Task.created_at), _as_it_is),
    "due": (col(Task.due), _as_it_is),
    "priority": (col(Task.priority), _rank),
    "title": (col(Task.title), func.lower),
}
"""For each sort key: the column, and the function that turns a value of the column into what is compared."""


def _key(sort: Sort) -> ColumnElement[Any]:
    column, rank = _KEYS[sort.removeprefix("-")]
    return cast(ColumnElement[Any], rank(column))


def _follows(place: Place) -> ColumnElement[bool]:
    """Return the condition for the tasks after a place."""
    later = col(Task.id) > place.task_id
    if place.sort is None:
        return later
    key = _key(place.sort)
    if place.value is None:
        return and_(key.is_(None), later)
    # The database, not Python, computes the key of the place, because Python lower-cases some letters differently.
    then = _KEYS[place.sort.removeprefix("-")][1](literal(place.value))
    beyond = key < then if place.sort.startswith("-") else key > then
    return or_(beyond, and_(key == then, later), key.is_(None))
