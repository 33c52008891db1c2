"""The tools for tasks."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import Field

from backend.errors import InvalidInput
from backend.operations.tool import tool
from backend.plain_text import ONE_LINE
from backend.postgres.database import Scope
from backend.tasks.cursor import Cursor, Place
from backend.tasks.dates import understand
from backend.tasks.models import Task
from backend.tasks.repository import Status, TaskFilter, TaskRepository
from backend.tasks.schemas import (
    Description,
    DueWords,
    Limit,
    Priority,
    SortWanted,
    Tag,
    Tags,
    TaskChanged,
    TaskId,
    TaskSeen,
    TasksListed,
    TaskStatus,
    Title,
)

CLEARED = ("", "none", "never", "no date")
"""Values of `due` that clear the due date."""

Query = Annotated[str, Field(max_length=200, description="Words that the title or description must contain."), ONE_LINE]
DueBefore = Annotated[
    str,
    Field(max_length=100, description='Only tasks due by then, in words ("tomorrow", "this week", "now") or RFC 3339.'),
    ONE_LINE,
]
PriorityWanted = Annotated[Priority, Field(description="Only tasks of this priority.")]
StatusWanted = Annotated[Status, Field(description="Which tasks; all when it is left out.")]


@tool(title="Add a task", writes=True, idempotent=False, keyed=True)
def add_task(
    title: Title,
    scope: Scope,
    description: Description | None = None,
    due: DueWords | None = None,
    priority: Priority | None = None,
    tags: Tags | None = None,
) -> TaskChanged:
    """Add a task to the user's list.

    Use it when the user wants to do, remember or plan something; call it once for each task. Tell the user the due date
    in the words of `due_understood`.
    """
    task = TaskRepository(scope).add(
        title=title,
        description=description or "",
        due=_moment(due, scope),
        priority=priority or "none",
        tags=list(dict.fromkeys(tags or [])),
    )
    return TaskChanged.by("created", task, scope.zone)


@tool(title="List tasks")
def list_tasks(
    scope: Scope,
    status: StatusWanted = "all",
    query: Query | None = None,
    due_before: DueBefore | None = None,
    tag: Tag | None = None,
    priority: PriorityWanted | None = None,
    sort: SortWanted | None = None,
    limit: Limit = 50,
    cursor: Cursor | None = None,
) -> TasksListed:
    """List the user's tasks with their numbers.

    Use it to answer what is to be done or was done, and to find the number of a task that the user names by its title.
    """
    after = Place.read(cursor, sort) if cursor else None
    due = _moment(due_before, scope)
    wanted = TaskFilter(status=status, query=query, due_before=due, tag=tag, priority=priority, sort=sort)
    found = TaskRepository(scope).all(wanted, after=after, limit=limit + 1)
    more = Place.of(found[limit - 1], sort).cursor if len(found) > limit else None
    return TasksListed(tasks=[TaskSeen.in_list(task, scope.zone) for task in found[:limit]], next_cursor=more)


@tool(title="Get a task")
def get_task(task_id: TaskId, scope: Scope) -> TaskSeen:
    """Show one task with its description. Use it when the user asks about a task whose number is known."""
    return TaskSeen.of(TaskRepository(scope).get(task_id), scope.zone)


@tool(title="Update a task", writes=True)
def update_task(
    task_id: TaskId,
    scope: Scope,
    title: Title | None = None,
    description: Description | None = None,
    due: DueWords | None = None,
    priority: Priority | None = None,
    tags: Tags | None = None,
) -> TaskChanged:
    """Change a task's title, description, due date, priority or tags; fields that are not given stay unchanged.

    `due` "none" removes the due date; a time alone keeps its day. Use it when the user renames, reschedules or details
    a task; complete_task marks it as done, reopen_task as not done.
    """
    repository = TaskRepository(scope)
    given = {"title": title, "description": description, "due": due, "priority": priority, "tags": tags}
    changes = _changes(repository.get(task_id, lock=True), given, scope)
    if not changes:
        raise InvalidInput("No change was given.", hint="Give a title, description, due, priority or tags.")
    return TaskChanged.by("updated", repository.change(task_id, **changes), scope.zone)


@tool(title="Complete a task", writes=True)
def complete_task(task_id: TaskId, scope: Scope) -> TaskStatus:
    """Mark a task as done. Use it when the user says they finished something."""
    task = TaskRepository(scope).complete(task_id)
    return TaskStatus(task_id=task.id, status="completed", title=task.title)


@tool(title="Reopen a task", writes=True)
def reopen_task(task_id: TaskId, scope: Scope) -> TaskStatus:
    """Mark a completed task as not done; nothing else changes. Use it when a task turns out not to be finished."""
    task = TaskRepository(scope).reopen(task_id)
    return TaskStatus(task_id=task.id, status="pending", title=task.title)


@tool(title="Delete a task", writes=True, destructive=True)
def delete_task(task_id: TaskId, scope: Scope) -> TaskStatus:
    """Delete a task. Use it only when the user asks to delete or remove a task, not when it is done."""
    task = TaskRepository(scope).delete(task_id)
    return TaskStatus(task_id=task.id, status="deleted", title=task.title)


@tool(title="Show a task", published=False)
def show_task(task_id: TaskId, scope: Scope) -> TaskSeen:
    """Show one task with all its fields, for REST's GET."""
    return TaskSeen.with_quote(TaskRepository(scope).get(task_id), scope.zone)


@tool(title="Edit a task", writes=True, published=False)
def edit_task(
    task_id: TaskId,
    scope: Scope,
    title: Title | None = None,
    description: Description | None = None,
    due: DueWords | None = None,
    priority: Priority | None = None,
    tags: Tags | None = None,
    completed: bool | None = None,
) -> TaskSeen:
    """Change any field of a task, including `completed`, for REST's PATCH and PUT."""
    repository = TaskRepository(scope)
    task = repository.get(task_id, lock=True)
    given = {"title": title, "description": description, "due": due, "priority": priority, "tags": tags}
    if changes := _changes(task, given, scope):
        task = repository.change(task_id, **changes)
    if completed is not None:
        task = repository.complete(task_id) if completed else repository.reopen(task_id)
    return TaskSeen.with_quote(task, scope.zone)


@tool(title="Complete or reopen a task", writes=True, idempotent=False, published=False)
def toggle_task(task_id: TaskId, scope: Scope) -> TaskSeen:
    """Complete a task that is open, and reopen one that is completed."""
    repository = TaskRepository(scope)
    is_done = repository.get(task_id, lock=True).completed
    task = repository.reopen(task_id) if is_done else repository.complete(task_id)
    return TaskSeen.with_quote(task, scope.zone)


TASK_TOOLS = (add_task, list_tasks, get_task, update_task, complete_task, reopen_task, delete_task)


def _moment(words: str | None, scope: Scope, day: date | None = None) -> datetime | None:
    if words is None or words.strip().lower() in CLEARED:
        return None
    return understand(words, now=scope.now, zone=scope.zone, day=day).at


def _changes(task: Task, given: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Return the changed fields of a task. A time without a day falls on the task's own due day."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "due" in changes:
        changes["due"] = _moment(changes["due"], scope, task.due and task.due.astimezone(scope.zone).date())
    if "tags" in changes:
        changes["tags"] = list(dict.fromkeys(changes["tags"]))
    return changes
