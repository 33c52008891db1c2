"""`/mcp` over plain HTTP: who may come in, from where, and what is no message."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from backend.process import TOOLS
from backend.settings import Settings
from tests.conftest import serving
from tests.mcp_server.sessions import over_http, text_of

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
MODERN = {"Mcp-Protocol-Version": "2026-07-28"}


def posted(client: httpx.Client, body: Any, path: str = "/mcp", /, **headers: str) -> httpx.Response:
    """Post a body to `/mcp` with the headers that every MCP client sends."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=content, headers=ACCEPT | named)


@pytest.fixture
def stranger(service: str) -> Iterator[httpx.Client]:
    """An HTTP client without a token."""
    with httpx.Client(base_url=service, timeout=30) as client:
        yield client


@pytest.mark.spec("MCP-20")
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Basic dXNlcjpwYXNz",
        "Bearer " + "x" * 5_000,
        "Bearer dts_'; drop table users; --",
    ],
)
def test_without_a_valid_token_nobody_comes_in(stranger: httpx.Client, authorization: str | None) -> None:
    refused = posted(stranger, PING, **({} if authorization is None else {"Authorization": authorization}))

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer ")
    assert refused.headers["content-type"] == "application/json"
    assert refused.json().keys() == {"error", "error_description"}
    assert refused.json()["error"] == "invalid_token"
    assert refused.json()["error_description"].endswith(".")


@pytest.mark.spec("MCP-20")
def test_an_expired_token_does_not_come_in(
    stranger: httpx.Client, new_token: Callable[[], str], api_token: Callable[..., str]
) -> None:
    expired = api_token(new_token(), hours=-1)

    assert posted(stranger, PING, Authorization=f"Bearer {expired}").status_code == 401


@pytest.mark.spec("MCP-20")
def test_a_revoked_token_stops_working_at_once(stranger: httpx.Client, guest: httpx.Client) -> None:
    made = guest.post("/api/tokens", json={"name": "mcp"}).json()
    token = next(value for value in made.values() if isinstance(value, str) and len(value) > 40)
    assert posted(stranger, PING, Authorization=f"Bearer {token}").status_code == 200

    guest.delete(f"/api/tokens/{made['id']}")

    assert posted(stranger, PING, Authorization=f"Bearer {token}").status_code == 401


@pytest.mark.spec("MCP-20")
def test_a_session_that_was_ended_does_not_come_in(guest: httpx.Client) -> None:
    assert posted(guest, PING).status_code == 200

    guest.post("/api/auth/logout")

    assert posted(guest, PING).status_code == 401


@pytest.mark.spec("MCP-21")
def test_a_read_only_token_sees_and_does_reads_alone(
    service: str, new_token: Callable[[], str], api_token: Callable[..., str]
) -> None:
    token = new_token()
    with over_http(service, token) as owner:
        task_id = owner.result("add_task", title="milk")["task_id"]

    with over_http(service, api_token(token, "read")) as reader:
        assert list(reader.tools()) == [tool.name for tool in TOOLS if not tool.writes]
        assert reader.result("get_task", task_id=task_id)["title"] == "milk"
        for tool, arguments in (("delete_task", {"task_id": task_id}), ("add_task", {"title": "x"})):
            refused = reader.call(tool, **arguments)
            assert refused.is_error
            assert text_of(refused) == "This token may not write.\nUse a token with the scope `write`."
        assert [task["title"] for task in reader.result("list_tasks")["tasks"]] == ["milk"]


@pytest.mark.spec("MCP-21")
def test_a_write_only_token_sees_writes_alone(
    service: str, new_token: Callable[[], str], api_token: Callable[..., str]
) -> None:
    with over_http(service, api_token(new_token(), "write")) as writer:
        assert list(writer.tools()) == [tool.name for tool in TOOLS if tool.writes]
        assert writer.call("list_tasks").is_error


@pytest.mark.spec("MCP-22")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "docutalk.example"}, 421),
        ({"Origin": "http://localhost:5173"}, 200),
        ({"Origin": "http://127.0.0.1:6274"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("revision", [{}, MODERN], ids=["2025-11-25", "2026-07-28"])
def test_a_foreign_host_or_origin_is_refused(
    guest: httpx.Client, headers: dict[str, str], status: int, revision: dict[str, str]
) -> None:
    answer = posted(guest, modern("tools/list") if revision else PING, **headers, **(named("tools/list", revision)))

    assert answer.status_code == status


@pytest.mark.spec("MCP-22")
def test_the_public_host_is_accepted(make_settings: Callable[..., Settings], guest: httpx.Client) -> None:
    token = guest.headers["Authorization"]
    settings = make_settings(host="0.0.0.0", public_url="https://Tasks.Example.com:443")  # noqa: S104  # not bound here
    with serving(settings) as url, httpx.Client(base_url=url, headers={"Authorization": token}) as client:
        assert posted(client, PING, Host="tasks.example.com").status_code == 200
        assert posted(client, PING, Host="tasks.example.com:443").status_code == 200
        assert posted(client, PING, Host="tasks.example.com", Origin="https://tasks.example.com").status_code == 200
        assert posted(client, PING, Host="tasks.example.com", Origin="http://tasks.example.com").status_code == 403
        assert posted(client, PING, Host="other.example.com").status_code == 421


@pytest.mark.spec("MCP-22")
def test_a_container_that_does_not_know_its_name_accepts_any(
    make_settings: Callable[..., Settings], guest: httpx.Client
) -> None:
    settings = make_settings(host="0.0.0.0")  # noqa: S104  # not bound here
    token = guest.headers["Authorization"]
    with serving(settings) as url, httpx.Client(base_url=url, headers={"Authorization": token}) as client:
        assert posted(client, PING, Host="whatever.example").status_code == 200
        client.headers.pop("Authorization")
        assert posted(client, PING, Host="whatever.example").status_code == 401


@pytest.mark.spec("MCP-23")
def test_a_trailing_slash_is_the_same_without_a_redirect(guest: httpx.Client) -> None:
    assert posted(guest, PING, "/mcp/").status_code == 200


@pytest.mark.spec("MCP-24")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
def test_messages_come_by_post_alone(guest: httpx.Client, stranger: httpx.Client, method: str) -> None:
    refused = guest.request(method, "/mcp", headers={"Accept": "text/event-stream"})

    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
    assert refused.json()["error"]["message"] == "Send each message with POST."
    assert stranger.request(method, "/mcp").status_code == 401


@pytest.mark.spec("MCP-25")
def test_a_browser_of_an_allowed_origin_may_ask(stranger: httpx.Client) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version",
    }

    allowed = stranger.options("/mcp", headers={"Origin": "http://localhost:5173", **asked})
    refused = stranger.options("/mcp", headers={"Origin": "https://evil.example", **asked})

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.spec("MCP-25")
def test_a_browser_may_read_why_it_was_refused(stranger: httpx.Client) -> None:
    refused = posted(stranger, PING, Origin="http://localhost:5173")

    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert "www-authenticate" in refused.headers["access-control-expose-headers"].lower()


@pytest.mark.spec("MCP-26")
@pytest.mark.parametrize("revision", [{}, MODERN], ids=["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"SECRET", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', -32700),
        (b"null", -32600),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"method":"SECRET"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"SECRET"}', -32600),
        (b'{"jsonrpc":"2.0","id":{"SECRET":1},"method":["SECRET"]}', -32600),
    ],
)
def test_what_is_no_message_is_refused_in_the_protocols_words(
    guest: httpx.Client, body: bytes, code: int, revision: dict[str, str]
) -> None:
    refused = posted(guest, body, **named("tools/list", revision))

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == code
    assert "SECRET" not in refused.text
    assert "pydantic" not in refused.text


@pytest.mark.spec("MCP-26")
@pytest.mark.parametrize("params", [None, [1], {}, {"name": 1}, {"name": "add_task", "arguments": ["title"]}])
def test_a_call_of_the_wrong_shape_is_refused(guest: httpx.Client, params: Any) -> None:
    refused = posted(guest, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

    assert refused.status_code in (200, 400)
    assert '"code":-326' in refused.text
    assert "pydantic" not in refused.text


@pytest.mark.spec("MCP-27")
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_a_megabyte_is_refused(guest: httpx.Client, declared: bool) -> None:
    pieces = [b" " * 65_536] * 17

    refused = guest.post("/mcp", content=b"".join(pieces) if declared else iter(pieces), headers=ACCEPT)

    assert refused.status_code == 413


@pytest.mark.spec("MCP-28")
def test_a_client_may_open_with_initialize_and_needs_no_session(guest: httpx.Client) -> None:
    client = {"name": "old", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}

    opened = posted(guest, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})

    assert '"protocolVersion":"2025-11-25"' in opened.text
    assert "mcp-session-id" not in opened.headers
    assert posted(guest, {"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    listed = posted(guest, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, Mcp_Session_Id="made-up")
    assert '"add_task"' in listed.text


def modern(method: str) -> dict[str, Any]:
    """Return a request of the revision 2026-07-28, which carries its client with it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN["Mcp-Protocol-Version"],
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}}


def named(method: str, revision: dict[str, str]) -> dict[str, str]:
    """Return the headers of a revision; the newer one repeats the method in a header."""
    return revision | ({"Mcp-Method": method} if revision else {})
