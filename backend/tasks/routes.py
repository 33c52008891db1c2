"""The task routes. Each route performs a tool through `Operations`."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from backend.api_router import NAMED_USER, OPERATION_HEADER, api_router
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
"""The value that clears each field."""


class TaskWanted(BaseModel):
    """A task to add."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description | None = None
    due: DueWords | None = None
    priority: Priority | None = None
    tags: Tags | None = None


class TaskReplacement(TaskWanted):
    """A whole task that replaces an existing task. If `completed` is not given, it stays unchanged."""

    completed: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return all fields as the tool's arguments. Fields that are not given are cleared."""
        return {**_EMPTY, **self.model_dump(exclude_none=True)}


class TaskChange(BaseModel):
    """The fields of a task that change. null clears the description, due date, priority or tags."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    description: Description | None = None
    due: DueWords | None = None
    priority: Priority | None = None
    tags: Tags | None = None
    completed: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return the changes as the tool's arguments."""
        return {
            name: _EMPTY.get(name) if value is None else value
            for name, value in self.model_dump(exclude_unset=True).items()
        }


TaskInPath = Annotated[TaskId, Path()]


def task_routes(
    operations: Operations, signed_in: Callable[..., Any], *, prefix: str = "/api/tasks", **options: Any
) -> APIRouter:
    """Return the task routes under a prefix."""
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
        wanted: TaskWanted, caller: SignedInCaller, response: Response, idempotency_key: IdempotencyHeader = None
    ) -> TaskSeen:
        call = Call(idempotency_key=idempotency_key)
        outcome = await operations.perform_fairly(tools.add_task, wanted.model_dump(exclude_unset=True), caller, call)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return TaskSeen.model_validate(outcome.result)

    @router.get("/{task_id}", summary="Show a task")
    async def show_task(task_id: TaskInPath, caller: SignedInCaller) -> TaskSeen:
        outcome = await operations.perform_fairly(tools.show_task, {"task_id": task_id}, caller)
        return TaskSeen.model_validate(outcome.result)

    @router.patch("/{task_id}", summary="Change a task")
    async def change_task(
        task_id: TaskInPath, change: TaskChange, caller: SignedInCaller, response: Response
    ) -> TaskSeen:
        arguments = {"task_id": task_id, **change.given()}
        outcome = await operations.perform_fairly(tools.edit_task, arguments, caller)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return TaskSeen.model_validate(outcome.result)

    @router.delete("/{task_id}", status_code=204, summary="Delete a task")
    async def delete_task(task_id: TaskInPath, caller: SignedInCaller) -> Response:
        outcome = await operations.perform_fairly(tools.delete_task, {"task_id": task_id}, caller)
        return Response(status_code=204, headers={OPERATION_HEADER: str(outcome.operation_id)})

    return router


def named_task_routes(operations: Operations, signed_in: Callable[..., Any]) -> APIRouter:
    """Return the task routes for clients that name the user in the path, with two more routes: replace and toggle.

    A request with the same Idempotency-Key counts as a repeat under both prefixes, because both perform the same tool.
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
    async def replace_task(
        task_id: TaskInPath, task: TaskReplacement, caller: SignedInCaller, response: Response
    ) -> TaskSeen:
        """Replace a task. If the description, due date, priority or tags are not given, they are cleared.

        If `completed` is not given, it stays unchanged. A repeat of the request changes nothing.
        """
        outcome = await operations.perform_fairly(tools.edit_task, {"task_id": task_id, **task.given()}, caller)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return TaskSeen.model_validate(outcome.result)

    @router.patch("/{task_id}/complete", summary="Complete an open task, or reopen a completed one")
    async def toggle_task(
        task_id: TaskInPath, caller: SignedInCaller, response: Response, idempotency_key: IdempotencyHeader = None
    ) -> TaskSeen:
        """Complete an open task, or reopen a completed one. A repeat with the same Idempotency-Key changes nothing."""
        call = Call(idempotency_key=idempotency_key)
        outcome = await operations.perform_fairly(tools.toggle_task, {"task_id": task_id}, caller, call)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return TaskSeen.model_validate(outcome.result)

    return router
