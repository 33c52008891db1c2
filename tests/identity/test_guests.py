"""Guests: how they begin, what limits them, and how they are deleted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from backend.errors import TooManyRequests, Unauthorized
from backend.identity.authenticator import Authenticator, GuestRules
from backend.identity.expiry import remove_expired_guests
from backend.postgres.database import Database
from backend.settings import Settings
from tests.conftest import query, serving, signed_in_guest
from tests.own_database import opened
from tests.problem import refused

BERLIN = ZoneInfo("Europe/Berlin")


def rows_of(superuser_url: str, user_id: str) -> dict[str, int]:
    """Count a user's rows in every table that has a user_id, past the policies."""
    tables = [
        name
        for (name,) in query(
            superuser_url,
            "select table_name from information_schema.columns "
            "where column_name = 'user_id' and table_schema = 'public'",
        )
    ]
    assert {"users", "sessions", "api_tokens", "tasks", "messages", "runs", "run_events", "operations"} <= set(tables)
    counts = {
        name: query(superuser_url, f"select count(*) from {name} where user_id = %s", user_id)[0][0]  # noqa: S608
        for name in tables
    }
    return {name: count for name, count in counts.items() if count}


def expire(superuser_url: str, user_id: str) -> None:
    """Make a guest's account expire."""
    for table in ("sessions", "users"):
        statement = f"update {table} set expires_at = now() - interval '1 second' where user_id = %s"  # noqa: S608
        query(superuser_url, statement, user_id)


@pytest.mark.spec("IDENT-1")
def test_a_guest_is_a_real_user_who_expires(service: str, superuser_url: str) -> None:
    answer = httpx.post(f"{service}/api/auth/guest", json={"time_zone": "America/New_York"})

    assert answer.status_code == 201
    given = answer.json()
    assert given["user"]["kind"] == "guest"
    assert given["user"]["time_zone"] == "America/New_York"
    expires = datetime.fromisoformat(given["expires_at"])
    assert timedelta(days=29) < expires - datetime.now(UTC) <= timedelta(days=30)
    [(kind,)] = query(superuser_url, "select kind from users where user_id = %s", given["user"]["id"])
    assert kind == "guest"
    me = httpx.get(f"{service}/api/me", headers={"Authorization": f"Bearer {given['token']}"}).json()
    assert me == given["user"]


@pytest.mark.spec("IDENT-1")
@pytest.mark.parametrize("body", [None, b"", b"{}", b"null"])
def test_a_guest_needs_to_say_nothing(service: str, body: bytes | None) -> None:
    answer = httpx.post(f"{service}/api/auth/guest", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 201
    assert answer.json()["user"]["time_zone"] == "UTC"


@pytest.mark.spec("IDENT-2")
@pytest.mark.parametrize(
    "zone", ["Mars/Base", "../../etc/passwd", "", "localtime", "UTC\x00", "a" * 100_000, 7, ["UTC"]]
)
def test_a_time_zone_is_known_by_its_name(service: str, zone: Any) -> None:
    refused(httpx.post(f"{service}/api/auth/guest", json={"time_zone": zone}), 422, "invalid_input")


@pytest.mark.database
@pytest.mark.spec("IDENT-3")
def test_the_token_of_an_expired_guest_is_refused(authenticator: Authenticator, superuser_url: str) -> None:
    user, token = authenticator.welcome_guest(address="tests", zone=BERLIN)
    assert authenticator.caller(token).user_id == user.user_id

    query(superuser_url, "update users set expires_at = now() where user_id = %s", user.user_id)
    with pytest.raises(Unauthorized):
        authenticator.caller(token)

    query(superuser_url, "update users set expires_at = now() + interval '1 hour' where user_id = %s", user.user_id)
    query(superuser_url, "update sessions set expires_at = now() where user_id = %s", user.user_id)
    with pytest.raises(Unauthorized):
        authenticator.caller(token)


@pytest.mark.database
@pytest.mark.spec("IDENT-4")
def test_an_expired_guest_is_purged_with_every_row(guest: httpx.Client, database: Database, superuser_url: str) -> None:
    guest.post("/api/chat", json={"message": "Add a task to feed the cat"}).raise_for_status()
    guest.post("/api/tokens", json={"name": "laptop"}).raise_for_status()
    user_id = guest.get("/api/me").json()["id"]
    assert {"tasks", "messages", "runs", "run_events", "operations", "usage", "counters", "api_tokens"} <= set(
        rows_of(superuser_url, user_id)
    )

    expire(superuser_url, user_id)
    assert guest.get("/api/me").status_code == 401
    assert sum(remove_expired_guests(database)) >= 1

    assert rows_of(superuser_url, user_id) == {}
    refused(guest.get("/api/me"), 401, "unauthorized")


@pytest.fixture(scope="module")
def strict(make_settings: Callable[..., Settings]) -> Any:
    """A service with three guests an hour and two turns a day, behind a proxy on this machine."""
    settings = make_settings(guests_per_hour=3, guest_turns_per_day=2, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    with serving(settings) as url:
        yield url


def come(url: str, *hops: str) -> httpx.Response:
    """Begin as a guest through the proxy, which appends the last hop itself."""
    return httpx.post(f"{url}/api/auth/guest", headers=[("X-Forwarded-For", hop) for hop in hops])


@pytest.mark.spec("IDENT-5")
def test_an_address_brings_only_so_many_guests_an_hour(strict: str) -> None:
    assert [come(strict, "203.0.113.1").status_code for _ in range(3)] == [201] * 3

    answer = come(strict, "203.0.113.1")

    refused(answer, 429, "too_many_requests")
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    assert come(strict, "203.0.113.2").status_code == 201


@pytest.mark.database
@pytest.mark.spec("IDENT-5")
@pytest.mark.parametrize(("zone", "said"), [("UTC", "9:00 PM"), ("Asia/Kolkata", "2:30 AM")])
def test_a_refused_guest_reads_when_to_try_again(database_url: str, zone: str, said: str) -> None:
    began = datetime(2026, 11, 30, 20, 59, 30, tzinfo=UTC)
    with opened(database_url, clock=lambda: began) as database:
        counting = Authenticator(database, secret=lambda: "tests", guests=GuestRules(per_hour=1))
        counting.welcome_guest(address=zone, zone=BERLIN)

        with pytest.raises(TooManyRequests, match=f"Try again at {said}") as refusal:
            counting.welcome_guest(address=zone, zone=ZoneInfo(zone))

    assert refusal.value.retry_after == 30


@pytest.mark.spec("IDENT-6")
def test_what_a_client_writes_into_x_forwarded_for_changes_nothing(strict: str) -> None:
    spoofed = [f"198.51.100.{number}" for number in range(4)]

    # The proxy appends the address it sees; the addresses before that are made up by the client.
    codes = [come(strict, f"{hop}, 203.0.113.3").status_code for hop in spoofed]
    assert codes == [201, 201, 201, 429]
    codes = [come(strict, hop, "203.0.113.4, 10.1.2.3").status_code for hop in spoofed]
    assert codes == [201, 201, 201, 429]


@pytest.mark.spec("IDENT-6")
@pytest.mark.parametrize("hop", ["garbage", ",,", "999.1.1.1", "~", "1" * 5000])
def test_a_hop_that_is_no_address_is_counted_all_the_same(strict: str, hop: str) -> None:
    assert [come(strict, hop).status_code for _ in range(4)][-1] == 429


@pytest.mark.spec("IDENT-6")
def test_a_port_behind_a_hop_makes_no_other_address(strict: str) -> None:
    codes = [come(strict, f"198.51.100.9:{port}").status_code for port in range(5000, 5004)]
    assert codes == [201, 201, 201, 429]
    codes = [come(strict, f"[2001:db8:9::1]:{port}").status_code for port in range(5000, 5004)]
    assert codes == [201, 201, 201, 429]


@pytest.mark.spec("IDENT-6")
def test_without_trusted_proxies_the_header_is_not_read(make_settings: Callable[..., Settings]) -> None:
    with serving(make_settings(guests_per_hour=2)) as url:
        codes = [come(url, f"198.51.100.{number}").status_code for number in range(3)]

    assert codes == [201, 201, 429]


@pytest.mark.spec("IDENT-5")
def test_the_neighbors_in_one_ipv6_network_count_as_one_address(strict: str) -> None:
    codes = [come(strict, f"2001:db8:1:1::{number:x}").status_code for number in range(1, 5)]

    assert codes == [201, 201, 201, 429]
    assert come(strict, "2001:db8:1:2::1").status_code == 201


@pytest.mark.spec("IDENT-7")
def test_a_guest_has_so_many_turns_a_day_and_deleting_gives_none_back(strict: str) -> None:
    with signed_in_guest_from(strict, "203.0.113.7") as guest:
        said = [guest.post("/api/chat", json={"message": "Show my tasks"}) for _ in range(2)]
        assert [answer.status_code for answer in said] == [200, 200]
        for conversation in guest.get("/api/conversations").json()["conversations"]:
            guest.delete(f"/api/conversations/{conversation['id']}").raise_for_status()

        answer = guest.post("/api/chat", json={"message": "Show my tasks"})

        refused(answer, 429, "too_many_requests")
        assert 0 < int(answer.headers["retry-after"]) <= 86_400
        assert guest.get("/api/conversations").json()["conversations"] == []
        assert guest.post("/api/tasks", json={"title": "Still works"}).status_code == 201


@pytest.mark.spec("IDENT-8")
def test_an_installation_can_take_no_guests(make_settings: Callable[..., Settings]) -> None:
    with serving(make_settings(guests="off")) as url:
        refused(httpx.post(f"{url}/api/auth/guest"), 403, "forbidden")


@pytest.mark.database
@pytest.mark.spec("IDENT-5")
def test_addresses_are_kept_as_keyed_hashes(database: Database, superuser_url: str) -> None:
    counting = Authenticator(database, secret=lambda: "tests", guests=GuestRules(per_hour=5))
    counting.welcome_guest(address="203.0.113.99", zone=BERLIN)

    hashes = [row[0] for row in query(superuser_url, "select address_hash from arrivals")]

    assert all(len(digest) == 64 and "203" not in digest[:3] for digest in hashes)
    assert "203.0.113.99" not in hashes


def signed_in_guest_from(url: str, address: str) -> Any:
    """Sign in as a guest who comes from an address behind the proxy."""
    client = httpx.Client(base_url=url, timeout=30)
    client.headers["Authorization"] = f"Bearer {come(url, address).raise_for_status().json()['token']}"
    return client


@pytest.mark.spec("IDENT-9")
def test_a_guest_who_logs_out_is_out(service: str) -> None:
    with signed_in_guest(service) as guest:
        assert guest.post("/api/auth/logout").status_code == 204

        refused(guest.get("/api/me"), 401, "unauthorized")
        refused(guest.post("/api/auth/logout"), 401, "unauthorized")
