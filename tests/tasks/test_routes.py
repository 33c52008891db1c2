"""The routes of tasks."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.conftest import query
from tests.problem import refused

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
    """List the numbers of the tasks that fit."""
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
