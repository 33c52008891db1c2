"""Who acts comes from the Authorization header alone, and never crosses from one call to another."""

import asyncio
from collections.abc import Callable

import anyio
import httpx
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult
from sqlalchemy import text

from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller, acting_as
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Call, Operations
from backend.operations.tool import tool
from backend.postgres.database import Scope
from backend.process import TOOLS
from backend.tasks.schemas import TaskStatus
from backend.tasks.tools import complete_task, list_tasks
from tests.conftest import query
from tests.mcp_server.sessions import http_client, over_http, text_of

USERS = 5
CALLS = 12

Everyone = Callable[..., Caller]


@tool(title="Crash")
def crash(scope: Scope) -> TaskStatus:
    """Crash as a driver does, with the statement and its values in the error's text."""
    scope.session.execute(text("select cast('SECRET' as integer)"))
    raise AssertionError("The statement went through.")


def titles_of(operations: Operations, caller: Caller) -> list[str]:
    """Return the titles of a user's tasks."""
    listed = operations.perform(list_tasks, {"limit": 100}, caller).result
    return sorted(task["title"] for task in listed["tasks"])


@pytest.mark.database
@pytest.mark.spec("MCP-40")
def test_users_of_the_shared_server_in_process_are_not_mixed(operations: Operations, new_caller: Everyone) -> None:
    callers = [new_caller(door="chat") for _ in range(USERS)]

    async def all_at_once() -> None:
        server = ToolServer(TOOLS, operations)

        async def act(caller: Caller, number: int) -> None:
            with acting_as(caller):
                await server.list_tools()
                call = Call(run_id=caller.user_id[-32:], call_id=str(number))
                await server.call_tool("add_task", {"title": f"{caller.user_id} {number}"}, call=call)

        await asyncio.gather(*(act(caller, number) for number in range(CALLS) for caller in callers))

    anyio.run(all_at_once)

    for caller in callers:
        assert titles_of(operations, caller) == sorted(f"{caller.user_id} {number}" for number in range(CALLS))


@pytest.mark.database
@pytest.mark.spec("MCP-40")
def test_users_over_http_are_not_mixed(service: str, new_token: Callable[[], str]) -> None:
    tokens = [new_token() for _ in range(USERS)]
    seen: dict[str, list[str]] = {}

    async def act(token: str, mode: str) -> None:
        async with http_client(service, token, mode) as client:
            await asyncio.gather(
                *(client.call_tool("add_task", {"title": f"{token} {mode} {number}"}) for number in range(3))
            )
            listed = await client.call_tool("list_tasks", {"limit": 100})
            assert listed.structured_content is not None
            seen[token + mode] = [task["title"] for task in listed.structured_content["tasks"]]

    async def all_at_once() -> None:
        await asyncio.gather(*(act(token, mode) for token in tokens for mode in ("auto", "legacy")))

    anyio.run(all_at_once)

    assert len(seen) == USERS * 2
    for key, titles in seen.items():
        own = next(token for token in tokens if key.startswith(token))
        assert len(titles) >= 3
        assert all(title.startswith(own) for title in titles)


@pytest.mark.database
@pytest.mark.spec("MCP-41")
def test_without_a_caller_nothing_is_listed_or_done(operations: Operations) -> None:
    async def unsigned() -> CallToolResult:
        async with Client(ToolServer(TOOLS, operations), cache=None) as client:
            with pytest.raises(MCPError):
                await client.list_tools()
            return await client.call_tool("list_tasks", {})

    answer = anyio.run(unsigned)

    assert answer.is_error
    assert text_of(answer).startswith("Sign in first.")


@pytest.mark.spec("MCP-42")
def test_meta_of_an_outside_client_sets_neither_identity_nor_call(
    service: str, new_token: Callable[[], str], authenticator: Authenticator, superuser_url: str
) -> None:
    mine, other = new_token(), new_token()
    victim = authenticator.caller(other).user_id
    claims = {
        "call_id": "run_1-1-1",
        "run_id": "run_1",
        "user_id": victim,
        "sub": victim,
        "caller": {"user_id": victim, "scopes": ["read", "write"]},
        "authorization": f"Bearer {other}",
        "idempotency_key": "claimed",
    }

    for mode in ("auto", "legacy"):
        with over_http(service, mine, mode) as session:
            for _ in range(2):
                done = session.call("add_task", claims, title="mine")
                assert not done.is_error, text_of(done)

    rows = query(
        superuser_url,
        "select user_id, door, run_id, call_id, idempotency_key from operations where user_id in (%s, %s)",
        victim,
        authenticator.caller(mine).user_id,
    )
    assert rows == [(authenticator.caller(mine).user_id, "mcp", None, None, None)] * 4


@pytest.mark.spec("MCP-43")
def test_the_caller_is_never_taken_from_other_headers(
    service: str, new_token: Callable[[], str], authenticator: Authenticator
) -> None:
    mine, other = new_token(), new_token()
    victim = authenticator.caller(other).user_id
    call = {"name": "list_tasks", "arguments": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    claims = {
        "Accept": "application/json, text/event-stream",
        "Cookie": f"token={other}; session={other}; access_token={other}",
        "X-Authorization": f"Bearer {other}",
        "Proxy-Authorization": f"Bearer {other}",
        "X-User-Id": victim,
        "X-Forwarded-User": victim,
        "Mcp-Session-Id": other,
        "X-Api-Key": other,
    }
    with over_http(service, other) as session:
        session.result("add_task", title="of the other")

    with httpx.Client(base_url=service, headers=claims) as client:
        as_nobody = client.post(f"/mcp?token={other}&access_token={other}&user_id={victim}", json=body)
        as_me = client.post("/mcp", json=body, headers={"Authorization": f"Bearer {mine}"})
        as_both = client.post(
            "/mcp", json=body, headers=[("Authorization", f"Bearer {mine}"), ("Authorization", f"Bearer {other}")]
        )

    assert as_nobody.status_code == 401
    assert as_me.status_code == 200
    assert "of the other" not in as_me.text
    assert as_both.status_code == 401


@pytest.mark.spec("MCP-44")
def test_a_crash_tells_nothing_of_its_cause(operations: Operations, alice: Caller) -> None:
    async def crashed() -> CallToolResult:
        async with Client(ToolServer((crash,), operations), cache=None) as client:
            with acting_as(alice):
                return await client.call_tool("crash", {})

    answer = anyio.run(crashed)

    assert answer.is_error
    assert text_of(answer) == "Something went wrong on our side. Try again; if it stays, report it."


@pytest.mark.spec("MCP-45")
def test_a_replayed_failure_is_a_failure(operations: Operations, alice: Caller) -> None:
    async def twice() -> list[CallToolResult]:
        server, call = ToolServer(TOOLS, operations), Call(run_id="run_replayed", call_id="run_replayed-1-1")
        with acting_as(alice):
            return [await server.call_tool(complete_task.name, {"task_id": 77}, call=call) for _ in range(2)]

    first, second = anyio.run(twice)

    assert first.is_error
    assert second.is_error
    assert text_of(first) == text_of(second) == "Task 77 does not exist.\nCall list_tasks to see the user's tasks."
