"""Another user's data does not exist, as shown for every route of the app and every tool of the MCP server.

`ROUTES` and `TOOLS` list how each is called. A test fails for a route or tool without a line here.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from sqlmodel import SQLModel

from backend.app import create_app
from backend.postgres.database import make_engine
from backend.process import TOOLS as PUBLISHED
from backend.settings import Settings
from tests.conftest import signed_in_guest, wait_until

pytestmark = pytest.mark.database


@dataclass(frozen=True)
class Way:
    """One way to call a route. Names in braces are replaced by ids of the other user, which must give a 404."""

    body: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    path: str | None = None
    """The path, if it is not the route's own."""
    accept: str = "application/json, text/event-stream;q=0.1"
    file: str | None = None
    """The text of a file to upload."""

    def names_a_row(self, path: str) -> bool:
        return any("{" in str(value) for value in (self.path or path, *(self.body or {}).values()))


HELLO = {"message": "Show me all my tasks"}
EVENTS = "text/event-stream"
ROUTES: dict[str, list[Way]] = {
    "GET /": [Way()],
    "GET /docs": [Way()],
    "GET /openapi.json": [Way()],
    "GET /static/{path}": [Way(path="/static/app.js")],
    "GET /health": [Way()],
    "GET /health/db": [Way()],
    "GET /ready": [Way()],
    "GET /metrics": [Way()],
    "POST /api/auth/guest": [Way({}, status=201)],
    "POST /api/auth/logout": [Way(status=204)],
    "GET /api/me": [Way()],
    "PATCH /api/me": [Way({"name": "B"})],
    "DELETE /api/me": [Way(status=204)],
    "GET /api/tokens": [Way()],
    "POST /api/tokens": [Way({"name": "b"}, status=201)],
    "DELETE /api/tokens/{token_id}": [Way()],
    "GET /api/tasks": [
        Way(),
        Way(params={"status": "pending"}),
        Way(params={"query": "MARKER"}),
        Way(params={"tag": "MARKER"}),
        Way(params={"cursor": "1"}),
        Way(params={"due_before": "next year"}),
        Way(params={"priority": "none", "sort": "-title"}),
    ],
    "POST /api/tasks": [Way({"title": "of b"}, status=201)],
    "GET /api/tasks/{task_id}": [Way()],
    "PATCH /api/tasks/{task_id}": [Way({"title": "taken"}), Way({"completed": True}), Way({})],
    "DELETE /api/tasks/{task_id}": [Way()],
    "GET /api/{user_id}/tasks": [Way(), Way(params={"query": "MARKER"})],
    "POST /api/{user_id}/tasks": [Way({"title": "of b"})],
    "GET /api/{user_id}/tasks/{task_id}": [Way()],
    "PUT /api/{user_id}/tasks/{task_id}": [Way({"title": "taken"})],
    "PATCH /api/{user_id}/tasks/{task_id}": [Way({"title": "taken"})],
    "PATCH /api/{user_id}/tasks/{task_id}/complete": [Way()],
    "DELETE /api/{user_id}/tasks/{task_id}": [Way()],
    "POST /api/documents": [Way(file="of b", status=202), Way(file="Note on MARKER.", status=202)],
    "POST /api/documents/upload": [Way(file="Note on MARKER.", status=202)],
    "GET /api/documents": [
        Way(),
        Way(params={"status": "ready"}),
        Way(params={"query": "MARKER"}),
        Way(params={"cursor": "2000000000"}),
    ],
    "GET /api/documents/{document_id}": [Way()],
    "DELETE /api/documents/{document_id}": [Way(), Way(params={"purge": "true"})],
    "GET /api/documents/{document_id}/pages/{page_number}": [Way()],
    "GET /api/documents/{document_id}/passages/{passage_id}": [Way()],
    "GET /api/documents/{document_id}/content": [Way()],
    "POST /api/search": [
        Way({"query": "Note on MARKER."}),
        Way({"query": "note", "document_ids": ["{document_id}"]}),
    ],
    "GET /api/conversations": [Way(), Way(params={"query": "MARKER"})],
    "GET /api/conversations/{conversation_id}": [Way()],
    "PATCH /api/conversations/{conversation_id}": [Way({"title": "taken"})],
    "DELETE /api/conversations/{conversation_id}": [Way()],
    "GET /api/runs/{run_id}": [Way()],
    "GET /api/runs/{run_id}/events": [Way(accept=EVENTS)],
    "POST /api/runs/{run_id}/cancel": [Way()],
    "POST /api/runs/{run_id}/undo": [Way(), Way({"dry_run": True})],
    "POST /api/operations/{operation_id}/undo": [Way(), Way({"dry_run": True})],
    "POST /api/chat": [
        Way(HELLO),
        Way(HELLO, accept=EVENTS),
        Way({**HELLO, "conversation_id": "{conversation_id}"}),
        Way({**HELLO, "conversation_id": "{conversation_id}"}, accept=EVENTS),
    ],
    "POST /api/{user_id}/chat": [Way(HELLO), Way({**HELLO, "conversation_id": "{conversation_id}"})],
    "* /mcp": [Way({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})],
}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "add_task": [{"title": "of b"}],
    "list_tasks": [
        {},
        {"status": "pending"},
        {"query": "MARKER"},
        {"tag": "MARKER"},
        {"cursor": "1"},
        {"priority": "none", "sort": "-title"},
    ],
    "get_task": [{"task_id": "{task_id}"}],
    "update_task": [{"task_id": "{task_id}", "title": "taken"}],
    "complete_task": [{"task_id": "{task_id}"}],
    "reopen_task": [{"task_id": "{task_id}"}],
    "delete_task": [{"task_id": "{task_id}"}],
    "search_documents": [{"query": "Note on MARKER."}, {"query": "note", "document_ids": ["{document_id}"]}],
    "list_documents": [{}, {"status": "ready"}, {"query": "MARKER"}, {"cursor": "2000000000"}],
    "read_document": [{"document_id": "{document_id}"}],
    "add_document": [{"title": "of b", "text": "of b"}, {"title": "of b", "text": "Note on MARKER."}],
    "search": [{"query": "Note on MARKER."}],
    "fetch": [{"id": "document-{document_id}"}, {"id": "document-{document_id}-page-1"}, {"id": "task-{task_id}"}],
    "create_tasks_from_document": [
        {"document_id": "{document_id}"},
        {"document_id": "{document_id}", "dry_run": False},
    ],
    "undo": [{"operation_id": "{operation_id}"}, {"run_id": "{run_id}"}],
}
SAID = [
    "Show me all my tasks",
    "What's pending?",
    "What have I completed?",
    "Mark task {task_id} as complete",
    "Reopen task {task_id}",
    "Delete task {task_id}",
    "Change task {task_id} to 'taken'",
    "Delete the MARKER task",
    "What documents do I have?",
    "What is the note about?",
    "Search my documents for MARKER",
    "Read document {document_id}",
    "Create tasks from document {document_id}",
]


@dataclass(frozen=True)
class Other:
    """Another user with data from every door, each row with the marker in it."""

    marker: str
    ids: dict[str, Any]
    rows: Callable[[], list[Any]]
    """Returns all rows of theirs, past the policies."""


NOBODY = {
    "task_id": 2_000_000_001,
    "conversation_id": 2_000_000_002,
    "token_id": 2_000_000_003,
    "document_id": 2_000_000_004,
    "passage_id": 2_000_000_005,
    "page_number": 1,
    "operation_id": 2_000_000_006,
    "run_id": "0" * 32,
}


@pytest.fixture(scope="module")
def other(service: str, superuser_url: str) -> Iterator[Other]:
    marker = f"zebra{secrets.token_hex(4)}"
    with signed_in_guest(service) as client:
        client.patch("/api/me", json={"name": marker}).raise_for_status()
        token = client.post("/api/tokens", json={"name": marker}).raise_for_status().json()
        wanted = {"title": f"rest {marker}", "description": marker, "tags": [marker], "due": "tomorrow"}
        client.post("/api/tasks", json=wanted, headers={"Idempotency-Key": marker}).raise_for_status()
        call_tool(client, "add_task", {"title": f"mcp {marker}"})
        # Several tasks, so that the last one has a number that the caller's tasks do not have.
        said = {"message": f"Add a task to buy {marker}"}
        *_, reply = [client.post("/api/chat", json=said).raise_for_status().json() for _ in range(4)]
        document_id = with_documents(client, marker)
        [passage, *_] = client.post("/api/search", json={"query": marker}).raise_for_status().json()["passages"]
        user_id = client.get("/api/me").json()["id"]
        tasks = client.get("/api/tasks").json()["tasks"]
    assert [marker in task["title"] for task in tasks] == [True] * 7
    ids = {
        "task_id": tasks[-1]["id"],
        "conversation_id": reply["conversation_id"],
        "run_id": reply["run_id"],
        "token_id": token["id"],
        "user_id": user_id,
        "document_id": document_id,
        "passage_id": passage["id"],
        "page_number": 1,
        "operation_id": reply["tool_calls"][0]["operation_id"],
    }

    def rows() -> list[Any]:
        tables = [table for table in SQLModel.metadata.sorted_tables if "user_id" in table.columns]
        with engine.connect() as connection:
            mine = [select(t).where(t.c.user_id == user_id).order_by(*t.primary_key) for t in tables]
            return [connection.execute(statement).all() for statement in mine]

    engine = make_engine(superuser_url)
    assert str(rows()).count(marker) > 10
    yield Other(marker, ids, rows)
    engine.dispose()


def with_documents(client: httpx.Client, marker: str) -> int:
    """Give a user documents through every door and a task from one of them; return that document's number.

    All documents are indexed by then.
    """
    note = {"title": marker, "text": f"Note on {marker}."}
    call_tool(client, "add_document", note)
    upload = {"file": (f"{marker}.md", f"# Note on {marker}\n\n- [ ] Feed {marker}\n")}
    document_id: int = client.post("/api/documents", files=upload).raise_for_status().json()["id"]

    def is_ready() -> bool:
        documents = client.get("/api/documents").raise_for_status().json()["documents"]
        return [document["status"] for document in documents] == ["ready"] * 2

    wait_until(is_ready, seconds=60)
    made = call_tool(client, "create_tasks_from_document", {"document_id": document_id, "dry_run": False})
    assert made["structuredContent"]["tasks"][0]["title"] == f"Feed {marker}"
    return document_id


@pytest.fixture(scope="module")
def routes(make_settings: Callable[..., Settings]) -> set[str]:
    """Every route of the app, as "METHOD /path"."""
    found = set()
    for route in iter_route_contexts(create_app(make_settings()).routes):
        for method in set(route.methods or ["*"]) - {"HEAD"}:
            found.add(f"{method} {re.sub(r':[a-z]+}', '}', route.path or '')}")
    return found


@pytest.mark.spec("ISO-1")
def test_every_route_and_every_tool_says_how_another_user_would_call_it(routes: set[str]) -> None:
    tools = {tool.name for tool in PUBLISHED}

    assert routes == set(ROUTES), "Say in ROUTES how a stranger calls the new route, and remove the one that is gone."
    assert tools == set(TOOLS), "Say in TOOLS how a stranger calls the new tool, and remove the one that is gone."


@pytest.mark.spec("ISO-2")
@pytest.mark.parametrize("route", ROUTES)
def test_no_route_knows_anything_of_another_user(guest: httpx.Client, other: Other, route: str) -> None:
    method, path = route.replace("*", "POST").split(" ")
    before = other.rows()

    for way in ROUTES[route]:
        answer = ask(guest, method, path, way, other, other.ids)
        if not way.names_a_row(path):
            assert answer.status_code == way.status, answer.text
            continue
        assert answer.status_code == 404, answer.text
        nobody = NOBODY | {"run_id": secrets.token_hex(16), "user_id": f"guest_{secrets.token_hex(16)}"}
        assert without_ids(answer.text) == without_ids(ask(guest, method, path, way, other, nobody).text)

    assert other.rows() == before


@pytest.mark.spec("ISO-3")
@pytest.mark.parametrize("tool", TOOLS)
def test_no_tool_knows_anything_of_another_user(guest: httpx.Client, other: Other, tool: str) -> None:
    before = other.rows()

    for arguments in TOOLS[tool]:
        filled = fill(arguments, other, other.ids)
        answer = call_tool(guest, tool, filled)
        assert other.marker not in json.dumps(answer).replace(json.dumps(filled), "")
        assert answer["isError"] is ("{" in str(arguments.values()))
        if answer["isError"]:
            assert "does not exist" in answer["content"][0]["text"]
            nobody = call_tool(guest, tool, fill(arguments, other, NOBODY))
            assert without_ids(json.dumps(answer)) == without_ids(json.dumps(nobody))

    assert other.rows() == before


@pytest.mark.spec("ISO-4")
def test_no_sentence_in_chat_reaches_another_user(guest: httpx.Client, other: Other) -> None:
    before = other.rows()
    conversation: dict[str, Any] = {}

    for sentence in SAID:
        said = fill({"message": sentence}, other, other.ids)["message"]
        reply = guest.post("/api/chat", json={"message": said, **conversation}).raise_for_status().json()
        conversation = {"conversation_id": reply["conversation_id"]}
        events = guest.get(f"/api/runs/{reply['run_id']}/events").raise_for_status().text
        if other.marker not in said:
            assert other.marker not in json.dumps(reply) + events
        for call in reply["tool_calls"]:
            assert other.marker not in json.dumps(call["result"])

    assert other.rows() == before
    listed = guest.get("/api/conversations").json()["conversations"]
    assert [item["id"] for item in listed] == [conversation["conversation_id"]]
    assert guest.get("/api/tasks").json()["tasks"] == []


@pytest.mark.spec("ISO-5")
def test_users_at_the_same_moment_see_only_their_own(service: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(signed_in_guest(service)) for _ in range(6)]
        markers = [f"zebra{secrets.token_hex(4)}" for _ in clients]
        for client, marker in zip(clients, markers, strict=True):
            client.post("/api/tasks", json={"title": marker}).raise_for_status()

        def request(number: int) -> tuple[int, str]:
            client, marker = clients[number % 6], markers[number % 6]
            match number // 6:
                case 0:
                    return number, client.get("/api/tasks").raise_for_status().text
                case 1:
                    return number, json.dumps(call_tool(client, "list_tasks", {}))
                case 2:
                    return number, json.dumps(call_tool(client, "add_task", {"title": f"more {marker}"}))
                case 3:
                    return number, client.post("/api/chat", json=HELLO).raise_for_status().text
                case _:
                    return number, json.dumps(call_tool(client, "get_task", {"task_id": 1}))

        with ThreadPoolExecutor(30) as threads:
            answers = list(threads.map(request, range(30)))

    for number, answer in answers:
        assert set(re.findall(r"zebra[0-9a-f]{8}", answer)) == {markers[number % 6]}


def ask(client: httpx.Client, method: str, path: str, way: Way, other: Other, ids: dict[str, Any]) -> httpx.Response:
    """Call a route, and check the answer for the marker."""
    url = path.format_map(ids) if way.path is None else way.path
    answer = client.request(
        method,
        url,
        params=fill(way.params, other, ids),
        json=None if way.body is None else fill(way.body, other, ids),
        files=None if way.file is None else {"file": ("b.md", way.file.replace("MARKER", other.marker))},
        headers={"Accept": "application/json, text/event-stream" if path == "/mcp" else way.accept},
    )
    assert other.marker not in answer.text
    assert other.marker not in str(answer.headers)
    return answer


def fill(given: dict[str, Any], other: Other, ids: dict[str, Any]) -> dict[str, Any]:
    """Replace names by ids and the marker; a value that is only an id keeps its type."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(item) for item in value]
        if not isinstance(value, str):
            return value
        if (name := value.strip("{}")) in ids and value != name:
            return ids[name]
        for name, item in ids.items():
            value = value.replace(f"{{{name}}}", str(item))
        return value.replace("MARKER", other.marker)

    return {name: filled(value) for name, value in given.items()}


def without_ids(answer: str) -> str:
    """Return an answer with every number and id replaced by the same letter."""
    return re.sub(r"[0-9a-f]{32}|[0-9]+", "N", answer)


def call_tool(client: httpx.Client, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool over `/mcp` and return its result."""
    answer = client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}},
        headers={"Accept": "application/json, text/event-stream"},
    ).raise_for_status()
    [data] = [line.removeprefix("data:") for line in answer.text.splitlines() if line.startswith("data:")]
    result: dict[str, Any] = json.loads(data)["result"]
    return result
