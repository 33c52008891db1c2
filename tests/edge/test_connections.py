"""Connections over real sockets: clients that send half a request, send slowly, read nothing, or come in crowds."""

import asyncio
import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from backend import cli
from backend.documents.upload import form as upload_form
from backend.edge import every_request
from backend.edge.connections import Connections, protocol_with
from backend.edge.proxies import Proxies
from backend.settings import Settings
from tests.conftest import serving, signed_in_guest, wait_until
from tests.process import DOCUTALK, answers, started

Address = tuple[str, int]
SHORT = 0.4
"""Used in place of the thirty seconds."""
JSON = {"Content-Type": "application/json"}
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def served(app: ASGIApp, *, listening: socket.socket | None = None, **limits: Any) -> Iterator[Address]:
    """Serve a small app with these limits, and yield its address."""
    given: dict[str, Any] = {"in_all": 1000, "of_an_address": 0, "proxies": Proxies([]), "header_seconds": SHORT}
    protocol = protocol_with(Connections(**given | limits))
    listening = listening or socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, ws="none", log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer at once, and read nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def connect(address: Address, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(address, timeout=30, source_address=(source, 0))


def rest_of(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def problem_in(answer: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Return an answer's status, its problem and its header."""
    header, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in header.lower() + b"\r\n"
    return int(header.split()[1]), json.loads(body), header.lower()


def ask(connection: socket.socket) -> int:
    """Send a request on a connection, leave it open, and return the answer's status."""
    with suppress(ConnectionError):
        connection.sendall(WHOLE)
    return int(connection.recv(65536).split()[1])


def asked(address: Address, source: str = "127.0.0.1") -> int:
    """Send a request on a new connection, and return the answer's status."""
    with connect(address, source) as connection:
        return ask(connection)


def is_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.spec("LIMIT-4")
def test_a_header_that_does_not_end_is_answered_with_408() -> None:
    with served(hello) as address, connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        status, problem, header = problem_in(rest_of(connection))

    assert (status, problem["code"]) == (408, "request_timeout")
    assert problem["detail"].endswith(".")
    assert b"\r\nconnection: close" in header


@pytest.mark.spec("LIMIT-4")
def test_a_header_that_comes_by_drops_has_no_more_time() -> None:
    with served(hello) as address, connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")

        def drip() -> bool:
            with suppress(ConnectionError):
                connection.send(b"a")
            # This test is about the time between the drops.
            time.sleep(SHORT / 10)
            return is_ended(connection)

        wait_until(drip)


@pytest.mark.spec("LIMIT-4")
@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_connection_on_which_no_request_begins_is_closed_without_a_word(sent: bytes) -> None:
    with served(hello) as address, connect(address) as connection:
        connection.sendall(sent)

        assert rest_of(connection) == b""


@pytest.mark.spec("LIMIT-4")
@pytest.mark.parametrize("more", [b"\r\n", b"GET", b"rest of a body"], ids=["an empty line", "a header", "a body"])
def test_what_comes_after_an_answer_has_no_more_time_than_a_first_request(more: bytes) -> None:
    header = WHOLE if more != b"rest of a body" else b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with served(hello) as address, connect(address) as connection:
        connection.sendall(header)
        answer = b""
        while not answer.endswith(b"hello"):
            answer += connection.recv(65536)
        connection.sendall(more)
        rest = rest_of(connection)

    if more == b"GET":
        assert problem_in(rest)[0] == 408
    else:
        assert rest == b""


@pytest.mark.spec("LIMIT-5")
def test_a_slow_answer_and_a_slow_reader_of_a_body_have_all_the_time() -> None:
    body = b"x" * 1_000_000

    async def slow(_scope: Scope, receive: Receive, send: Send) -> None:
        # Meanwhile the server stops reading from the connection, so the client is not the one that is late.
        await asyncio.sleep(1.5 * SHORT)
        read, is_more = 0, True
        while is_more:
            message = await receive()
            read, is_more = read + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for word in (str(read), "end"):
            await asyncio.sleep(1.5 * SHORT)
            await send({"type": "http.response.body", "body": word.encode(), "more_body": word != "end"})

    with served(slow) as (host, port), httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
        assert client.post("/", content=body).text == "1000000end"


@pytest.mark.spec("LIMIT-6")
def test_one_connection_more_than_an_address_may_have_is_refused() -> None:
    with (
        served(hello, of_an_address=3, proxies=Proxies(["127.0.0.3"]), header_seconds=30) as address,
        ExitStack() as opened,
    ):
        held = [opened.enter_context(connect(address)) for _ in range(3)]
        assert [ask(connection) for connection in held] == [200, 200, 200]
        with connect(address) as refused:
            status, problem, header = problem_in(rest_of(refused))
        assert (status, problem["code"]) == (429, "too_many_connections")
        assert b"\r\nretry-after: " in header
        # Other addresses are not affected.
        assert asked(address, "127.0.0.2") == 200
        for _ in range(6):
            assert ask(opened.enter_context(connect(address, "127.0.0.3"))) == 200

        held[0].close()
        wait_until(lambda: asked(address) == 200)


@pytest.mark.spec("LIMIT-7")
def test_one_connection_more_than_the_process_can_have_is_refused() -> None:
    with served(hello, in_all=3, proxies=Proxies(["127.0.0.3"]), header_seconds=30) as address, ExitStack() as opened:
        sources = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        held = [opened.enter_context(connect(address, source)) for source in sources]
        assert [ask(connection) for connection in held] == [200, 200, 200]
        for source in ("127.0.0.1", "127.0.0.3", "127.0.0.4"):
            with connect(address, source) as refused:
                status, problem, header = problem_in(rest_of(refused))
            assert (status, problem["code"]) == (503, "too_many_connections")
            assert b"\r\nretry-after: " in header

        held[0].close()
        wait_until(lambda: asked(address) == 200)


@pytest.mark.spec("LIMIT-12")
@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["header", "address", "trailer", "chunk"],
)
def test_a_header_without_end_is_not_taken(begun: bytes) -> None:
    async def patient(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await hello(_scope, receive, send)

    with served(patient, header_seconds=30) as address, connect(address) as connection:
        sent = 0
        with suppress(ConnectionError):
            connection.sendall(begun)
            while sent < 50_000_000:
                sent += connection.send(b"a" * 65_536)
        answer = rest_of(connection)

    assert sent < 50_000_000
    if b"POST" not in begun and answer:
        assert problem_in(answer)[0] == 431


@pytest.mark.spec("LIMIT-13")
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x"])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_body_of_a_request_for_another_protocol_is_no_request(protocol: bytes, at_once: bool) -> None:
    paths: list[str] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await hello(scope, receive, send)

    hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    header = (
        b"POST /seen HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: %d\r\n\r\n"
    )
    with served(noting) as address, connect(address) as connection:
        connection.sendall(header % (protocol, len(hidden)) + (hidden if at_once else b""))
        if not at_once:
            with suppress(ConnectionError):
                connection.sendall(hidden)
        answer = rest_of(connection)

    assert problem_in(answer)[0] == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert paths == []


@pytest.mark.spec("LIMIT-8")
def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "UNREAD_SECONDS", 1)
    ended = threading.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with suppress(asyncio.CancelledError):
            while not ended.is_set():
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
                # A failed `send` tells nothing, but this does.
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        if (await receive())["type"] == "http.disconnect":
                            ended.set()

    with cli.listening("PORT", "127.0.0.1", 0) as listener, served(endless, listening=listener) as address:
        connection = connect(address)
        connection.sendall(WHOLE)

        assert ended.wait(30)
        connection.close()


@pytest.mark.spec("HTTP-13")
def test_what_is_no_http_is_a_problem_and_spoils_no_answer() -> None:
    begun = threading.Event()

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    with served(stream) as address:
        with connect(address) as connection:
            connection.sendall(b"FOO / HTTP/1.1\r\n\r\n")
            status, problem, _ = problem_in(rest_of(connection))
        with connect(address) as connection:
            connection.sendall(WHOLE)
            assert begun.wait(30)
            connection.sendall(b"\x00\x00")
            answer = rest_of(connection)

    assert (status, problem["code"]) == (400, "bad_request")
    assert answer.endswith(b"begun\r\n")


@pytest.fixture(scope="module")
def hurried(make_settings: Callable[..., Settings]) -> Iterator[str]:
    """The whole service with short time limits for headers, and few connections for an address."""
    with serving(make_settings(max_connections_per_address=20), header_seconds=2) as url:
        yield url


@pytest.fixture
def address(hurried: str) -> Address:
    host, _, port = hurried.removeprefix("http://").partition(":")
    return host, int(port)


@pytest.mark.spec("LIMIT-4")
def test_the_service_gives_up_half_a_request_and_keeps_nothing(
    hurried: str, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(every_request, "STALL_SECONDS", SHORT)
    monkeypatch.setattr(upload_form, "STALL_SECONDS", SHORT)
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nsome text'
    begun: list[tuple[str, bytes]] = []
    with signed_in_guest(hurried) as guest, ExitStack() as opened:
        token = guest.headers["Authorization"].encode()
        for path, kind, body in (
            ("/api/tasks", "application/json", b'{"title": '),
            ("/api/auth/guest", "application/json", b""),
            ("/mcp", "application/json", b'{"jsonrpc": "2.0", '),
            ("/static/app.js", "text/plain", b""),
            ("/api/documents", "multipart/form-data; boundary=b", form),
        ):
            for length in (b"Content-Length: 1000", b"Transfer-Encoding: chunked"):
                chunk = b"%x\r\n%b\r\n" % (len(body), body) if length.startswith(b"T") and body else body
                begun.append(
                    (
                        path,
                        b"POST %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nContent-Type: %b\r\n%b\r\n\r\n%b"
                        % (path.encode(), token, kind.encode(), length, chunk),
                    )
                )
        begun.append(("a header", b"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bear"))

        # All requests wait at the same time, because each has its own limit.
        waiting = [(path, opened.enter_context(connect(address))) for path, _ in begun]
        for (_, connection), (_, half) in zip(waiting, begun, strict=True):
            connection.sendall(half)
        for path, connection in waiting:
            status, _, header = problem_in(rest_of(connection))
            assert (path, status) == (path, 408)
            assert b"\r\nconnection: close" in header
        assert guest.get("/api/tasks").json()["tasks"] == []
        assert guest.get("/api/documents").json()["documents"] == []


# A machine that delays the client by two seconds makes this test fail.
@pytest.mark.slow
@pytest.mark.spec("LIMIT-5")
def test_a_body_that_comes_slowly_but_steadily_is_taken(hurried: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_request, "STALL_SECONDS", 2)
    monkeypatch.setattr(upload_form, "STALL_SECONDS", 2)

    def slowly(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), -(-len(body) // 8)):
            # All pieces together take longer than one piece may take.
            time.sleep(0.3)
            yield body[start : start + -(-len(body) // 8)]

    with signed_in_guest(hurried) as guest:
        made = guest.post("/api/tasks", content=slowly(b'{"title": "Milk for the tea"}'), headers=JSON)

        assert (made.status_code, made.json().get("title")) == (201, "Milk for the tea")


@pytest.mark.spec("LIMIT-6")
def test_others_are_served_while_one_address_has_all_it_may(hurried: str, address: Address) -> None:
    with ExitStack() as opened:
        statuses = [ask(opened.enter_context(connect(address))) for _ in range(25)]
        with httpx.Client(base_url=hurried, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
            assert other.get("/health").status_code == 200

    assert statuses.count(200) >= 15
    assert statuses[-1] == 429


@pytest.mark.slow
@pytest.mark.spec("LIMIT-7")
def test_a_crowd_takes_no_file_that_the_service_needs(tmp_path: Path, database_url: str) -> None:
    few = ("sh", "-c", f"ulimit -n 500; exec {shlex.join(DOCUTALK)} serve")
    with started(tmp_path, *few, DATABASE_URL=database_url, MIGRATE_ON_START="false") as service, ExitStack() as opened:
        service.wait_serving()
        host, _, port = service.url.removeprefix("http://").partition(":")
        statuses = []
        for _ in range(700):
            connection = opened.enter_context(connect((host.replace("localhost", "127.0.0.1"), int(port))))
            statuses.append(ask(connection))
        opened.close()
        wait_until(lambda: answers(f"{service.url}/health/db"))
        refused = [event for event in service.events if event["event"] == "connections_refused"]

        assert set(statuses) == {200, 503}
        assert statuses.index(503) >= 200
        assert len(refused) <= 2
        assert "out of system resource" not in service.out + service.err
