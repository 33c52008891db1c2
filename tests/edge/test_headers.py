"""No value of any header makes the service fail."""

import json
import random
import socket
from contextlib import suppress
from itertools import pairwise, product

import httpx
import pytest

Request = tuple[bytes, bytes, bytes, bytes]
"""Method, path, content type and body."""
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
).encode()
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\ntext\r\n--b--\r\n'
REQUESTS: list[Request] = [
    (b"GET", b"/", b"", b""),
    (b"GET", b"/static/app.js", b"", b""),
    (b"GET", b"/health", b"", b""),
    (b"GET", b"/metrics", b"", b""),
    (b"GET", b"/openapi.json", b"", b""),
    (b"GET", b"/api/tasks", b"", b""),
    (b"GET", b"/api/runs/none/events", b"", b""),
    (b"OPTIONS", b"/api/tasks", b"", b""),
    (b"POST", b"/api/auth/guest", b"application/json", b"{}"),
    (b"POST", b"/api/messages", b"application/json", b"{}"),
    (b"POST", b"/api/chat", b"application/json", b'{"message": ""}'),
    (b"POST", b"/api/search", b"application/json", b'{"query": "milk"}'),
    (b"POST", b"/api/documents", b"multipart/form-data; boundary=b", FORM),
    (b"POST", b"/mcp", b"application/json", INITIALIZE),
]
HEADERS = [
    b"Origin",
    b"Host",
    b"Accept",
    b"Accept-Encoding",
    b"Accept-Language",
    b"Access-Control-Request-Method",
    b"Access-Control-Request-Headers",
    b"Authorization",
    b"Connection",
    b"Content-Disposition",
    b"Content-Encoding",
    b"Content-Length",
    b"Content-Type",
    b"Cookie",
    b"Expect",
    b"Forwarded",
    b"Idempotency-Key",
    b"If-Match",
    b"If-Modified-Since",
    b"If-None-Match",
    b"Last-Event-ID",
    b"Mcp-Method",
    b"Mcp-Name",
    b"MCP-Protocol-Version",
    b"Mcp-Session-Id",
    b"Range",
    b"Referer",
    b"Transfer-Encoding",
    b"Upgrade",
    b"User-Agent",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Proto",
    b"X-Request-ID",
]
VALUES = [
    b"",
    b"http://[",
    b"http://[::1",
    b"http://]",
    b"[",
    b"http://a@[b]:c",
    b"http://x:99999999",
    b"//",
    b"://",
    b"\xff\xfe\x80",
    "ünïcödé \N{SNOWMAN}".encode(),
    b"=?utf-8?b?//8=?=",
    b"x; charset=nonsense; boundary",
    b"multipart/form-data; boundary*=nonsense''%ff; filename*0*=\"",
    b"application/json; charset=utf-16",
    b"multipart/form-data",
    b"%",
    b"%00%ff%zz",
    b"-1",
    b"9" * 30,
    b"9" * 5000,
    b"1e400",
    b"0x10",
    "\N{ARABIC-INDIC DIGIT THREE}".encode(),
    b"bytes=9-1,-,-99999999999999999999",
    b'W/"',
    b"Bearer",
    b"Bearer " + b"a" * 8000,
    b"Bearer a.b.c",
    b"Bearer eyJhbGciOiJIUzI1NiJ9.e30.\xff",
    b"Basic \xff",
    b'for="[;by=,,,;=',
    b"127.0.0.1, , [::1, ::1]:80:80",
    b",".join([b"*"] * 4000),
    b";q=" * 2500,
    b"(" * 8000,
    b"chunked, gzip",
    b"100-continue, x",
    b"close, upgrade, keep-alive",
    b"\t \t",
    b"null",
    b"*",
]
PART_HEADERS = [
    b"Content-Disposition: form-data; name=\"file\"; filename*=nonsense''x",
    b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%ff%00",
    b'Content-Disposition: form-data; name="file"; filename*0*="x; filename*9999999999999999999999=y',
    b'Content-Disposition: form-data; name="file"; filename="' + b"x" * 8000,
    b"Content-Disposition: form-data; name=\xff; filename=\xfe\x80",
    b'Content-Disposition: ;;;=;"',
    b"Content-Disposition:",
    b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: [',
    b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Transfer-Encoding: base64',
]


class Line:
    """One connection to the service, which sends requests unchanged."""

    def __init__(self, url: str, authorization: bytes) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = (host, int(port))
        self._authorization = authorization

    def status(self, sent: bytes) -> int:
        """Send bytes on a new connection, and return the answer's status, or 0 without an answer."""
        with socket.create_connection(self._address, timeout=40) as connection:
            received = b""
            with suppress(ConnectionError):
                connection.sendall(sent)
                while b"\r\n" not in received and (piece := connection.recv(65536)):
                    received += piece
        return int(received.split()[1]) if received else 0

    def request(self, kind: Request, name: bytes, *values: bytes) -> bytes:
        method, path, content_type, body = kind
        headers = {b"Host": b"localhost", b"Authorization": self._authorization, b"Connection": b"close"}
        if body:
            headers |= {b"Content-Type": content_type, b"Content-Length": b"%d" % len(body)}
        if path == b"/mcp":
            headers[b"Accept"] = b"application/json, text/event-stream"
        usual = [item for item in headers.items() if item[0].lower() != name.lower()]
        lines = [*usual, *((name, value) for value in values)]
        written = b"".join(header + b": " + value + b"\r\n" for header, value in lines)
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, path, written, body)


@pytest.fixture
def line(service: str, guest: httpx.Client) -> Line:
    return Line(service, guest.headers["Authorization"].encode())


def cases(name: bytes) -> list[tuple[Request, tuple[bytes, ...]]]:
    """Return the requests with each value of a header, alone and repeated."""
    values: list[tuple[bytes, ...]] = [(value,) for value in VALUES]
    values += pairwise(VALUES)
    mixed = list(product(REQUESTS, values))
    random.Random(name).shuffle(mixed)
    return mixed


@pytest.mark.spec("HTTP-16")
@pytest.mark.parametrize("name", HEADERS, ids=lambda name: name.decode())
def test_a_header_that_cannot_be_parsed_is_no_failure(line: Line, name: bytes) -> None:
    for kind, values in cases(name)[:6]:
        assert line.status(line.request(kind, name, *values)) < 500, (kind[:2], name, values)


@pytest.mark.long
@pytest.mark.spec("HTTP-16")
@pytest.mark.parametrize("name", HEADERS, ids=lambda name: name.decode())
def test_no_value_of_a_header_is_a_failure(line: Line, name: bytes) -> None:
    for kind, values in cases(name):
        assert line.status(line.request(kind, name, *values)) < 500, (kind[:2], name, values)


@pytest.mark.spec("HTTP-16")
@pytest.mark.parametrize("origin", [b"http://[", b"http://[::1", b"http://]", b"//[", b"http://a@[b]:c", b"\xff"])
@pytest.mark.parametrize("path", [b"/api/auth/guest", b"/api/chat", b"/api/documents", b"/mcp"])
def test_an_origin_that_is_none_is_refused(line: Line, origin: bytes, path: bytes) -> None:
    [kind] = [kind for kind in REQUESTS if kind[1] == path]

    assert line.status(line.request(kind, b"Origin", origin)) == 403


@pytest.mark.spec("HTTP-16")
@pytest.mark.parametrize("header", PART_HEADERS, ids=range(len(PART_HEADERS)))
def test_a_header_in_a_form_that_cannot_be_parsed_is_no_failure(line: Line, header: bytes) -> None:
    form = b"--b\r\n" + header + b"\r\n\r\ntext\r\n--b--\r\n"

    kind = (b"POST", b"/api/documents", b"multipart/form-data; boundary=b", form)
    assert line.status(line.request(kind, b"X-Request-ID", b"a")) < 500
