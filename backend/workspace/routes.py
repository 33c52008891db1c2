"""The routes that change conversations, and the routes for undoing changes."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from backend.api_router import OPERATION_HEADER, api_router
from backend.conversations.schemas import ConversationChange, ConversationId, ConversationSeen
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.workspace import conversations, undo


class UndoWanted(BaseModel):
    """How to undo."""

    model_config = ConfigDict(extra="forbid")

    dry_run: undo.DryRun = False


class OperationUndoWanted(UndoWanted):
    """How to undo one change."""

    and_later: undo.AndLater = False


def conversation_change_routes(operations: Operations, signed_in: Callable[..., Any]) -> APIRouter:
    """Return the routes that rename and delete conversations."""
    router = api_router(signed_in, prefix="/api/conversations", tags=["conversations"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]
    ConversationInPath = Annotated[ConversationId, Path()]

    @router.patch("/{conversation_id}", summary="Rename a conversation")
    async def rename_conversation(
        conversation_id: ConversationInPath, change: ConversationChange, caller: SignedInCaller, response: Response
    ) -> ConversationSeen:
        arguments = {"conversation_id": conversation_id, "title": change.title}
        outcome = await operations.perform_fairly(conversations.rename_conversation, arguments, caller)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        return ConversationSeen.model_validate(outcome.result)

    @router.delete("/{conversation_id}", status_code=204, summary="Delete a conversation with its messages")
    async def delete_conversation(
        conversation_id: ConversationInPath,
        caller: SignedInCaller,
        purge: Annotated[bool, Query(description="Remove it for good, now.")] = False,
    ) -> Response:
        if purge:
            caller.require_person()
        arguments = {"conversation_id": conversation_id, "purge": purge}
        outcome = await operations.perform_fairly(conversations.delete_conversation, arguments, caller)
        return Response(status_code=204, headers={OPERATION_HEADER: str(outcome.operation_id)})

    return router


def undo_routes(operations: Operations, signed_in: Callable[..., Any], *, on_undone: Callable[[], None]) -> APIRouter:
    """Return the routes that undo an operation, or a whole turn.

    `on_undone` is called when a document may have come back that is not read to its end.
    """
    router = api_router(signed_in, prefix="/api", tags=["undo"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    async def undone(arguments: dict[str, Any], caller: Caller, response: Response) -> undo.Undone:
        outcome = await operations.perform_fairly(undo.undo, arguments, caller)
        response.headers[OPERATION_HEADER] = str(outcome.operation_id)
        on_undone()
        return undo.Undone.model_validate(outcome.result)

    @router.post("/operations/{operation_id}/undo", summary="Undo a change")
    async def undo_operation(
        operation_id: Annotated[undo.OperationId, Path()],
        caller: SignedInCaller,
        response: Response,
        wanted: OperationUndoWanted | None = None,
    ) -> undo.Undone:
        """Undo one change, whichever client made it. The number is the change's Operation-Id.

        With `and_later`, everything that the same client changed after it is undone too, in one step or not at all.
        """
        arguments = (wanted or OperationUndoWanted()).model_dump()
        return await undone({"operation_id": operation_id, **arguments}, caller, response)

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
