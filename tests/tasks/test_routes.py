"""The routes of tasks."""

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from backend.api_router import OURS
from backend.app import create_app
from backend.settings import Settings
from tests.conftest import query
from tests.problem import refused

UNUSED = Settings(environment="test", log_level="WARNING", database_url="postgresql://nobody@127.0.0.1:1/none")
ADDRESSES = create_app(UNUSED).openapi()["paths"]
FIELDS = {
    "id",
    "title",
    "description",
    "completed",
    "completed_at",
    "due",
    "priority",
    "tags",
    "created_at",
    "updated_at",
    "version",
}


def added(guest: httpx.Client, **wanted: Any) -> dict[str, Any]:
    """Add a task and return it."""
    answer = guest.post("/api/tasks", json={"title": "Milk", **wanted})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


def listed(guest: httpx.Client, **wanted: Any) -> list[int]:
    """Return the numbers of the matching tasks."""
    answer = guest.get("/api/tasks", params=wanted)
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json()["tasks"]]


@pytest.mark.spec("TASK-12")
def test_a_task_has_the_fields_of_the_contract(guest: httpx.Client) -> None:
    task = added(guest, description="Two liters", due="tomorrow at 9am", priority="high", tags=["Shop"])

    assert task.keys() >= FIELDS
    assert guest.get(f"/api/tasks/{task['id']}").json() == task
    assert guest.get("/api/tasks").json() == {"tasks": [task], "next_cursor": None}
    for moment in ("due", "created_at", "updated_at"):
        assert datetime.fromisoformat(task[moment]).utcoffset() is not None
    assert (task["completed"], task["completed_at"], task["tags"]) == (False, None, ["shop"])


@pytest.mark.spec("TASK-13")
def test_null_takes_a_field_away(guest: httpx.Client) -> None:
    task = added(guest, description="Two liters", due="tomorrow", priority="high", tags=["shop"])

    cleared = guest.patch(
        f"/api/tasks/{task['id']}", json={"description": None, "due": None, "priority": None, "tags": None}
    ).json()

    assert (cleared["description"], cleared["due"], cleared["priority"], cleared["tags"]) == ("", None, "none", [])
    assert cleared["title"] == "Milk"
    assert cleared["version"] == task["version"] + 1


@pytest.mark.spec("TASK-13")
def test_what_cannot_be_empty_ignores_null_and_an_empty_change_changes_nothing(guest: httpx.Client) -> None:
    task = added(guest)

    assert guest.patch("/api/tasks/1", json={"title": None, "completed": None}).json() == task
    assert guest.patch("/api/tasks/1", json={}).json() == task


@pytest.mark.spec("TASK-14")
def test_a_task_is_completed_and_opened_again(guest: httpx.Client) -> None:
    added(guest)

    done = guest.patch("/api/tasks/1", json={"completed": True, "title": "Oat milk"}).json()
    again = guest.patch("/api/tasks/1", json={"completed": True}).json()
    opened = guest.patch("/api/tasks/1", json={"completed": False}).json()

    assert (done["completed"], done["title"]) == (True, "Oat milk")
    assert done["completed_at"] is not None
    assert again == done
    assert (opened["completed"], opened["completed_at"]) == (False, None)


@pytest.mark.spec("TASK-15")
def test_a_task_is_deleted_once(guest: httpx.Client) -> None:
    added(guest)

    first = guest.delete("/api/tasks/1")

    assert (first.status_code, first.content) == (204, b"")
    refused(guest.delete("/api/tasks/1"), 404, "not_found")
    refused(guest.get("/api/tasks/1"), 404, "not_found")
    refused(guest.patch("/api/tasks/1", json={"title": "Back"}), 404, "not_found")


@pytest.mark.spec("TASK-16")
def test_the_list_takes_filters_and_pages(guest: httpx.Client) -> None:
    for number in range(1, 6):
        added(guest, title=f"Task {number}", tags=["odd" if number % 2 else "even"])
    guest.patch("/api/tasks/2", json={"completed": True, "due": "2031-01-01"}).raise_for_status()

    assert listed(guest, status="completed") == [2]
    assert listed(guest, status="pending") == [1, 3, 4, 5]
    assert listed(guest, tag="odd") == [1, 3, 5]
    assert listed(guest, query="task 4") == [4]
    assert listed(guest, due_before="2032-01-01") == [2]
    assert listed(guest, limit=2, cursor=3) == [4, 5]
    first = guest.get("/api/tasks", params={"limit": 2}).json()
    assert [task["id"] for task in first["tasks"]] == [1, 2]
    assert listed(guest, limit=100, cursor=first["next_cursor"]) == [3, 4, 5]
    assert listed(guest, cursor="9999999999") == []


@pytest.mark.spec("TASK-17")
def test_twenty_posts_with_one_key_make_one_task(guest: httpx.Client) -> None:
    def post(_number: int) -> httpx.Response:
        return guest.post("/api/tasks", json={"title": "Once"}, headers={"Idempotency-Key": "k-1"})

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(post, range(20)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert listed(guest) == [1]


@pytest.mark.spec("TASK-18")
def test_a_key_with_another_body_is_refused(guest: httpx.Client, other_guest: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = guest.post("/api/tasks", json={"title": "Once"}, headers=key).json()

    refused(guest.post("/api/tasks", json={"title": "Twice"}, headers=key), 422, "idempotency_key_reused")

    assert guest.post("/api/tasks", json={"title": "Once"}, headers=key).json() == first
    assert other_guest.post("/api/tasks", json={"title": "Twice"}, headers=key).status_code == 201
    assert listed(guest) == [1]


@pytest.mark.spec("TASK-19")
def test_a_key_is_forgotten_after_a_day(guest: httpx.Client, superuser_url: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    guest.post("/api/tasks", json={"title": "Once"}, headers=key).raise_for_status()
    query(
        superuser_url,
        "update operations set created_at = now() - interval '25 hours' where user_id = %s",
        guest.get("/api/me").json()["id"],
    )

    assert guest.post("/api/tasks", json={"title": "Twice"}, headers=key).status_code == 201
    assert guest.post("/api/tasks", json={"title": "Twice"}, headers=key).json()["id"] == 2
    assert listed(guest) == [1, 2]


@pytest.mark.spec("TASK-18")
def test_a_failed_request_does_not_use_its_key_up(guest: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    refused(guest.post("/api/tasks", json={"title": "A", "due": "blue"}, headers=key), 422, "due_not_understood")

    assert guest.post("/api/tasks", json={"title": "A", "due": "tomorrow"}, headers=key).status_code == 201


@pytest.mark.spec("TASK-20")
def test_many_writers_never_get_one_number_twice(guest: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda number: added(guest, title=f"Task {number}")["id"], range(40)))

    assert sorted(numbers) == list(range(1, 41))


@pytest.fixture
def mine(guest: httpx.Client) -> str:
    """The address of the guest's tasks that names the guest."""
    return f"/api/{guest.get('/api/me').json()['id']}/tasks"


@pytest.mark.spec("TASK-40")
def test_the_same_tasks_are_at_the_address_that_names_the_user(guest: httpx.Client, mine: str) -> None:
    task = guest.post(mine, json={"title": "Milk", "tags": ["shop"]})
    assert task.status_code == 201

    assert guest.get(f"{mine}/1").json() == guest.get("/api/tasks/1").json() == task.json()
    assert guest.get(mine, params={"tag": "shop"}).json() == guest.get("/api/tasks").json()
    assert guest.get(f"{mine}/").json() == guest.get("/api/tasks").json()
    changed = guest.patch(f"{mine}/1", json={"title": "Oat milk", "completed": True}).json()
    assert (changed["title"], changed["completed"], changed["tags"]) == ("Oat milk", True, ["shop"])
    assert guest.delete(f"{mine}/1").status_code == 204
    refused(guest.get(f"{mine}/1"), 404, "not_found")
    refused(guest.get("/api/tasks/1"), 404, "not_found")


@pytest.mark.spec("TASK-40")
def test_the_address_that_names_another_user_or_nobody_is_one_and_the_same_404(
    guest: httpx.Client, other_guest: httpx.Client, mine: str
) -> None:
    other_guest.post("/api/tasks", json={"title": "Theirs"}).raise_for_status()
    them = other_guest.get("/api/me").json()["id"]
    before = other_guest.get("/api/tasks").json()

    for method, path, body in (
        ("GET", "", None),
        ("POST", "", {"title": "Mine"}),
        ("POST", "", {"title": ""}),
        ("GET", "/1", None),
        ("GET", "/one", None),
        ("PUT", "/1", {"title": "Mine"}),
        ("PATCH", "/1", {"title": "Mine"}),
        ("PATCH", "/1/complete", None),
        ("DELETE", "/1", None),
    ):
        problems = [
            refused(guest.request(method, f"/api/{user}/tasks{path}", json=body), 404, "not_found")
            for user in (them, "guest_nobody", "None", f"{them}x", them.upper())
        ]
        assert problems == [problems[0]] * 5
        assert problems[0]["detail"] == "You have nothing at this address. Check the user that it names."
    assert other_guest.get("/api/tasks").json() == before
    assert guest.get(mine).json()["tasks"] == []


@pytest.mark.spec("TASK-40")
@pytest.mark.parametrize("name", ["auth", "conversations", "documents", "runs", "tasks", "tokens"])
def test_no_address_of_ours_is_taken_for_a_user(guest: httpx.Client, service: str, name: str) -> None:
    for method, path in (("POST", "tasks"), ("PUT", "tasks/1"), ("PATCH", "tasks/1/complete"), ("PUT", "tasks")):
        with_token = guest.request(method, f"/api/{name}/{path}", json={"title": "Milk"})
        without = httpx.request(method, f"{service}/api/{name}/{path}", json={"title": "Milk"})
        assert with_token.status_code == without.status_code
        assert with_token.status_code in (404, 405)
    assert listed(guest) == []


@pytest.mark.spec("TASK-40")
def test_every_word_of_ours_with_addresses_below_it_is_kept_from_users() -> None:
    found = {path.split("/")[2] for path in ADDRESSES if path.startswith("/api/") and path.count("/") > 2}

    assert found - {"{user_id}"} == set(OURS)


@pytest.mark.spec("TASK-41")
def test_put_replaces_the_whole_task(guest: httpx.Client, mine: str) -> None:
    old = added(guest, description="Two liters", due="tomorrow", priority="high", tags=["shop"])

    new = guest.put(f"{mine}/1", json={"title": "Bread", "priority": "low", "tags": None}).json()

    assert (new["title"], new["priority"], new["id"]) == ("Bread", "low", old["id"])
    assert (new["description"], new["due"], new["tags"], new["created_at"]) == ("", None, [], old["created_at"])
    whole = {"title": "Tea", "description": "Green", "due": "2031-01-02", "priority": "medium", "tags": ["a", "b"]}
    told = guest.put(f"{mine}/1", json=whole).json()
    assert {name: told[name] for name in whole} == {**whole, "due": told["due"]}
    assert told["due"].startswith("2031-01-02T23:59")
    assert guest.get("/api/tasks/1").json() == told


@pytest.mark.spec("TASK-41")
def test_put_again_changes_nothing_and_leaves_completed_alone(guest: httpx.Client, mine: str) -> None:
    added(guest)
    guest.patch(f"{mine}/1", json={"completed": True}).raise_for_status()

    first = guest.put(f"{mine}/1", json={"title": "Bread", "due": "2031-01-02"}).json()
    assert first["completed"]
    assert guest.put(f"{mine}/1", json={"title": "Bread", "due": "2031-01-02"}).json() == first
    opened = guest.put(f"{mine}/1", json={"title": "Bread", "due": "2031-01-02", "completed": False}).json()
    assert (opened["completed"], opened["completed_at"]) == (False, None)


@pytest.mark.spec("TASK-41")
def test_put_needs_a_title_and_a_task_that_is_there(guest: httpx.Client, mine: str) -> None:
    task = added(guest, tags=["shop"])

    for body in ({}, {"title": None}, {"title": ""}, {"title": "A", "id": 2}, {"title": "A", "due": "blue"}):
        refused(guest.put(f"{mine}/1", json=body), 422)
    refused(guest.put(f"{mine}/2", json={"title": "Bread"}), 404, "not_found")
    refused(guest.put("/api/tasks/1", json={"title": "Bread"}), 405)
    assert guest.get("/api/tasks").json()["tasks"] == [task]


@pytest.mark.spec("TASK-42")
def test_complete_toggles_and_returns_the_task(guest: httpx.Client, mine: str) -> None:
    task = added(guest, due="tomorrow", tags=["shop"])

    done = guest.patch(f"{mine}/1/complete").json()
    opened = guest.patch(f"{mine}/1/complete", json={}).json()

    assert (done["completed"], done["title"], done["tags"]) == (True, "Milk", ["shop"])
    assert done["completed_at"] is not None
    kept = {name: value for name, value in opened.items() if name not in ("version", "updated_at")}
    assert kept == {name: task[name] for name in kept}
    key = {"Idempotency-Key": "once"}
    assert [guest.patch(f"{mine}/1/complete", headers=key).json()["completed"] for _ in range(3)] == [True] * 3
    assert guest.get(f"{mine}/1").json()["completed"]
    refused(guest.patch(f"{mine}/2/complete"), 404, "not_found")
    refused(guest.get(f"{mine}/1/complete"), 405)


@pytest.mark.spec("TASK-42")
def test_toggles_at_once_each_count(guest: httpx.Client, mine: str) -> None:
    added(guest)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: guest.patch(f"{mine}/1/complete").json()["completed"], range(8)))

    assert sorted(answers) == [False] * 4 + [True] * 4
    assert not guest.get("/api/tasks/1").json()["completed"]


@pytest.mark.spec("TASK-43")
def test_one_key_stands_for_one_request_at_both_addresses(guest: httpx.Client, mine: str) -> None:
    key = {"Idempotency-Key": "k-1"}

    first = guest.post(mine, json={"title": "Once"}, headers=key).json()

    assert guest.post("/api/tasks", json={"title": "Once"}, headers=key).json() == first
    refused(guest.post(mine, json={"title": "Twice"}, headers=key), 422, "idempotency_key_reused")
    assert listed(guest) == [1]


@pytest.mark.spec("TASK-44")
def test_a_list_is_sorted_and_goes_on_in_its_order(guest: httpx.Client, mine: str) -> None:
    for title, priority in (("pear", "low"), ("Apple", "none"), ("fig", "high")):
        added(guest, title=title, priority=priority)

    assert listed(guest, sort="title") == [2, 3, 1]
    assert listed(guest, sort="-priority") == [3, 1, 2]
    assert listed(guest, priority="none") == [2]
    first = guest.get(mine, params={"sort": "title", "limit": 2}).json()
    assert listed(guest, sort="title", cursor=first["next_cursor"]) == [1]


@pytest.mark.spec("TASK-45")
def test_a_cursor_of_another_order_is_refused(guest: httpx.Client) -> None:
    for day in (1, 2):
        added(guest, due=f"2031-01-0{day}")
    by_due = guest.get("/api/tasks", params={"sort": "due", "limit": 1}).json()["next_cursor"]
    by_number = guest.get("/api/tasks", params={"limit": 1}).json()["next_cursor"]

    for params in ({"cursor": by_due}, {"cursor": by_due, "sort": "-due"}, {"cursor": by_number, "sort": "due"}):
        problem = refused(guest.get("/api/tasks", params=params), 422, "invalid_input")
        assert problem["detail"] == "This page belongs to a list in another order. Start again from the first page."


@pytest.mark.spec("TASK-45")
@pytest.mark.parametrize(
    "inside",
    [
        "[",
        "[]",
        "{}",
        "7",
        '["due",null]',
        '["size",null,1]',
        '[["due"],null,1]',
        '["created",null,1]',
        '["due","2031-01-01T00:00:00",1]',
        '["due","tomorrow",1]',
        '["due",5,1]',
        '["due","2031-01-01T00:00:00+16:00",1]',
        '["created","2031-01-01T00:00:00-23:59",1]',
        '["title","a\\u0000",1]',
        '["title","\\ud800",1]',
        '["title",null,1]',
        '["priority","urgent",1]',
        '["due",null,true]',
        '["due",null,0]',
        '["due",null,2147483648]',
        '["due",null,1.0]',
        "[" * 1_000,
    ],
)
def test_a_cursor_that_no_list_gave_is_refused(guest: httpx.Client, inside: str) -> None:
    cursor = base64.urlsafe_b64encode(inside.encode()).decode().rstrip("=")

    for sort in ({}, {"sort": "created"}, {"sort": "due"}, {"sort": "title"}):
        refused(guest.get("/api/tasks", params={"cursor": cursor, **sort}), 422, "invalid_input")


@pytest.mark.spec("TASK-45")
@pytest.mark.parametrize("cursor", ["!!!", "²", "-1", "1.5", "ä", "a" * 2_000])
def test_a_cursor_that_is_none_gets_the_same_sentence(guest: httpx.Client, cursor: str) -> None:
    answer = guest.get("/api/tasks", params={"cursor": cursor})

    refused(answer, 422, "invalid_input")
    assert answer.json()["detail"] == "This page does not exist. Start again from the first page."


@pytest.mark.spec("TASK-46")
@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("sort", "due_date", [f"'{way}{key}'" for key in ("created", "due", "priority", "title") for way in ("", "-")]),
        ("sort", "Due", ["'due'"]),
        ("priority", "urgent", ["'none'", "'low'", "'medium'", "'high'"]),
    ],
)
def test_a_wrong_order_or_priority_is_refused_with_the_choices(
    guest: httpx.Client, mine: str, name: str, value: str, choices: list[str]
) -> None:
    for path in ("/api/tasks", mine):
        problem = refused(guest.get(path, params={name: value}), 422, "invalid_input")

        assert [error["field"] for error in problem["errors"]] == [name]
        assert problem["detail"].startswith(f"The {name} must be one of these: ")
        assert all(choice in problem["detail"] for choice in choices)
