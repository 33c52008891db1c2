"""`docutalk mcp`: the protocol on stdout, all else on stderr, and a sentence where it cannot begin."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

from backend.app import create_app
from backend.errors import DocuTalkError, Unauthorized, Unavailable
from backend.mcp_server.stdio import bridge_stdio
from backend.settings import Settings
from tests.conftest import LONGEST_START, wait_until
from tests.mcp_server.sessions import COMMAND, bare_environment, over_stdio, text_of

SECONDS = 60


@pytest.mark.spec("MCP-30")
def test_stdout_holds_the_protocol_alone_and_the_end_of_stdin_ends_it(
    local_environment: Callable[[str], dict[str, str]], new_token: Callable[[], str]
) -> None:
    environment = local_environment(new_token()) | {"LOG_LEVEL": "DEBUG"}
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    lines: list[Any] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        "this is not JSON",
        [],
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "add_task", "arguments": {"title": "x"}},
        },
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "get_task", "arguments": {"no": 1}}},
        {"jsonrpc": "2.0", "id": 4, "method": "no/such/method"},
    ]

    with started(environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in lines:
            process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        process.stdin.flush()
        answers: dict[int, Any] = {}
        while answers.keys() < {1, 2, 3, 4}:
            answer = json.loads(process.stdout.readline())
            assert answer["jsonrpc"] == "2.0"
            answers[answer.get("id")] = answer
        rest, logged = process.communicate(timeout=SECONDS)

    assert answers[2]["result"]["structuredContent"]["title"] == "x"
    assert answers[3]["result"]["isError"] is True
    assert answers[4]["error"]["code"] == -32601
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest.splitlines())
    assert '"tool_performed"' in logged
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.spec("MCP-31")
@pytest.mark.parametrize(
    ("token", "arguments", "sentence"),
    [
        ("", [], "Set DOCUTALK_TOKEN to a token."),
        ("dtp_nonsense", [], "The token is not valid"),
        ("dtp_nonsense", ["--url", "SERVICE"], "does not take this token. Make a new one"),
        ("dtp_nonsense", ["--url", "http://127.0.0.1:9"], "does not answer (ConnectError). Check the address."),
    ],
)
def test_what_cannot_begin_ends_with_a_sentence(
    service: str,
    local_environment: Callable[[str], dict[str, str]],
    token: str,
    arguments: list[str],
    sentence: str,
) -> None:
    given = [service if argument == "SERVICE" else argument for argument in arguments]

    with started(local_environment(token), *given) as process:
        out, err = process.communicate(timeout=SECONDS)

    assert process.returncode == 1
    assert out == ""
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.spec("MCP-31")
@pytest.mark.parametrize(
    ("url", "token", "refusal"),
    [
        ("SERVICE", "nonsense", Unauthorized),
        ("SERVICE", "häßlich", Unauthorized),
        ("SERVICE", "two\nlines", Unauthorized),
        ("SERVICE/nowhere", "nonsense", Unavailable),
        ("http://127.0.0.1:9", "nonsense", Unavailable),
        ("http://[", "nonsense", Unavailable),
        ("localhost:9", "nonsense", Unavailable),
        ("", "nonsense", Unavailable),
    ],
)
def test_a_wrong_address_or_token_is_told_before_the_protocol_begins(
    service: str, url: str, token: str, refusal: type[DocuTalkError]
) -> None:
    with pytest.raises(refusal, match=r"\.$"):
        anyio.run(bridge_stdio, url.replace("SERVICE", service), token)


@pytest.mark.spec("MCP-31")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>Welcome</html>"),
        (200, '{"hello": "world"}'),
        (301, ""),
        (502, "Bad gateway"),
        (200, '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "Go away."}}'),
    ],
)
def test_another_service_at_the_address_is_told_so(status: int, body: str) -> None:
    with answering(status, body) as url, pytest.raises(Unavailable, match=r"answered with HTTP|refused: Go away\."):
        anyio.run(bridge_stdio, url, "nonsense")


@pytest.mark.slow
@pytest.mark.spec("MCP-32")
def test_the_bridge_outlives_a_restart_of_the_installation(
    make_settings: Callable[..., Settings], new_token: Callable[[], str]
) -> None:
    with ExitStack() as stack:
        with serving_at(0, make_settings()) as url:
            port = int(url.rpartition(":")[2])
            environment = bare_environment(DOCUTALK_TOKEN=new_token())
            session = stack.enter_context(over_stdio(environment, "--url", f"{url}/mcp/"))
            session.result("add_task", title="before")
        away = session.call("add_task", title="between")
        with serving_at(port, make_settings()):
            session.result("add_task", title="after")
            titles = [task["title"] for task in session.result("list_tasks")["tasks"]]

    assert away.is_error
    assert text_of(away).startswith(f"{url}/mcp does not answer")
    assert titles == ["before", "after"]


@pytest.mark.slow
@pytest.mark.spec("MCP-32")
def test_the_bridge_tells_when_its_token_was_revoked(service: str, guest: httpx.Client) -> None:
    token = guest.headers["Authorization"].removeprefix("Bearer ")
    with over_stdio(bare_environment(DOCUTALK_TOKEN=token), "--url", service) as session:
        session.result("add_task", title="before")
        guest.post("/api/auth/logout").raise_for_status()

        refused = session.call("add_task", title="after")

    assert refused.is_error
    assert text_of(refused).startswith(f"{service}/mcp does not take this token.")


@contextmanager
def started(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start `docutalk mcp` with pipes; it is gone when the block ends."""
    with subprocess.Popen(
        [sys.executable, *COMMAND, *arguments],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving_at(port: int, settings: Settings) -> Iterator[str]:
    """Serve the app on a port of our choice; yields its address once it is ready."""
    listener = socket.create_server(("127.0.0.1", port))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: httpx.get(f"{url}/ready").status_code == 200, seconds=LONGEST_START)
        yield url
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Run a web server that answers every POST alike and is no DocuTalk."""

    class Alike(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Alike) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
