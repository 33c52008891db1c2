"""Tokens of a Better Auth server, checked with its shared secret."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest

from backend.errors import Unauthorized
from backend.identity.authenticator import Authenticator, BetterAuth, GuestRules
from backend.postgres.database import Database
from backend.settings import Settings
from tests.conftest import query, serving
from tests.problem import refused

SECRET = "a secret of more than thirty-two bytes"


def knows(database: Database, issuer: str | None = None, audience: str | None = None) -> Authenticator:
    """Return an authenticator that trusts the secret."""
    return Authenticator(
        database,
        secret=lambda: "tests",
        guests=GuestRules(),
        better_auth=BetterAuth(SECRET, issuer, audience),
    )


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token; it expires in an hour by default."""
    given = {"exp": int(time.time()) + 3600, **claims}
    return jwt.encode({name: value for name, value in given.items() if value is not None}, secret, algorithm)


def encoded(part: Any) -> str:
    """Return one part of a token that no library would produce."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: Any, claims: Any) -> str:
    """Return a token with any header and claims, signed with HS256 and the right secret."""
    body = f"{encoded(header)}.{encoded(claims)}"
    signature = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{encoded(signature)}"


@pytest.mark.spec("IDENT-22")
@pytest.mark.parametrize("claim", ["sub", "id", "userId"])
def test_a_token_names_its_user(database: Database, superuser_url: str, claim: str) -> None:
    caller = knows(database).caller(signed(**{claim: f"named-by-{claim}", "name": "Ada"}))

    assert caller.subject == f"named-by-{claim}"
    assert caller.kind == "person"
    assert query(superuser_url, "select name, subject, expires_at from users where user_id = %s", caller.user_id) == [
        ("Ada", f"named-by-{claim}", None)
    ]


@pytest.mark.spec("IDENT-22")
def test_sub_goes_before_id_and_id_before_user_id(database: Database) -> None:
    trusting = knows(database)

    assert trusting.caller(signed(sub="first", id="second", userId="third")).subject == "first"
    assert trusting.caller(signed(id="second", userId="third")).subject == "second"
    assert trusting.caller(signed(id=17)).subject == "17"


@pytest.mark.spec("IDENT-22")
def test_the_same_identity_is_the_same_user(database: Database) -> None:
    trusting = knows(database)

    assert trusting.caller(signed(sub="ada")).user_id == trusting.caller(signed(sub="ada", name="Other")).user_id
    assert trusting.caller(signed(sub="ada")).user_id != trusting.caller(signed(sub="adah")).user_id


@pytest.mark.spec("IDENT-23")
@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": ""},
        {"sub": ["ada"]},
        {"sub": {"id": "ada"}},
        {"sub": True},
        {"sub": "a" * 513},
        {"sub": "ada", "exp": None},
        {"sub": "ada", "exp": "soon"},
        {"sub": "ada", "exp": -1},
        {"sub": "ada", "exp": int(time.time()) - 60},
        {"sub": "ada", "exp": float("inf")},
        {"sub": "ada", "exp": [1]},
        {"sub": "ada", "nbf": int(time.time()) + 86_400},
    ],
)
def test_a_token_without_user_or_end_is_refused(database: Database, claims: dict[str, Any]) -> None:
    given = {"exp": int(time.time()) + 3600, **claims}

    with pytest.raises(Unauthorized):
        knows(database).caller(
            by_hand({"alg": "HS256", "typ": "JWT"}, {name: item for name, item in given.items() if item is not None})
        )


@pytest.mark.spec("IDENT-24")
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_only_hs256_with_the_right_secret_is_taken(database: Database) -> None:
    claims = {"sub": "ada", "exp": int(time.time()) + 3600}
    good = signed(sub="ada")
    header, body, signature = good.split(".")
    refused_tokens = [
        signed("another secret of more than 32 bytes", sub="ada"),
        signed(algorithm="HS384", sub="ada"),
        signed(algorithm="HS512", sub="ada"),
        jwt.encode(claims, "", "none"),
        *(by_hand({"alg": name, "typ": "JWT"}, claims) for name in ("none", "None", "RS256", "ES256", "HS512", "")),
        by_hand({"typ": "JWT"}, claims),
        by_hand({"alg": "HS256", "crit": ["exp"]}, claims),
        by_hand({"alg": ["HS256"]}, claims),
        f"{header}.{body}.",
        f"{header}.{encoded({**claims, 'sub': 'eve'})}.{signature}",
        f"{header}.{body}.{signature[:-4]}AAAA",
        f"{header}.{body}.{signature}.{signature}",
        "..",
        "a.b.c",
        f"{encoded(b'[' * 4000)}.{body}.{signature}",
        by_hand({"alg": "HS256"}, b"[" * 4000),
        by_hand({"alg": "HS256"}, b"\xff"),
        by_hand({"alg": "HS256"}, [claims]),
        f"{good}{'A' * 10_000}",
    ]

    assert knows(database).caller(good).subject == "ada"
    for token in refused_tokens:
        with pytest.raises(Unauthorized):
            knows(database).caller(token)


@pytest.mark.spec("IDENT-25")
def test_issuer_and_audience_are_checked_when_they_are_configured(database: Database) -> None:
    trusting = knows(database, "https://auth.example.com", "docutalk")
    good: dict[str, Any] = {"sub": "ada", "iss": "https://auth.example.com", "aud": "docutalk"}

    assert trusting.caller(signed(**good)).subject == "ada"
    assert trusting.caller(signed(**good | {"aud": ["other", "docutalk"]})).subject == "ada"
    for wrong in ({"iss": "https://evil.example.com"}, {"iss": None}, {"aud": "other"}, {"aud": None}):
        with pytest.raises(Unauthorized):
            trusting.caller(signed(**good | wrong))


@pytest.mark.spec("IDENT-25")
def test_an_audience_that_is_not_configured_is_not_asked_for(database: Database) -> None:
    assert knows(database).caller(signed(sub="ada", aud="whatever")).subject == "ada"


@pytest.mark.spec("IDENT-26")
def test_one_sub_of_two_issuers_is_two_users(database: Database) -> None:
    one = knows(database, "https://one.example.com").caller(signed(sub="ada", iss="https://one.example.com"))
    two = knows(database, "https://two.example.com").caller(signed(sub="ada", iss="https://two.example.com"))
    unchecked = knows(database)

    assert one.user_id != two.user_id
    assert unchecked.caller(signed(sub="ada", iss="https://one.example.com")).user_id == one.user_id
    assert unchecked.caller(signed(sub="ada", iss="https://two.example.com")).user_id == two.user_id


@pytest.mark.spec("IDENT-26")
def test_no_outside_token_is_the_owner_of_the_installation(database: Database) -> None:
    with pytest.raises(Unauthorized):
        knows(database).caller(signed(sub="owner", iss="local"))


@pytest.mark.spec("IDENT-27")
def test_without_a_secret_no_outside_token_is_taken(authenticator: Authenticator) -> None:
    with pytest.raises(Unauthorized):
        authenticator.caller(signed(sub="ada"))


@pytest.mark.spec("IDENT-22")
def test_text_that_cannot_be_stored_does_not_break_a_token(database: Database) -> None:
    caller = knows(database).caller(
        by_hand({"alg": "HS256"}, {"sub": "a\x00b\ud800", "name": "N\x00\ud800", "exp": int(time.time()) + 60})
    )

    assert caller.subject == "a\ufffdb\ufffd"


@pytest.fixture(scope="module")
def trusting_service(make_settings: Callable[..., Settings]) -> Iterator[str]:
    """A service that trusts the secret."""
    with serving(make_settings(better_auth_secret=SECRET)) as url:
        yield url


@pytest.mark.spec("IDENT-28")
def test_chat_takes_our_id_or_the_identitys_and_no_other(trusting_service: str) -> None:
    headers = {"Authorization": f"Bearer {signed(sub='ada/lovelace@example.com')}"}
    with httpx.Client(base_url=trusting_service, headers=headers, timeout=30) as ada:
        me = ada.get("/api/me").json()["id"]
        hello = {"message": "Show my tasks"}

        assert ada.post(f"/api/{me}/chat", json=hello).status_code == 200
        assert ada.post("/api/ada%2Flovelace@example.com/chat", json=hello).status_code in (200, 404)
        theirs = refused(ada.post(f"/api/{me}x/chat", json=hello), 404, "not_found")
        assert refused(ada.post("/api/bob/chat", json=hello), 404, "not_found") == theirs
        assert refused(ada.post("/api/None/chat", json=hello), 404, "not_found") == theirs


@pytest.mark.spec("IDENT-28")
def test_the_paths_of_tasks_take_the_sub_of_the_token(trusting_service: str) -> None:
    headers = {"Authorization": f"Bearer {signed(sub='ziakhan')}"}
    with httpx.Client(base_url=trusting_service, headers=headers, timeout=30) as person:
        me = person.get("/api/me").json()["id"]

        task = person.post("/api/ziakhan/tasks", json={"title": "Milk"})
        assert task.status_code == 201
        assert person.get("/api/ziakhan/tasks").json() == person.get(f"/api/{me}/tasks").json()
        assert person.get("/api/ziakhan/tasks/1").json() == task.json()
        assert person.put("/api/ziakhan/tasks/1", json={"title": "Tea"}).json()["title"] == "Tea"
        assert person.patch("/api/ziakhan/tasks/1/complete").json()["completed"]
        assert person.delete("/api/ziakhan/tasks/1").status_code == 204
        refused(person.get("/api/other/tasks"), 404, "not_found")
    refused(httpx.get(f"{trusting_service}/api/ziakhan/tasks"), 401, "unauthorized")


@pytest.mark.spec("IDENT-28")
def test_chat_takes_the_sub_of_the_token(trusting_service: str) -> None:
    headers = {"Authorization": f"Bearer {signed(sub='ada-9')}"}

    answer = httpx.post(f"{trusting_service}/api/ada-9/chat", json={"message": "Add a task to rest"}, headers=headers)

    assert answer.status_code == 200
    assert answer.json()["tool_calls"][0]["name"] == "add_task"
    refused(httpx.post(f"{trusting_service}/api/ada-9/chat", json={"message": "Hi"}), 401, "unauthorized")
    expired = {"Authorization": f"Bearer {signed(sub='ada-9', exp=int(time.time()) - 60)}"}
    refused(httpx.get(f"{trusting_service}/api/me", headers=expired), 401, "unauthorized")
