"""Personal access tokens."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import query
from tests.problem import refused

MCP_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def with_token(service: str, token: str) -> httpx.Client:
    """Return a client that sends a token."""
    return httpx.Client(base_url=service, timeout=30, headers={"Authorization": f"Bearer {token}"})


def made(guest: httpx.Client, **wanted: Any) -> dict[str, Any]:
    """Create a token."""
    answer = guest.post("/api/tokens", json={"name": "laptop", **wanted})
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()
    return token


def mcp(client: httpx.Client, method: str, **params: Any) -> dict[str, Any]:
    """Make one MCP request and return its result."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = client.post("/mcp", json=body, headers=MCP_HEADERS).raise_for_status()
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        text = next(line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))
    result: dict[str, Any] = httpx.Response(200, text=text).json()["result"]
    return result


@pytest.fixture
def reader(guest: httpx.Client, service: str) -> Iterator[httpx.Client]:
    """A client whose token may only read."""
    with with_token(service, made(guest, scopes=["read"])["token"]) as client:
        yield client


@pytest.mark.spec("IDENT-13")
def test_a_token_is_shown_once_and_kept_as_its_hash(guest: httpx.Client, service: str, superuser_url: str) -> None:
    token = made(guest, name="  laptop ", expires_in_days=7)

    [listed] = guest.get("/api/tokens").json()["tokens"]
    assert listed == {name: value for name, value in token.items() if name != "token"}
    assert listed["name"] == "laptop"
    [(kept,)] = query(
        superuser_url,
        "select token_hash from api_tokens where name = 'laptop' and user_id = %s",
        guest.get("/api/me").json()["id"],
    )
    assert kept == hashlib.sha256(token["token"].encode()).hexdigest()
    with with_token(service, token["token"]) as client:
        assert client.get("/api/me").json()["id"] == guest.get("/api/me").json()["id"]


@pytest.mark.spec("IDENT-14")
def test_a_revoked_token_stops_working_at_once(guest: httpx.Client, service: str) -> None:
    token = made(guest)
    with with_token(service, token["token"]) as client:
        assert client.get("/api/tasks").status_code == 200

        assert guest.delete(f"/api/tokens/{token['id']}").status_code == 204

        refused(client.get("/api/tasks"), 401, "unauthorized")
        assert client.post("/mcp", json={}, headers=MCP_HEADERS).status_code == 401
    refused(guest.delete(f"/api/tokens/{token['id']}"), 404, "not_found")


@pytest.mark.spec("IDENT-15")
def test_an_expired_token_is_refused(guest: httpx.Client, service: str, superuser_url: str) -> None:
    token = made(guest, expires_in_days=1)
    with with_token(service, token["token"]) as client:
        assert client.get("/api/tasks").status_code == 200

        query(
            superuser_url,
            "update api_tokens set expires_at = now() where token_hash = %s",
            hashlib.sha256(token["token"].encode()).hexdigest(),
        )

        refused(client.get("/api/tasks"), 401, "unauthorized")


@pytest.mark.spec("IDENT-15")
def test_a_token_can_be_made_to_last(guest: httpx.Client) -> None:
    assert made(guest, expires_in_days=None)["expires_at"] is None


@pytest.mark.spec("IDENT-16")
def test_a_reading_token_writes_through_no_door(guest: httpx.Client, reader: httpx.Client, superuser_url: str) -> None:
    task = guest.post("/api/tasks", json={"title": "Milk"}).json()

    refused(reader.post("/api/tasks", json={"title": "Bread"}), 403, "forbidden")
    refused(reader.patch("/api/tasks/1", json={"title": "Bread"}), 403, "forbidden")
    refused(reader.delete("/api/tasks/1"), 403, "forbidden")
    refused(reader.patch("/api/me", json={"name": "Eve"}), 403, "forbidden")
    refused(reader.post("/api/chat", json={"message": "Add a task to buy bread"}), 403, "forbidden")
    denied = mcp(reader, "tools/call", name="add_task", arguments={"title": "Bread"})
    assert denied["isError"] is True
    assert "may not write" in denied["content"][0]["text"]

    assert guest.get("/api/tasks").json()["tasks"] == [task]
    assert reader.get("/api/tasks").json()["tasks"] == [task]
    outcomes = query(
        superuser_url,
        "select door, tool, outcome from operations where user_id = %s and outcome = 'denied' order by id",
        guest.get("/api/me").json()["id"],
    )
    assert outcomes == [
        ("rest", "add_task", "denied"),
        ("rest", "edit_task", "denied"),
        ("rest", "delete_task", "denied"),
        ("mcp", "add_task", "denied"),
    ]


@pytest.mark.spec("IDENT-17")
def test_a_reading_token_sees_only_reading_tools(guest: httpx.Client, reader: httpx.Client) -> None:
    seen = {tool["name"] for tool in mcp(reader, "tools/list")["tools"]}
    every = {tool["name"]: tool["annotations"]["readOnlyHint"] for tool in mcp(guest, "tools/list")["tools"]}

    assert seen == {name for name, reads in every.items() if reads}
    assert "list_tasks" in seen
    assert "add_task" not in seen


@pytest.mark.spec("IDENT-18")
def test_a_token_makes_no_tokens_and_deletes_no_account(guest: httpx.Client, service: str) -> None:
    token = made(guest)
    with with_token(service, token["token"]) as client:
        refused(client.post("/api/tokens", json={"name": "more"}), 403, "forbidden")
        refused(client.delete(f"/api/tokens/{token['id']}"), 403, "forbidden")
        refused(client.delete("/api/me"), 403, "forbidden")
        refused(client.post("/api/auth/logout"), 403, "forbidden")
        assert client.get("/api/me").status_code == 200
    assert [item["id"] for item in guest.get("/api/tokens").json()["tokens"]] == [token["id"]]


@pytest.mark.spec("IDENT-19")
def test_tokens_of_others_do_not_exist(guest: httpx.Client, other_guest: httpx.Client) -> None:
    token = made(guest)

    theirs = refused(other_guest.delete(f"/api/tokens/{token['id']}"), 404, "not_found")
    nobodys = refused(other_guest.delete("/api/tokens/999999"), 404, "not_found")

    assert theirs["detail"].replace(str(token["id"]), "N") == nobodys["detail"].replace("999999", "N")
    assert other_guest.get("/api/tokens").json()["tokens"] == []


@pytest.mark.spec("IDENT-20")
def test_the_use_of_a_token_is_noted(guest: httpx.Client, service: str) -> None:
    token = made(guest)
    assert token["last_used_at"] is None

    with with_token(service, token["token"]) as client:
        client.get("/api/tasks").raise_for_status()

    assert guest.get("/api/tokens").json()["tokens"][0]["last_used_at"] is not None


@pytest.fixture
def docutalk(database_url: str, tmp_path: Path) -> Any:
    """Run the command against the tests' database."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backend.cli", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "DATA_DIR": str(tmp_path),
                "DATABASE_URL": database_url,
                "MIGRATE_ON_START": "false",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.spec("IDENT-21")
def test_the_command_makes_a_token_for_the_owner(service: str, docutalk: Any) -> None:
    done = docutalk("token", "create", "--name", "desktop", "--scope", "read", "--days", "3")

    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    with with_token(service, secret) as client:
        me = client.get("/api/me").json()
        [token] = [item for item in client.get("/api/tokens").json()["tokens"] if item["name"] == "desktop"]
        refused(client.post("/api/tasks", json={"title": "No"}), 403, "forbidden")
    assert (me["kind"], me["name"]) == ("person", "Owner")
    assert token["scopes"] == ["read"]


@pytest.mark.slow
@pytest.mark.spec("IDENT-21")
def test_the_command_makes_no_token_for_nobody(docutalk: Any) -> None:
    done = docutalk("token", "create", "--user", "guest_nobody")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "There is no user guest_nobody."


@pytest.mark.spec("IDENT-29")
def test_an_equal_request_makes_no_second_token_and_shows_no_secret(guest: httpx.Client) -> None:
    key = {"Idempotency-Key": "laptop-1"}
    first = guest.post("/api/tokens", json={"name": "laptop"}, headers=key).json()

    again = guest.post("/api/tokens", json={"name": "laptop"}, headers=key)

    refused(again, 409, "conflict")
    assert again.json()["token_id"] == first["id"]
    assert first["token"] not in again.text
    assert [token["id"] for token in guest.get("/api/tokens").json()["tokens"]] == [first["id"]]
    assert (
        guest.post("/api/tokens", json={"name": "laptop"}, headers={"Idempotency-Key": "laptop-2"}).status_code == 201
    )


@pytest.mark.spec("IDENT-29")
def test_a_user_has_at_most_a_hundred_tokens(guest: httpx.Client, superuser_url: str) -> None:
    user_id = guest.get("/api/me").json()["id"]
    made(guest)
    query(
        superuser_url,
        "insert into api_tokens (user_id, id, name, scopes, token_hash) "
        "select %s, number, 'old', '{read}', %s || number from generate_series(1001, 1099) number",
        user_id,
        user_id,
    )

    refused(guest.post("/api/tokens", json={"name": "one too many"}), 409, "conflict")
