"""All errors are complete problems, everywhere."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import query
from tests.problem import refused

JSON = {"Content-Type": "application/json"}


@pytest.mark.spec("HTTP-1")
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/nothing", "/api//tasks", "/api/tasks/1/2", "/%00", "/%ff"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_a_problem(guest: httpx.Client, method: str, path: str) -> None:
    refused(guest.request(method, path), 404, "not_found")


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/tasks"), ("POST", "/health"), ("GET", "/api/chat"), ("PATCH", "/api/tokens"), ("PURGE", "/api/me")],
)
def test_a_wrong_method_is_a_problem(guest: httpx.Client, method: str, path: str) -> None:
    answer = guest.request(method, path)

    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.spec("HTTP-3")
def test_wrong_input_names_its_fields(guest: httpx.Client) -> None:
    answer = guest.post("/api/tasks", json={"priority": "urgent", "colour": "red", "tags": [""]})

    problem = refused(answer, 422, "invalid_input")
    assert {item["field"]: item["message"] for item in problem["errors"]} == {
        "title": "This field is required.",
        "priority": "Input should be 'none', 'low', 'medium' or 'high'.",
        "colour": "This field does not exist.",
        "tags.0": "This may not be empty.",
    }


@pytest.mark.spec("HTTP-18")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"title": "x" * 201}, "The title may have at most 200 characters; this one has 201."),
        ({"title": ""}, "The title may not be empty."),
        ({}, "The title is missing."),
        ({"title": "a", "priority": "urgent"}, "The priority must be one of these: 'none', 'low', 'medium', 'high'."),
        ({"title": "a", "tags": ["x" * 60]}, "The tag may have at most 50 characters; this one has 60."),
        ({"title": "a", "due": 7}, "The due date is not valid."),
        ({"title": "a\nb"}, "Title: The text must stand on one line."),
        ({"title": "a", "user_id": "x"}, "The request contains something unknown."),
    ],
)
def test_what_is_wrong_is_said_in_words_for_people(body: dict[str, Any], said: str, guest: httpx.Client) -> None:
    problem = refused(guest.post("/api/tasks", json=body), 422, "invalid_input")

    assert problem["detail"] == said
    assert all(f"{item['field']}: " in problem["hint"] for item in problem["errors"])


@pytest.mark.spec("HTTP-3")
def test_fields_are_named_whatever_they_are_called(guest: httpx.Client) -> None:
    missing = refused(guest.post("/api/search", json={}), 422, "invalid_input")
    too_long = refused(guest.get("/api/tasks", params={"query": "a" * 10_000}), 422, "invalid_input")

    assert [item["field"] for problem in (missing, too_long) for item in problem["errors"]] == ["query", "query"]


@pytest.mark.spec("HTTP-4")
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"title": "a"',
        b"title=a",
        b'{"title": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"title": ' + b"9" * 100_000 + b"}",
        b'{"title": NaN}',
        b"\x00",
        b"",
        b"[]",
        b"7",
        b'"title"',
        b"null",
        b'{"\\ud800": 1, "title": "a"}',
        b'{"title": "\\udfff"}',
    ],
    ids=lambda body: ascii(body[:20]),
)
def test_a_body_that_is_no_such_json_is_a_problem(guest: httpx.Client, body: bytes) -> None:
    answer = guest.post("/api/tasks", content=body, headers=JSON)

    refused(answer, answer.status_code if answer.status_code == 400 else 422)
    assert guest.get("/api/tasks").json()["tasks"] == []


@pytest.mark.spec("HTTP-4")
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "é"])
def test_a_body_of_another_kind_is_a_problem(guest: httpx.Client, kind: str) -> None:
    answer = guest.post("/api/tasks", content=b'{"title": "a"}', headers={b"Content-Type": kind.encode("latin-1")})

    assert "Content-Type: application/json" in refused(answer, 422, "invalid_input")["hint"]


@pytest.mark.spec("HTTP-5")
def test_a_body_that_says_it_is_too_large_is_refused(guest: httpx.Client) -> None:
    answer = guest.post("/api/tasks", content=json.dumps({"title": "a" * 1_100_000}).encode(), headers=JSON)

    refused(answer, 413, "content_too_large")


@pytest.mark.spec("HTTP-5")
@pytest.mark.parametrize("path", ["/api/tasks", "/api/chat", "/mcp"])
def test_a_body_that_grows_too_large_is_refused(guest: httpx.Client, path: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 60_000

    answer = guest.post(path, content=pieces(), headers={**JSON, "Accept": "application/json, text/event-stream"})

    refused(answer, 413, "content_too_large")


@pytest.mark.spec("HTTP-6")
def test_a_crash_is_a_problem_without_a_word_of_what_happened(guest: httpx.Client, superuser_url: str) -> None:
    query(superuser_url, "alter table tasks add constraint broken check (title <> 'marker-crash')")
    try:
        answer = guest.post("/api/tasks", json={"title": "marker-crash"})
    finally:
        query(superuser_url, "alter table tasks drop constraint broken")

    refused(answer, 500, "internal")
    assert "marker" not in answer.text
    assert "broken" not in answer.text
    assert guest.get("/api/tasks").json()["tasks"] == []


@pytest.mark.spec("HTTP-7")
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        "bearer dts_unknown",
        "Bearer dtp_unknown",
        "Bearer a.b.c",
        "Basic eDp5",
        "Bearer " + "x" * 9000,
        "Bearer \xff\xfe",
        "Bearer dts_a b",
        "Token abc",
    ],
    ids=lambda header: ascii(header)[:24],
)
def test_without_a_valid_token_there_is_nothing(service: str, header: str | None) -> None:
    answer = httpx.get(
        f"{service}/api/tasks", headers={} if header is None else {b"Authorization": header.encode("latin-1")}
    )

    refused(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.spec("HTTP-7")
def test_two_tokens_are_none(guest: httpx.Client, service: str) -> None:
    token = guest.headers["Authorization"]

    refused(httpx.get(f"{service}/api/tasks", headers=[("Authorization", token)] * 2), 401, "unauthorized")
