"""Routes of tasks: each performs a tool through the one door."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from backend.api_router import NAMED_USER, api_router
from backend.idempotency import IdempotencyHeader
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.tasks import tools
from backend.tasks.cursor import Cursor
from backend.tasks.repository import Status
from backend.tasks.schemas import (
    Description,
    DueWords,
    Limit,
    Priority,
    SortWanted,
    Tag,
    Tags,
    TaskId,
    TaskSeen,
    TasksListed,
    Title,
)

_EMPTY: dict[str, Any] = {"description": "", "due": "none", "priority": "none", "tags": []}
"""What a field is set to that is taken away."""


class TaskWanted(BaseModel):
    """A task to be added."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description | None = None
    due: DueWords | None = None
    priority: Priority | None = None
    tags: Tags | None = None


class TaskReplacement(TaskWanted):
    """A whole task, in place of the one that is there; `completed` stays as it is unless it is given."""

    completed: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return all fields as the tool takes them; what is left out is empty."""
        return {**_EMPTY, **self.model_dump(exclude_none=True)}


class TaskChange(BaseModel):
    """The fields of a task that change; null takes a description, due date, priority or tags away."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    description: Description | None = None
    due: DueWords | None = None
    priority: Priority | None = None
    tags: Tags | None = None
    completed: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return the changes as the tool takes them."""
        return {
            name: _EMPTY.get(name) if value is None else value
            for name, value in self.model_dump(exclude_unset=True).items()
        }


TaskInPath = Annotated[TaskId, Path()]


def task_routes(
    operations: Operations, signed_in: Callable[..., Any], *, prefix: str = "/api/tasks", **options: Any
) -> APIRouter:
    """Return the routes of tasks under a prefix."""
    router = api_router(signed_in, prefix=prefix, **{"tags": ["tasks"], **options})
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    @router.get("", summary="List tasks")
    async def list_tasks(
        caller: SignedInCaller,
        status: Status = "all",
        query: Annotated[tools.Query | None, Query()] = None,
        due_before: Annotated[tools.DueBefore | None, Query()] = None,
        tag: Annotated[Tag | None, Query()] = None,
        priority: Annotated[tools.PriorityWanted | None, Query()] = None,
        sort: Annotated[SortWanted | None, Query()] = None,
        limit: Annotated[Limit, Query()] = 50,
        cursor: Annotated[Cursor | None, Query()] = None,
    ) -> TasksListed:
        wanted = {
            "status": status,
            "query": query,
            "due_before": due_before,
            "tag": tag,
            "priority": priority,
            "sort": sort,
            "limit": limit,
            "cursor": cursor,
        }
        outcome = await operations.perform_fairly(tools.list_tasks, wanted, caller)
        return TasksListed.model_validate(outcome.result)

    @router.post("", status_code=201, summary="Add a task")
    async def add_task(
        wanted: TaskWanted, caller: SignedInCaller, idempotency_key: IdempotencyHeader = None
    ) -> TaskSeen:
        call = Call(idempotency_key=idempotency_key)
        outcome = await operations.perform_fairly(tools.add_task, wanted.model_dump(exclude_unset=True), caller, call)
        return TaskSeen.model_validate(outcome.result)

    @router.get("/{task_id}", summary="Show a task")
    async def show_task(task_id: TaskInPath, caller: SignedInCaller) -> TaskSeen:
        outcome = await operations.perform_fairly(tools.show_task, {"task_id": task_id}, caller)
        return TaskSeen.model_validate(outcome.result)

    @router.patch("/{task_id}", summary="Change a task")
    async def change_task(task_id: TaskInPath, change: TaskChange, caller: SignedInCaller) -> TaskSeen:
        arguments = {"task_id": task_id, **change.given()}
        outcome = await operations.perform_fairly(tools.edit_task, arguments, caller)
        return TaskSeen.model_validate(outcome.result)

    @router.delete("/{task_id}", status_code=204, summary="Delete a task")
    async def delete_task(task_id: TaskInPath, caller: SignedInCaller) -> Response:
        await operations.perform_fairly(tools.delete_task, {"task_id": task_id}, caller)
        return Response(status_code=204)

    return router


def named_task_routes(operations: Operations, signed_in: Callable[..., Any]) -> APIRouter:
    """Return the same routes for clients that name the user, with the two that only they have.

    An Idempotency-Key stands for the same request under both prefixes, since both perform the same tool.
    """
    router = task_routes(
        operations,
        signed_in,
        prefix="/api/{user_id:user}/tasks",
        tags=["tasks, for clients that name the user"],
        dependencies=[NAMED_USER],
    )
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    @router.put("/{task_id}", summary="Replace a task")
    async def replace_task(task_id: TaskInPath, task: TaskReplacement, caller: SignedInCaller) -> TaskSeen:
        """Set all of a task: a description, due date, priority or tags that are left out are taken away.

        `completed` stays as it is unless it is given. The same request again changes nothing.
        """
        outcome = await operations.perform_fairly(tools.edit_task, {"task_id": task_id, **task.given()}, caller)
        return TaskSeen.model_validate(outcome.result)

    @router.patch("/{task_id}/complete", summary="Complete an open task, or reopen a completed one")
    async def toggle_task(
        task_id: TaskInPath, caller: SignedInCaller, idempotency_key: IdempotencyHeader = None
    ) -> TaskSeen:
        """Each request turns the task over; one that is repeated with its Idempotency-Key does so once."""
        call = Call(idempotency_key=idempotency_key)
        outcome = await operations.perform_fairly(tools.toggle_task, {"task_id": task_id}, caller, call)
        return TaskSeen.model_validate(outcome.result)

    return router
