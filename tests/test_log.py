"""The log of a real run: one line for each request, and never what people wrote."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import query, wait_until

MARK = "zebra-marker"
MCP_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@dataclass
class Run:
    """What a run logged, and the answers to its requests."""

    text: str
    lines: list[dict[str, Any]]
    errors: str
    user_id: str
    secrets: list[str]
    answers: dict[str, httpx.Response]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one request."""
        request_id = self.answers[name].headers["x-request-id"]
        return [line for line in self.lines if line.get("request_id") == request_id]


@pytest.fixture(scope="module")
def run(database_url: str, superuser_url: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Serve in a separate process at level DEBUG, send many requests, and read the log."""
    home = tmp_path_factory.mktemp("log")
    out, err = home / "stdout", home / "stderr"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DATA_DIR": str(home),
        "DATABASE_URL": database_url,
        "MIGRATE_ON_START": "false",
        "GUESTS_PER_HOUR": "0",
        "PORT": "0",
        "LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-m", "backend.cli", "serve"]
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            user_id, secrets, answers = asked(address_in(err), superuser_url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    text = out.read_text()
    return Run(text, [json.loads(line) for line in text.splitlines()], err.read_text(), user_id, secrets, answers)


def address_in(banner: Path) -> str:
    """Return the address that a service prints, once it is ready."""
    found = wait_until(lambda: re.search(r"API +(http://\S+)/docs", banner.read_text()), seconds=60)
    url = str(found.group(1))

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/ready").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(ready, seconds=60)
    return url


def asked(url: str, superuser_url: str) -> tuple[str, list[str], dict[str, httpx.Response]]:
    """Make requests of every kind, each with the marker in every place where people write."""
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(base_url=url, timeout=30) as client:
        given = client.post("/api/auth/guest").json()
        client.headers["Authorization"] = f"Bearer {given['token']}"
        client.patch("/api/me", json={"name": MARK}).raise_for_status()
        token = client.post("/api/tokens", json={"name": MARK}).json()["token"]
        answers["add"] = client.post(
            "/api/tasks",
            json={"title": f"{MARK} title", "description": MARK, "tags": [MARK]},
            headers={"Idempotency-Key": MARK},
        )
        answers["wrong"] = client.post("/api/tasks", json={"title": MARK * 100, "due": MARK, MARK: MARK})
        answers["list"] = client.get("/api/tasks", params={"query": MARK})
        answers["show"] = client.get("/api/tasks/1")
        answers["chat"] = client.post("/api/chat", json={"message": f"Add a task to {MARK} message"})
        answers["events"] = client.get(f"/api/runs/{answers['chat'].json()['run_id']}/events")
        client.patch("/api/conversations/1", json={"title": MARK}).raise_for_status()
        answers["unknown"] = client.get(f"/{MARK}?{MARK}")
        answers["malformed"] = client.post("/api/tasks", content=MARK.encode(), headers=MCP_HEADERS)
        call = {"name": "add_task", "arguments": {"title": f"{MARK} mcp", MARK: MARK}}
        answers["mcp"] = client.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}, headers=MCP_HEADERS
        )
        jwt = f"{MARK}.{MARK}.{MARK}"
        answers["jwt"] = httpx.get(f"{url}/api/me", headers={"Authorization": f"Bearer {jwt}"})
        answers["health"] = client.get("/health")
        answers["crash"], answers["crash mcp"], answers["crash chat"] = crashed(client, superuser_url)
    return given["user"]["id"], [given["token"], token, MARK], answers


def crashed(client: httpx.Client, superuser_url: str) -> list[httpx.Response]:
    """Make the database refuse rows for an unforeseen reason, and send it the marker."""
    query(superuser_url, f"alter table tasks add constraint broken check (title not ilike '%{MARK} crash%') not valid")
    title = f"{MARK} crash"
    call = {"name": "add_task", "arguments": {"title": title}}
    try:
        return [
            client.post("/api/tasks", json={"title": title}),
            client.post(
                "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}, headers=MCP_HEADERS
            ),
            client.post("/api/chat", json={"message": f"Add a task to {title}"}),
        ]
    finally:
        query(superuser_url, "alter table tasks drop constraint broken")


@pytest.mark.spec("LOG-1")
def test_every_line_is_one_json_object(run: Run) -> None:
    assert len(run.lines) > 30
    for line in run.lines:
        assert {"event", "level", "timestamp"} <= line.keys()


@pytest.mark.spec("LOG-2")
def test_each_request_is_told_once_with_its_route_and_time(run: Run) -> None:
    expected = {
        "add": ("POST", "/api/tasks", 201),
        "wrong": ("POST", "/api/tasks", 422),
        "list": ("GET", "/api/tasks", 200),
        "show": ("GET", "/api/tasks/{task_id}", 200),
        "chat": ("POST", "/api/chat", 200),
        "events": ("GET", "/api/runs/{run_id}/events", 200),
        "unknown": ("GET", "unknown", 404),
        "malformed": ("POST", "/api/tasks", 422),
        "mcp": ("POST", "/mcp", 200),
        "jwt": ("GET", "/api/me", 401),
        "health": ("GET", "/health", 200),
        "crash": ("POST", "/api/tasks", 500),
    }
    for name, (method, route, status) in expected.items():
        [line] = [line for line in run.of(name) if line["event"] == "request_finished"]
        assert (line["method"], line["route"], line["status"]) == (method, route, status), name
        assert run.answers[name].status_code == status
        assert line["latency_ms"] >= 0
        has_user = name not in ("unknown", "jwt", "health")
        assert line.get("user_id") == (run.user_id if has_user else None), name
        assert ("run_id" in line and "conversation_id" in line) == (name in ("chat", "events")), name


@pytest.mark.spec("LOG-3")
def test_each_write_is_told_with_its_table_user_and_outcome(run: Run) -> None:
    written = [(line["table"], line["outcome"]) for line in run.of("add") if line["event"] == "repository_write"]
    tables = {line["table"] for line in run.named("repository_write")}

    assert written == [("tasks", "added"), ("operations", "added")]
    rows_of_a_turn = {"conversations", "messages", "runs", "run_responses", "run_events", "operations", "usage"}
    assert {"users", "sessions", "api_tokens", "tasks"} | rows_of_a_turn <= tables
    assert all(line["user_id"] and line["outcome"] for line in run.named("repository_write"))


@pytest.mark.spec("LOG-4")
def test_what_is_known_is_bound_to_every_line(run: Run) -> None:
    [told] = [line for line in run.of("add") if line["event"] == "tool_performed"]
    assert (told["tool_name"], told["user_id"], told["door"], told["outcome"]) == (
        "add_task",
        run.user_id,
        "rest",
        "ok",
    )

    reply = run.answers["chat"].json()
    in_chat = [line for line in run.named("tool_performed") if line["door"] == "chat" and line["outcome"] == "ok"]
    assert (in_chat[0]["run_id"], in_chat[0]["conversation_id"]) == (reply["run_id"], reply["conversation_id"])
    assert in_chat[0]["user_id"] == run.user_id


@pytest.mark.spec("LOG-5")
def test_nothing_that_people_wrote_and_no_token_is_ever_logged(run: Run) -> None:
    for secret in run.secrets:
        assert secret not in run.text
        assert secret not in run.errors


@pytest.mark.spec("LOG-6")
def test_a_crash_is_told_by_its_kind_and_places(run: Run) -> None:
    [line] = [line for line in run.of("crash") if line["event"] == "request_crashed"]

    assert line["exception"] == "IntegrityError"
    assert any("perform" in place for place in line["trace"])
    assert (line["level"], line["user_id"]) == ("error", run.user_id)
