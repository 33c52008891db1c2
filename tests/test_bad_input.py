"""Bad input, generated from the routes: each gets a problem with a sentence, never a 500, and changes nothing."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import cursor

from backend.app import create_app
from backend.settings import Settings
from tests.conftest import connected, query, signed_in_guest
from tests.problem import refused

API = create_app(Settings(environment="test", log_level="WARNING", database_url="postgresql://nobody@127.0.0.1:1/none"))
SPEC = API.openapi()
METHODS = ("get", "post", "put", "patch", "delete")
OPEN = ("/api/auth/guest",)
"""Routes under /api that need no token."""
VALID: dict[str, Any] = {
    "title": "Valid",
    "message": "Show my tasks",
    "name": "Valid",
    "scopes": ["read"],
    "task_id": 1,
    "conversation_id": 1,
    "token_id": 1,
    "run_id": "abc",
    "document_id": 1,
    "page_number": 1,
    "passage_id": 1,
    "operation_id": 1,
    "query": "Valid",
}
NEVER_REFUSED = {("POST", "/api/search", "query")}
"""No question is an error (SEARCH-17)."""
TEXTS = ["a\x00b", "\x00", "a\ud800b", "\udfff", "a\x1b[31mb", "a\x07", "a\x85b", "x" * 100_000]
NUMBERS = [0, -1, 2**31, 2**63, 10**30, -(2**63), 1.5, "one", "1e3", "", [], {}, True, False]


def routes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, path and description of every route under /api."""
    for path, item in SPEC["paths"].items():
        for method in METHODS:
            if path.startswith("/api/") and method in item:
                yield method.upper(), path, item[method]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without references; for a value that may be null, its other schema."""
    if "$ref" in schema:
        return resolved(SPEC["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    choices = [resolved(choice) for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return {**schema, **choices[0]} if choices else schema


def body_of(route: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a route's body, or {} if it has none."""
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    return resolved(content["schema"]) if content else {}


def filled(path: str, **values: Any) -> str:
    """Fill the parameters of a path."""
    for name, value in {**VALID, "user_id": "me", **values}.items():
        path = path.replace(f"{{{name}}}", str(value))
    assert "{" not in path, f"{path} has a parameter that VALID does not know."
    return path


def hostile(schema: dict[str, Any]) -> list[Any]:
    """Return values that a field with this schema must refuse."""
    match schema.get("type"):
        case "string":
            blank = ["", " \n\t "] if schema.get("minLength") else []
            return [*TEXTS, *blank, 7, 1.5, True, ["x"], {"a": 1}]
        case "integer":
            return [value for value in NUMBERS if not (value == 0 and schema.get("minimum") == 0)]
        case "boolean":
            return ["maybe", 7, [], {}, "\x00"]
        case "array":
            inner = resolved(schema["items"])
            return ["x", 7, {"a": 1}, *([value] for value in hostile(inner)[::3]), ["x"] * 1000]
    return [*TEXTS, 7, True, []]


FIELDS = [
    pytest.param(method, path, name, id=f"{method} {path} {name}")
    for method, path, route in routes()
    for name in body_of(route).get("properties", {})
    if (method, path, name) not in NEVER_REFUSED
]
PARAMETERS = [
    pytest.param(method, path, parameter, id=f"{method} {path} {parameter['in']} {parameter['name']}")
    for method, path, route in routes()
    for parameter in route.get("parameters", ())
]
WRITING = [
    pytest.param(method, path, route, id=f"{method} {path}") for method, path, route in routes() if method != "GET"
]


@pytest.fixture(scope="module")
def someone(service: str) -> Iterator[httpx.Client]:
    """A guest with a task, a conversation and a token, each with number 1."""
    with signed_in_guest(service) as client:
        client.post("/api/tasks", json={"title": "Kept"}).raise_for_status()
        client.post("/api/chat", json={"message": "Hello"}).raise_for_status()
        client.post("/api/tokens", json={"name": "Kept"}).raise_for_status()
        client.headers["X-User"] = client.get("/api/me").json()["id"]
        yield client


@pytest.fixture(scope="module")
def superuser(superuser_url: str) -> Iterator[cursor]:
    """A connection that bypasses the policies, shared by all the tests."""
    with connected(superuser_url) as made:
        yield made


@pytest.fixture
def unchanged(someone: httpx.Client, superuser: cursor) -> Iterator[None]:
    """Checks that the test changes none of the guest's data."""
    user_id = someone.headers["X-User"]
    before = state_of(superuser, user_id)
    yield
    assert state_of(superuser, user_id) == before


def state_of(superuser: cursor, user_id: str) -> list[tuple[Any, ...]]:
    """Return all data of the guest."""
    tables = ("users", "api_tokens", "tasks", "conversations", "messages", "runs")
    rows = " union all ".join(f"select to_jsonb(t) as r from {table} t where user_id = %s" for table in tables)  # noqa: S608
    superuser.execute(f"select r::text from ({rows}) everything order by 1", [user_id] * len(tables))  # noqa: S608
    return superuser.fetchall()


def send(client: httpx.Client, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    """Send a body, which may contain text that UTF-8 cannot represent."""
    headers = {"Content-Type": "application/json", **more.pop("headers", {})}
    content = None if body is None else json.dumps(body).encode()
    return client.request(method, path, content=content, headers=headers, **more)


def ours(client: httpx.Client, path: str) -> str:
    """Return the path with the user's own id, if it takes one."""
    return filled(path, user_id=client.headers["X-User"])


@pytest.mark.spec("INPUT-1")
def test_the_routes_are_all_here() -> None:
    listed = {(method, path) for method, path, _ in routes()}

    assert {("POST", "/api/chat"), ("POST", "/api/tasks"), ("PATCH", "/api/tasks/{task_id}")} <= listed
    assert len(WRITING) >= 12
    assert len(FIELDS) >= 20


@pytest.mark.spec("INPUT-1")
@pytest.mark.parametrize(("method", "path", "name"), FIELDS)
@pytest.mark.usefixtures("unchanged")
def test_a_hostile_field_is_refused(someone: httpx.Client, method: str, path: str, name: str) -> None:
    schema = body_of(SPEC["paths"][path][method.lower()])
    required = {field: VALID[field] for field in schema.get("required", ())}
    target = ours(someone, path)

    for value in hostile(resolved(schema["properties"][name])):
        answer = send(someone, method, target, {**required, name: value})
        problem = refused(answer, answer.status_code)
        assert answer.status_code in (404, 422), ascii(value)[:60]
        assert "xxxx" not in problem["detail"]


@pytest.mark.spec("INPUT-2")
@pytest.mark.parametrize(("method", "path", "route"), [item for item in WRITING if body_of(item.values[2])])  # type: ignore[arg-type]
@pytest.mark.usefixtures("unchanged")
def test_an_unknown_field_and_a_body_of_another_kind_are_refused(
    someone: httpx.Client, method: str, path: str, route: dict[str, Any]
) -> None:
    required = {field: VALID[field] for field in body_of(route).get("required", ())}
    target = ours(someone, path)

    for unknown in ("user_id", "admin", "", "\ud800", "a\x00", "x" * 10_000):
        refused(send(someone, method, target, {**required, unknown: "guest_1"}), 422, "invalid_input")
    for body in ([], 7, "text", True, [required], {"": required}):
        refused(send(someone, method, target, body), 422, "invalid_input")


@pytest.mark.spec("INPUT-3")
@pytest.mark.parametrize(("method", "path", "parameter"), PARAMETERS)
@pytest.mark.usefixtures("unchanged")
def test_a_hostile_parameter_is_refused(
    someone: httpx.Client, method: str, path: str, parameter: dict[str, Any]
) -> None:
    schema, name = resolved(parameter["schema"]), parameter["name"]
    body = {field: VALID[field] for field in body_of(SPEC["paths"][path][method.lower()]).get("required", ())} or None
    if parameter["in"] == "path":
        values = (
            ["0", "-1", str(2**31), str(2**63), "1" * 3000, "one", "1.5", "%00", "%ff", "1%00", "٣٤", "999999"]
            if schema.get("type") == "integer"
            else ["nobody", "%00", "%ff", "..", "a" * 3000, "guest_1", "%F0%9F%92%A9"]
        )
        for value in values:
            answer = send(someone, method, filled(path, **{name: value}), body)
            refused(answer, answer.status_code)
            assert answer.status_code in (404, 405, 422), value
        return
    words = [item for item in hostile(schema) if isinstance(item, str) and len(item) <= 4_000 and item.isascii()]
    if schema.get("type") == "integer":
        words = ["-1", str(2**31), str(10**30), "1.5", "one", "\x00"]
    for word in [*words, "x" * 4_000]:
        if parameter["in"] == "header":
            if word.strip() != word or not word.isprintable():
                continue
            answer = send(someone, method, ours(someone, path), body, headers={name: word})
        else:
            answer = send(someone, method, ours(someone, path), body, params={name: word})
        refused(answer, 422)


@pytest.mark.spec("INPUT-3")
@pytest.mark.parametrize("value", [b"a\x80", b"k" * 201, b"\xc3\xa9\x85"])
@pytest.mark.parametrize("path", ["/api/tasks", "/api/chat"])
@pytest.mark.usefixtures("unchanged")
def test_a_hostile_key_is_refused(someone: httpx.Client, path: str, value: bytes) -> None:
    body = {"title": "Valid"} if path == "/api/tasks" else {"message": "Hello"}

    refused(someone.post(path, json=body, headers={b"Idempotency-Key": value}), 422, "invalid_input")


@pytest.mark.spec("INPUT-3")
@pytest.mark.parametrize("value", [b"-1", b"abc", b"\xff", b"99999999999999999999", b"1.5", b"1 2"])
def test_a_hostile_last_event_id_is_refused(someone: httpx.Client, value: bytes) -> None:
    run_id = someone.get("/api/conversations/1").json()["messages"][0]["run_id"]

    refused(someone.get(f"/api/runs/{run_id}/events", headers={b"Last-Event-ID": value}), 422, "invalid_input")


EVERY_ROUTE = [pytest.param(method, path, route, id=f"{method} {path}") for method, path, route in routes()]


@pytest.mark.spec("HTTP-19")
@pytest.mark.parametrize(("method", "path", "route"), EVERY_ROUTE)
@pytest.mark.usefixtures("unchanged")
def test_a_query_parameter_that_is_not_known_or_comes_twice_is_refused(
    someone: httpx.Client, method: str, path: str, route: dict[str, Any]
) -> None:
    body = {field: VALID[field] for field in body_of(route).get("required", ())} or None
    known = [item["name"] for item in route.get("parameters", ()) if item["in"] == "query"]
    target = ours(someone, path)

    problem = refused(send(someone, method, target, body, params={"due_date": "1"}), 422, "invalid_input")
    assert problem["errors"] == [{"field": "due_date", "message": "This parameter does not exist."}]
    assert problem["detail"].startswith('"due_date" is not known at this address, so nothing was done.')
    assert problem["hint"].startswith(f"{method} {path} takes {'these' if known else 'no'} query parameters")
    for name in known:
        problem = refused(send(someone, method, target, body, params=[(name, "1"), (name, "1")]), 422, "invalid_input")
        assert problem["errors"] == [{"field": name, "message": "This parameter may be given only once."}]
        assert name in problem["hint"]


@pytest.mark.spec("HTTP-19")
@pytest.mark.parametrize("name", ["Limit", "user_id", "", "a\u202eb\n\x00", "x" * 300])
def test_a_hostile_name_of_a_parameter_is_refused_in_plain_letters(someone: httpx.Client, name: str) -> None:
    problem = refused(send(someone, "GET", "/api/tasks", params={name: "1", "limit": "0"}), 422, "invalid_input")

    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name) or "(without a name)"
    assert [error["field"] for error in problem["errors"]] == [shown[:100]]
    assert f'"{shown[:50]}" is not known at this address' in problem["detail"]


@pytest.mark.spec("HTTP-19")
def test_several_unknown_parameters_are_all_named(someone: httpx.Client) -> None:
    problem = refused(send(someone, "GET", "/api/tasks?search=milk&&limit&page=2&x&y"), 422, "invalid_input")

    assert [error["field"] for error in problem["errors"]] == ["search", "page", "x", "y"]
    assert problem["detail"].startswith('"search", "page", "x" are not known at this address')
    refused(send(someone, "GET", "/api/nothing?search=milk"), 404, "not_found")


@pytest.mark.spec("HTTP-7")
@pytest.mark.parametrize(("method", "path"), [item.values[:2] for item in EVERY_ROUTE if item.values[1] not in OPEN])
@pytest.mark.usefixtures("unchanged")
def test_who_asks_comes_before_what_is_asked(service: str, someone: httpx.Client, method: str, path: str) -> None:
    numbers = {name: "one" for name in VALID if name.endswith("_id")}
    wrong = {"content": b"{", "headers": {"Content-Type": "application/json"}, "params": {"unknown": "1"}}
    mine = filled(path, **numbers, user_id=someone.headers["X-User"])

    refused(httpx.request(method, f"{service}{mine}", **wrong), 401, "unauthorized")  # type: ignore[arg-type]
    if "{user_id}" in path:
        refused(someone.request(method, filled(path, **numbers), **wrong), 404, "not_found")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bad_tokens(service: str, superuser_url: str) -> dict[str, str | None]:
    """Tokens that are not valid."""
    with signed_in_guest(service) as gone:
        revoked = gone.post("/api/tokens", json={"name": "Revoked"}).json()
        gone.delete(f"/api/tokens/{revoked['id']}").raise_for_status()
        expired = gone.post("/api/tokens", json={"name": "Expired"}).json()
        query(
            superuser_url,
            "update api_tokens set expires_at = now() where user_id = %s",
            gone.get("/api/me").json()["id"],
        )
        left = gone.headers["Authorization"]
        gone.post("/api/auth/logout").raise_for_status()
    return {
        "missing": None,
        "revoked": f"Bearer {revoked['token']}",
        "expired": f"Bearer {expired['token']}",
        "logged out": left,
        "garbage": "Bearer ;--~",
        "long": "Bearer dts_" + "x" * 20_000,
    }


@pytest.mark.spec("INPUT-4")
@pytest.mark.parametrize(
    ("method", "path", "route"),
    [pytest.param(*item, id=f"{item[0]} {item[1]}") for item in routes() if item[1] not in OPEN],
)
@pytest.mark.usefixtures("unchanged")
def test_a_token_that_is_worth_nothing_opens_no_route(
    service: str, bad_tokens: dict[str, str | None], method: str, path: str, route: dict[str, Any]
) -> None:
    body = {field: VALID[field] for field in body_of(route).get("required", ())} or None

    with httpx.Client(base_url=service, timeout=30) as client:
        for token in bad_tokens.values():
            headers = {} if token is None else {"Authorization": token}
            refused(send(client, method, filled(path), body, headers=headers), 401, "unauthorized")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=30)
    | st.sampled_from(["tomorrow", "none", "high", "Show my tasks", "9" * 30, "0001-01-01", "24:00", "UTC"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NOT_FUZZED = (("DELETE", "/api/me"), ("POST", "/api/auth/logout"), ("POST", "/api/auth/guest"))
"""They would end the fuzzing, or fill the database with guests."""


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any, dict[str, str], dict[str, str]]:
    """Draw a request to one of the routes: some parts valid, the others arbitrary."""
    method, path, route = draw(st.sampled_from([item for item in routes() if item[:2] not in NOT_FUZZED]))
    word = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers().map(str)
    parameters = {item["name"]: draw(word) for item in route.get("parameters", ()) if draw(st.booleans())}
    in_path = {name: value for name, value in parameters.items() if f"{{{name}}}" in path}
    in_query = {item["name"] for item in route.get("parameters", ()) if item["in"] == "query"}
    quoted = {name: str(httpx.QueryParams({"v": value}))[2:] or "0" for name, value in in_path.items()}
    properties = body_of(route).get("properties", {})
    fields = {name: draw(JSON | st.just(VALID.get(name))) for name in properties if draw(st.booleans())}
    body = draw(st.just(fields) | JSON) if properties else None
    headers = {
        name: value
        for name, value in parameters.items()
        if name in ("Idempotency-Key", "Last-Event-ID") and value.isascii() and value.isprintable() and value.strip()
    }
    return (
        method,
        filled(path, **quoted),
        body,
        {name: value for name, value in parameters.items() if name in in_query or draw(st.integers(0, 9)) == 0},
        {name: value.strip() for name, value in headers.items()},
    )


@pytest.mark.spec("INPUT-5")
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_no_request_that_can_be_drawn_makes_the_service_fail(
    someone: httpx.Client, request: tuple[str, str, Any, dict[str, str], dict[str, str]]
) -> None:
    method, path, body, parameters, headers = request

    answer = send(someone, method, path, body, params=parameters, headers=headers)

    assert answer.status_code < 500
    if answer.status_code >= 400:
        refused(answer, answer.status_code)
