from collections.abc import Callable

import httpx
import pytest

from backend.settings import Settings
from tests.conftest import serving, signed_in_guest
from tests.problem import refused


@pytest.mark.spec("HTTP-14")
@pytest.mark.parametrize("path", ["/api/tasks", "/api/auth/guest", "/metrics"])
def test_a_name_that_is_not_ours_is_refused(guest: httpx.Client, path: str) -> None:
    refused(guest.get(path, headers={"Host": "evil.example"}), 421, "foreign_host")

    assert guest.get("/health", headers={"Host": "10.0.0.7"}).status_code == 200


@pytest.mark.spec("HTTP-14")
def test_the_public_name_and_this_machines_are_ours(make_settings: Callable[..., Settings]) -> None:
    with serving(make_settings(public_url="https://talk.example")) as url, signed_in_guest(url) as guest:
        for host in ("talk.example", "TALK.example:443", "localhost:9000", "[::1]:8000"):
            assert guest.get("/api/me", headers={"Host": host}).status_code == 200


@pytest.mark.spec("HTTP-15")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_a_foreign_origin_cannot_act(guest: httpx.Client, origin: str) -> None:
    refused(guest.post("/api/auth/guest", headers={"Origin": origin}), 403, "foreign_origin")
    refused(guest.post("/api/tasks", json={"title": "x"}, headers={"Origin": origin}), 403, "foreign_origin")

    assert guest.get("/api/tasks").json()["tasks"] == []


@pytest.mark.spec("HTTP-15")
def test_our_own_page_and_allowed_origins_can(guest: httpx.Client) -> None:
    for origin in (str(guest.base_url).rstrip("/"), "http://localhost:5173"):
        assert guest.post("/api/tasks", json={"title": "x"}, headers={"Origin": origin}).status_code == 201
