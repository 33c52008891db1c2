"""What every request passes through."""

import re
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import signed_in_guest

ORIGIN = "http://localhost:3000"


@pytest.mark.spec("HTTP-8")
@pytest.mark.parametrize("path", ["/health", "/api/tasks", "/nothing", "/", "/mcp", "/openapi.json"])
def test_every_answer_carries_a_request_id(service: str, path: str) -> None:
    given = httpx.get(service + path, headers={"X-Request-ID": "abc.DEF-1_2"})
    made = [httpx.get(service + path).headers["x-request-id"] for _ in range(2)]

    assert given.headers.get_list("x-request-id") == ["abc.DEF-1_2"]
    assert made[0] != made[1]
    assert all(re.fullmatch(r"[0-9a-f]{16}", item) for item in made)


@pytest.mark.spec("HTTP-9")
@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "é", "<script>", 'x"y', "a\tb", "../.."])
def test_a_request_id_that_could_do_harm_is_replaced(service: str, given: str) -> None:
    answer = httpx.get(f"{service}/health", headers={b"X-Request-ID": given.encode("latin-1")})

    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


@pytest.mark.spec("HTTP-10")
@pytest.mark.parametrize("path", ["/api/tasks", "/api/me", "/health", "/docs", "/api/conversations"])
def test_a_last_slash_makes_no_difference(guest: httpx.Client, path: str) -> None:
    plain, slashed = guest.get(path), guest.get(path + "/")

    assert (slashed.status_code, slashed.text) == (plain.status_code, plain.text)
    assert plain.status_code == 200


@pytest.mark.spec("HTTP-10")
def test_a_last_slash_loses_no_body(guest: httpx.Client) -> None:
    assert guest.post("/api/tasks/", json={"title": "Milk"}).status_code == 201
    assert guest.patch("/api/tasks/1/", json={"title": "Oat milk"}).json()["title"] == "Oat milk"
    assert guest.post("/api/chat/", json={"message": "Show my tasks"}).status_code == 200


@pytest.mark.spec("HTTP-11")
def test_a_page_of_an_allowed_origin_may_ask(service: str) -> None:
    asked = httpx.options(
        f"{service}/api/tasks/1",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
        },
    )
    answered = httpx.get(f"{service}/api/tasks", headers={"Origin": ORIGIN})

    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    assert "idempotency-key" in asked.headers["access-control-allow-headers"].lower()
    assert answered.status_code == 401
    assert answered.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answered.headers["access-control-expose-headers"].lower()


@pytest.mark.spec("HTTP-11")
@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:3000.evil.example.com"])
def test_a_page_of_another_origin_may_not(service: str, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}

    assert "access-control-allow-origin" not in httpx.options(f"{service}/api/tasks", headers=headers).headers
    assert "access-control-allow-origin" not in httpx.get(f"{service}/health", headers={"Origin": origin}).headers


@pytest.mark.spec("HTTP-12")
def test_the_description_of_the_api_lists_the_routes(service: str) -> None:
    described = httpx.get(f"{service}/openapi.json").json()

    assert {"/api/chat", "/api/{user_id}/chat", "/api/tasks", "/api/tasks/{task_id}", "/api/me", "/health"} <= (
        described["paths"].keys()
    )
    assert httpx.get(f"{service}/docs").headers["content-type"].startswith("text/html")


@pytest.mark.spec("HTTP-13")
@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
        b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["no-request", "no-length", "no-chunk", "long-header"],
)
def test_what_is_no_http_does_no_harm(service: str, sent: bytes) -> None:
    address = urlsplit(service)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
        connection.sendall(sent)
        try:
            first = connection.recv(100)
        except ConnectionResetError:
            first = b""

    assert not first.startswith(b"HTTP/1.1 5")
    assert httpx.get(f"{service}/health").status_code == 200


@pytest.mark.spec("HTTP-17")
def test_no_answer_under_api_is_kept_by_a_cache(service: str) -> None:
    described = httpx.get(f"{service}/openapi.json").json()["paths"]
    asked = [(path, method.upper()) for path, methods in described.items() for method in methods]
    with signed_in_guest(service) as guest, httpx.Client(base_url=service) as nobody:
        # Deleting the account comes last.
        asked.sort(key=lambda item: item in (("/api/auth/logout", "POST"), ("/api/me", "DELETE")))
        answers = [nobody.request(method, re.sub("{.*?}", "1", path)) for path, method in asked]
        answers += [guest.request(method, re.sub("{.*?}", "1", path), json={}) for path, method in asked]
        answers += [
            guest.post("/api/chat", json={"message": "Show my tasks"}),
            guest.post("/api/chat", json={"message": "Show my tasks"}, headers={"Accept": "text/event-stream"}),
            guest.post("/api/tasks", json={"title": "Milk"}),
            guest.post("/api/tasks", content=b"x" * 2**21),
            guest.options("/api/tasks", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}),
            guest.get("/api/tasks", headers={"Host": "evil.example"}),
            guest.get("/api/nothing"),
        ]
    under_api = [answer for answer in answers if answer.url.path.startswith("/api")]

    assert {200, 201, 401, 404, 413, 421, 422} <= {answer.status_code for answer in under_api}
    for answer in under_api:
        assert "no-store" in answer.headers.get_list("cache-control", split_commas=True), answer.url
        assert len(answer.headers.get_list("cache-control")) == 1
    assert httpx.get(f"{service}/static/app.js").headers["cache-control"] == "no-cache"
