"""Our own protocol: `POST /api/chat` answers with JSON once the run has ended, or with a stream of the run's events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from backend.api_router import NAMED_USER, api_router
from backend.conversations.schemas import ConversationId
from backend.edge.problems import problem
from backend.idempotency import IdempotencyHeader
from backend.identity.caller import Caller
from backend.identity.guest_budget import ModelNotice
from backend.runs.follow import HEARTBEAT, Follower
from backend.runs.repository import Event
from backend.runs.turns import MessageText, Turn
from backend.runs.worker import RunWorker

_TOLD_OF_FAILURES = ("conversation_id", "run_id", "message_id", "response", "tool_calls", "citations")
STREAM_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


class ChatMessage(BaseModel):
    """A message to the assistant."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"message": "Add a task to buy groceries by tomorrow"}]}
    )

    message: MessageText
    conversation_id: ConversationId | None = None


class ChatReply(BaseModel):
    """The answer, or the state of a run that has not ended."""

    conversation_id: int
    run_id: str
    message_id: int | None
    status: str
    response: str
    tool_calls: list[dict[str, Any]]
    citations: list[dict[str, Any]]
    approvals: list[dict[str, Any]]
    model: str
    model_notice: ModelNotice | None = None
    """Why, and until when, the offline model answers in place of the configured model; null if it does not."""
    usage: dict[str, Any]
    error: dict[str, Any] | None = None
    """Why there is no complete answer, for example because the user stopped the run."""


def chat_routes(
    worker: RunWorker, follower: Follower, signed_in: Callable[..., Any], *, wait_seconds: float
) -> APIRouter:
    """Return the routes for chat."""
    router = api_router(signed_in, prefix="/api", tags=["chat"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": ChatReply, "content": {"text/event-stream": {}}},
        202: {"model": ChatReply, "description": "The run goes on; follow it at /api/runs/{run_id}/events."},
    }

    @router.post("/chat", summary="Say something and get the answer", responses=answers)
    @router.post(
        "/{user_id:user}/chat",
        summary="The same, for clients that name the user",
        responses=answers,
        dependencies=[NAMED_USER],
    )
    async def chat(
        request: Request, said: ChatMessage, caller: SignedInCaller, key: IdempotencyHeader = None
    ) -> Response:
        caller.require("write")
        follower.admit(caller)
        turn = await worker.accept(caller, said.message, conversation_id=said.conversation_id, idempotency_key=key)
        structlog.contextvars.bind_contextvars(conversation_id=turn.conversation_id, run_id=turn.run_id)
        events = follower.events(caller, turn.run_id)
        if "text/event-stream" in request.headers.get("accept", ""):
            return event_stream(events)
        return await _whole_answer(events, turn, wait_seconds)

    return router


def event_stream(events: AsyncIterator[Event]) -> StreamingResponse:
    """Return a response that streams events as server-sent events. The `id` of a stored event is its number."""

    async def lines() -> AsyncIterator[str]:
        async for event in events:
            yield _told(event)

    return StreamingResponse(lines(), media_type="text/event-stream", headers=STREAM_HEADERS)


def _told(event: Event) -> str:
    if event is HEARTBEAT:
        return ": hb\n\n"
    number = "" if event.seq is None else f"id: {event.seq}\n"
    return f"{number}event: {event.kind}\ndata: {json.dumps(event.data, ensure_ascii=False)}\n\n"


async def _whole_answer(events: AsyncIterator[Event], turn: Turn, seconds: float) -> Response:
    status = "running"
    try:
        async with asyncio.timeout(seconds):
            async for event in events:
                status = event.data["status"] if event.kind == "run" else status
                if event.kind == "done":
                    return _ended(event.data)
    except TimeoutError:
        pass
    going_on = {
        "conversation_id": turn.conversation_id,
        "run_id": turn.run_id,
        "message_id": None,
        "status": status,
        "response": "",
        "tool_calls": [],
        "citations": [],
        "approvals": [],
        "model": turn.model,
        "model_notice": turn.model_notice,
        "usage": {},
        "error": None,
    }
    return JSONResponse(going_on, 202, headers={"Location": f"/api/runs/{turn.run_id}"})


def _ended(reply: dict[str, Any]) -> Response:
    error = reply.get("error")
    if error is None or error["status"] < 400:
        seen = {"model_notice": None} | reply
        return JSONResponse({name: seen[name] for name in ChatReply.model_fields})
    retry_after = error.get("retry_after")
    return problem(
        error["status"],
        error["code"],
        error["detail"],
        headers={"Retry-After": str(retry_after)} if retry_after else None,
        **{name: reply[name] for name in _TOLD_OF_FAILURES if name in reply},
    )
