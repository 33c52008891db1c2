"""Routes that show, follow and stop runs."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from backend.api_router import api_router
from backend.identity.caller import Caller
from backend.limits.fair_share import FairShare
from backend.postgres.database import Database
from backend.postgres.repository import LARGEST_ID
from backend.runs.follow import Follower
from backend.runs.models import Run
from backend.runs.repository import Event, RunRepository
from backend.runs.worker import RunWorker

RunId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0, le=LARGEST_ID)]
StreamOf = Callable[[AsyncIterator[Event]], StreamingResponse]


class RunSeen(BaseModel):
    """The state of a run."""

    id: str
    conversation_id: int
    status: str
    approvals: list[dict[str, Any]]
    error: dict[str, Any] | None
    usage: dict[str, Any] | None

    @classmethod
    def of(cls, run: Run) -> "RunSeen":
        """Return the current state of a run."""
        return cls(
            id=run.id,
            conversation_id=run.conversation_id,
            status=run.status,
            approvals=[],
            error=run.error,
            usage=run.usage,
        )


def run_routes(
    database: Database,
    worker: RunWorker,
    follower: Follower,
    signed_in: Callable[..., Any],
    *,
    stream_of: StreamOf,
    share: FairShare,
) -> APIRouter:
    """Return the routes under `/api/runs`.

    `stream_of` renders events in the native clients' protocol. `share` limits how many requests each user can have in
    progress.
    """
    router = api_router(signed_in, prefix="/api/runs", tags=["chat"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    async def find(caller: Caller, run_id: str) -> RunSeen:
        def read() -> RunSeen:
            with database.scope(caller.user_id, caller.zone) as scope:
                return RunSeen.of(RunRepository(scope).get(run_id))

        seen = await share.run(caller.user_id, read)
        structlog.contextvars.bind_contextvars(conversation_id=seen.conversation_id, run_id=run_id)
        return seen

    @router.get("/{run_id}", summary="Show the state of a run")
    async def show_run(run_id: RunId, caller: SignedInCaller) -> RunSeen:
        return await find(caller, run_id)

    @router.get("/{run_id}/events", summary="Follow a run, from after Last-Event-ID", response_class=StreamingResponse)
    async def follow_run(run_id: RunId, caller: SignedInCaller, last_event_id: LastEventId = 0) -> StreamingResponse:
        await find(caller, run_id)
        follower.admit(caller)
        return stream_of(follower.events(caller, run_id, after=last_event_id))

    @router.post("/{run_id}/cancel", summary="Stop a run; what was done stays, and one that has ended stays as it is")
    async def cancel_run(run_id: RunId, caller: SignedInCaller) -> RunSeen:
        caller.require("write")
        run = await worker.cancel(caller, run_id)
        structlog.contextvars.bind_contextvars(conversation_id=run.conversation_id, run_id=run_id)
        return RunSeen.of(run)

    return router
