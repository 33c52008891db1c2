"""The account: what it shows, how it is changed, and how it is deleted."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import query, signed_in_guest
from tests.identity.test_guests import rows_of
from tests.problem import refused


@pytest.mark.spec("IDENT-10")
def test_a_user_changes_name_and_time_zone(guest: httpx.Client) -> None:
    changed = guest.patch("/api/me", json={"name": "  Zoë  ", "time_zone": "Asia/Tokyo"})

    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["time_zone"]) == ("Zoë", "Asia/Tokyo")
    assert guest.get("/api/me").json() == changed.json()
    due = guest.post("/api/tasks", json={"title": "Call", "due": "tomorrow at 5pm"}).json()["due"]
    assert due.endswith("T17:00:00+09:00")


@pytest.mark.spec("IDENT-10")
def test_what_is_not_given_stays(guest: httpx.Client) -> None:
    before = guest.get("/api/me").json()

    assert guest.patch("/api/me", json={}).json() == before
    assert guest.patch("/api/me", json={"name": "Ann"}).json() == {**before, "name": "Ann"}


@pytest.mark.spec("IDENT-33")
def test_a_zone_that_only_another_machine_knows_is_utc_here(guest: httpx.Client, superuser_url: str) -> None:
    user_id = guest.get("/api/me").json()["id"]
    query(superuser_url, "update users set time_zone = 'Mars/Olympus' where user_id = %s", user_id)

    assert guest.get("/api/me").json()["time_zone"] == "Mars/Olympus"
    due = guest.post("/api/tasks", json={"title": "Call", "due": "tomorrow at 5pm"}).json()["due"]
    assert due.endswith("T17:00:00Z")
    assert guest.post("/api/chat", json={"message": "hello"}).json()["status"] == "completed"


@pytest.mark.spec("IDENT-11")
def test_a_deleted_account_leaves_no_row_in_any_table(service: str, superuser_url: str) -> None:
    with signed_in_guest(service) as guest:
        guest.post("/api/chat", json={"message": "Add a task to feed the cat"}).raise_for_status()
        pat = guest.post("/api/tokens", json={"name": "laptop"}).json()["token"]
        user_id = guest.get("/api/me").json()["id"]
        assert len(rows_of(superuser_url, user_id)) >= 8

        assert guest.delete("/api/me").status_code == 204

        assert rows_of(superuser_url, user_id) == {}
        refused(guest.get("/api/me"), 401, "unauthorized")
        refused(httpx.get(f"{service}/api/me", headers={"Authorization": f"Bearer {pat}"}), 401, "unauthorized")


@pytest.mark.spec("IDENT-11")
def test_deleting_an_account_leaves_the_others(guest: httpx.Client, service: str, superuser_url: str) -> None:
    guest.post("/api/tasks", json={"title": "Mine"}).raise_for_status()
    before = rows_of(superuser_url, guest.get("/api/me").json()["id"])

    with signed_in_guest(service) as leaving:
        leaving.delete("/api/me").raise_for_status()

    assert rows_of(superuser_url, guest.get("/api/me").json()["id"]) == before


@pytest.mark.spec("IDENT-12")
def test_no_token_of_ours_is_kept_as_it_is(guest: httpx.Client, superuser_url: str) -> None:
    session = guest.headers["Authorization"].removeprefix("Bearer ")
    [(kept,)] = query(
        superuser_url, "select token_hash from sessions where user_id = %s", guest.get("/api/me").json()["id"]
    )

    assert session not in kept
    assert len(kept) == 64


@pytest.mark.spec("IDENT-11")
def test_an_account_is_deleted_while_it_is_in_use(guest: httpx.Client, superuser_url: str) -> None:
    user_id = guest.get("/api/me").json()["id"]
    with ThreadPoolExecutor(12) as pool:
        writing = [pool.submit(guest.post, "/api/tasks", json={"title": "x"}) for _ in range(40)]
        gone = pool.submit(guest.delete, "/api/me").result()
        codes = {answer.result().status_code for answer in writing}

    assert gone.status_code == 204
    assert codes <= {201, 401}
    assert query(superuser_url, "select count(*) from tasks where user_id = %s", user_id) == [(0,)]
