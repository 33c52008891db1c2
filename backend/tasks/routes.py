"""Routes of tasks: each performs a tool through the one door."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from backend.api_router import api_router
from backend.idempotency import IdempotencyHeader
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.tasks import tools
from backend.tasks.repository import Status
from backend.tasks.schemas import (
    Cursor,
    Description,
    DueWords,
    Limit,
    Priority,
    Tag,
    Tags,
    TaskId,
    TaskSeen,
    TasksListed,
    Title,
)


class TaskWanted(BaseModel):
    """A task to be added."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description | None = None
    due: DueWords | None = None
    priority: Priority | None = None
    tags: Tags | None = None


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
        empty = {"description": "", "due": "none", "priority": "none", "tags": []}
        return {
            name: empty.get(name) if value is None else value
            for name, value in self.model_dump(exclude_unset=True).items()
        }


def task_routes(operations: Operations, signed_in: Callable[..., Any]) -> APIRouter:
    """Return the routes under `/api/tasks`."""
    router = api_router(signed_in, prefix="/api/tasks", tags=["tasks"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]
    TaskInPath = Annotated[TaskId, Path()]

    @router.get("", summary="List tasks")
    async def list_tasks(
        caller: SignedInCaller,
        status: Status = "all",
        query: Annotated[tools.Query | None, Query()] = None,
        due_before: Annotated[tools.DueBefore | None, Query()] = None,
        tag: Annotated[Tag | None, Query()] = None,
        limit: Annotated[Limit, Query()] = 50,
        cursor: Annotated[Cursor | None, Query()] = None,
    ) -> TasksListed:
        wanted = {
            "status": status,
            "query": query,
            "due_before": due_before,
            "tag": tag,
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
