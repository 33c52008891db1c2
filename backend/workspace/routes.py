"""The routes for undoing changes."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict

from backend.api_router import OPERATION_HEADER, api_router
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.workspace import undo


class UndoWanted(BaseModel):
    """How to undo."""

    model_config = ConfigDict(extra="forbid")

    dry_run: undo.DryRun = False


def undo_routes(operations: Operations, signed_in: Callable[..., Any]) -> APIRouter:
    """Return the routes that undo an operation, or a whole turn."""
    router = api_router(signed_in, prefix="/api", tags=["undo"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    async def undone(arguments: dict[str, Any], caller: Caller, response: Response) -> undo.Undone:
        outcome = await operations.perform_fairly(undo.undo, arguments, caller)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return undo.Undone.model_validate(outcome.result)

    @router.post("/operations/{operation_id}/undo", summary="Undo a change")
    async def undo_operation(
        operation_id: Annotated[undo.OperationId, Path()],
        caller: SignedInCaller,
        response: Response,
        wanted: UndoWanted | None = None,
    ) -> undo.Undone:
        """Undo one change, whichever client made it. The number is the change's Operation-Id."""
        return await undone({"operation_id": operation_id, **(wanted or UndoWanted()).model_dump()}, caller, response)

    @router.post("/runs/{run_id}/undo", summary="Undo all changes of a turn")
    async def undo_run(
        run_id: Annotated[undo.RunId, Path()],
        caller: SignedInCaller,
        response: Response,
        wanted: UndoWanted | None = None,
    ) -> undo.Undone:
        """Undo every change that answering a message made, in one step or not at all."""
        return await undone({"run_id": run_id, **(wanted or UndoWanted()).model_dump()}, caller, response)

    return router
