"""How short the way of a call is: our functions from the door that takes it to the tool's own function."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Route

import backend
from backend.agent.loop import ToolsInProcess
from backend.identity.caller import Caller
from backend.mcp_server.http import guarded_endpoint
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Operations
from backend.operations.tool import Tool
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.tasks import tools
from backend.tasks.routes import task_routes
from backend.tasks.tools import add_task
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant

OURS = str(Path(backend.__file__).parent)
MOST_FRAMES = 8
TASK = {"title": "milk"}


class Way:
    """The frames of a call's way: those that were not there when it came to the door, and are when its tool begins."""

    def __init__(self) -> None:
        self.frames: list[str] = []

    def begins(self) -> None:
        """Take note of what is there before; called on the loop, in the task that goes on to the door."""
        self._loop = asyncio.get_running_loop()
        self._before = asyncio.all_tasks()
        self._task, self._passed = asyncio.current_task(), len(list(_on_stack(sys._getframe())))

    def leads_to(self, tool: Tool[Any, Any]) -> Tool[Any, Any]:
        """Return a tool whose function notes the way to it first."""

        @wraps(tool.function)
        def noted(**arguments: Any) -> Any:
            on_way = list(_awaited(self._task))[self._passed :]
            started = [name for task in asyncio.all_tasks(self._loop) - self._before for name in _awaited(task)]
            # This function stands in the place of the tool's own, which is the last one.
            self.frames = [*on_way, *started, *reversed(list(_on_stack(sys._getframe()))), tool.name]
            return tool.function(**arguments)

        return replace(tool, function=noted)


def _on_stack(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            yield frame.f_code.co_qualname
        frame = frame.f_back


def _awaited(task: "asyncio.Task[Any] | None") -> Iterator[str]:
    """Yield our functions that a task is in, from the first to the one that waits."""
    step: Any = task and task.get_coro()
    while (frame := getattr(step, "cr_frame", None)) is not None:
        if frame.f_code.co_filename.startswith(OURS):
            yield frame.f_code.co_qualname
        step = step.cr_await


@pytest.mark.spec("OPER-9")
def test_a_call_over_rest_passes_few_frames(
    operations: Operations, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Way()

    async def signed_in(_request: Request) -> Caller:
        way.begins()
        return alice

    monkeypatch.setattr(tools, "add_task", way.leads_to(add_task))
    app = FastAPI()
    app.include_router(task_routes(operations, signed_in))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/api/tasks", json=TASK)

    assert asyncio.run(ask()).status_code == 201
    assert way.frames[0].endswith("task_routes.<locals>.add_task")
    assert len(way.frames) <= MOST_FRAMES, way.frames


@pytest.mark.spec("OPER-9")
def test_a_call_over_mcp_passes_few_frames(operations: Operations, alice: Caller) -> None:
    way = Way()
    server = ToolServer((way.leads_to(add_task),), operations)

    async def caller_of(_scope: Any) -> Caller:
        return replace(alice, door="mcp")

    endpoint = guarded_endpoint(server, caller_of, public_url=None, origins=[], host=None)
    app = Starlette(routes=[Route("/mcp", endpoint=endpoint)])
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add_task", "arguments": TASK}}
    accept = {"Accept": "application/json, text/event-stream"}

    async def ask() -> httpx.Response:
        async with (
            server.session_manager.run(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            way.begins()
            return await client.post("/mcp", json=body, headers=accept)

    assert "created" in asyncio.run(ask()).text
    assert any(name.endswith("WithCaller.__call__") for name in way.frames)
    assert len(way.frames) <= MOST_FRAMES, way.frames


@pytest.mark.spec("OPER-9")
def test_a_call_of_the_agent_passes_few_frames(database: Database, operations: Operations, alice: Caller) -> None:
    way = Way()
    server = ToolServer((way.leads_to(add_task),), operations)

    async def calls_the_tool(_said: list[str], journal: Journal) -> None:
        call = {"call_id": f"{journal.run_id}-1-1", "name": "add_task", "arguments": TASK}
        await journal.add_response(FINAL, [call], outputs={})
        way.begins()
        in_process = ToolsInProcess(server, journal, [], frozenset(), operations.share)
        await in_process.call_tool("add_task", TASK, {"call_id": call["call_id"]})
        await journal.finish(FINAL, outputs={})

    async def say() -> dict[str, Any]:
        parts = Parts.of(database, ScriptedAssistant(calls_the_tool))
        return (await parts.say(alice, "Buy milk"))[1]

    assert [call["is_error"] for call in asyncio.run(say())["tool_calls"]] == [False]
    assert way.frames[0].endswith("ToolsInProcess.call_tool")
    assert len(way.frames) <= MOST_FRAMES, way.frames
