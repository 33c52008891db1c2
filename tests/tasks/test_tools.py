"""The tools for tasks, called through the operations."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backend.errors import Forbidden, InvalidInput
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.tasks.repository import TaskNotFound, TooManyTasks
from backend.tasks.tools import (
    TASK_TOOLS,
    add_task,
    complete_task,
    delete_task,
    edit_task,
    get_task,
    list_tasks,
    reopen_task,
    update_task,
)
from tests.conftest import query


def titles(operations: Operations, caller: Caller, **wanted: Any) -> list[str]:
    """Return the titles of the matching tasks."""
    return [task["title"] for task in operations.perform(list_tasks, wanted, caller).result["tasks"]]


@pytest.mark.spec("TASK-9")
def test_a_task_of_another_user_does_not_exist(operations: Operations, alice: Caller, bob: Caller) -> None:
    task = operations.perform(add_task, {"title": "milk"}, alice).result
    operations.perform(add_task, {"title": "mine"}, bob)
    operations.perform(delete_task, {"task_id": 1}, bob)

    for tool in (get_task, complete_task, reopen_task, delete_task):
        with pytest.raises(TaskNotFound) as theirs:
            operations.perform(tool, {"task_id": task["task_id"]}, bob)
        with pytest.raises(TaskNotFound) as nobodys:
            operations.perform(tool, {"task_id": 4711}, bob)
        assert str(theirs.value).replace("Task 1 ", "Task N ") == str(nobodys.value).replace("Task 4711 ", "Task N ")
    with pytest.raises(TaskNotFound):
        operations.perform(update_task, {"task_id": task["task_id"], "title": "mine now"}, bob)
    assert titles(operations, alice) == ["milk"]


@pytest.mark.spec("TASK-1")
def test_a_new_task_says_what_it_is(operations: Operations, alice: Caller) -> None:
    told = operations.perform(
        add_task,
        {"title": " Call mom ", "description": "Her birthday", "priority": "high", "tags": ["Home", "home", "a"]},
        alice,
    ).result

    assert told["task_id"] == told["id"] == 1
    assert (told["status"], told["title"], told["description"]) == ("created", "Call mom", "Her birthday")
    assert (told["priority"], told["tags"], told["completed"], told["version"]) == ("high", ["home", "a"], False, 1)


@pytest.mark.spec("TASK-2")
def test_the_server_resolves_the_due_date_and_says_what_it_understood(operations: Operations, alice: Caller) -> None:
    told = operations.perform(add_task, {"title": "Call mom", "due": "2031-03-04 17:00"}, alice).result

    assert told["due"] == "2031-03-04T17:00:00+01:00"
    assert "March 4, 2031 at 5:00 PM" in told["due_understood"]


@pytest.mark.spec("TASK-3")
def test_numbers_are_counted_for_each_user_and_never_used_again(
    operations: Operations, alice: Caller, bob: Caller
) -> None:
    for title in ("one", "two"):
        operations.perform(add_task, {"title": title}, alice)
    operations.perform(delete_task, {"task_id": 2}, alice)

    assert operations.perform(add_task, {"title": "three"}, alice).result["task_id"] == 3
    assert operations.perform(add_task, {"title": "first of bob"}, bob).result["task_id"] == 1


@pytest.mark.spec("TASK-4")
def test_completing_a_completed_task_changes_nothing(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)

    first = operations.perform(complete_task, {"task_id": 1}, alice).result
    task = operations.perform(get_task, {"task_id": 1}, alice).result
    again = operations.perform(complete_task, {"task_id": 1}, alice).result

    done = {"task_id": 1, "status": "completed", "title": "milk"}
    assert (first, again) == (done | {"operation_id": 2}, done | {"operation_id": 3})
    assert task["completed_at"] is not None
    assert operations.perform(get_task, {"task_id": 1}, alice).result == task


@pytest.mark.spec("TASK-47")
def test_a_reopened_task_keeps_its_fields_and_is_reopened_once(operations: Operations, alice: Caller) -> None:
    wanted = {"title": "milk", "description": "Two liters", "due": "2031-01-01", "priority": "high", "tags": ["a"]}
    operations.perform(add_task, wanted, alice)
    task = operations.perform(get_task, {"task_id": 1}, alice).result
    operations.perform(complete_task, {"task_id": 1}, alice)

    first = operations.perform(reopen_task, {"task_id": 1}, alice).result
    opened = operations.perform(get_task, {"task_id": 1}, alice).result
    again = operations.perform(reopen_task, {"task_id": 1}, alice).result

    reopened = {"task_id": 1, "status": "pending", "title": "milk"}
    assert (first, again) == (reopened | {"operation_id": 3}, reopened | {"operation_id": 4})
    kept = [name for name in task if name not in ("version", "updated_at")]
    assert {name: opened[name] for name in kept} == {name: task[name] for name in kept}
    assert opened["version"] == 3
    assert operations.perform(get_task, {"task_id": 1}, alice).result == opened


@pytest.mark.spec("TASK-47")
def test_a_reader_reopens_nothing(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)
    operations.perform(complete_task, {"task_id": 1}, alice)

    with pytest.raises(Forbidden):
        operations.perform(reopen_task, {"task_id": 1}, replace(alice, scopes=frozenset({"read"})))

    assert titles(operations, alice, status="completed") == ["milk"]


@pytest.mark.spec("TASK-48")
def test_a_change_to_what_a_task_is_already_changes_nothing(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "milk", "due": "2031-01-01", "tags": ["a"]}, alice)
    task = operations.perform(get_task, {"task_id": 1}, alice).result

    same = {"task_id": 1, "title": "milk", "due": "2031-01-01", "tags": ["A", "a"]}
    assert operations.perform(update_task, same, alice).result["version"] == 1

    assert operations.perform(get_task, {"task_id": 1}, alice).result == task


@pytest.mark.spec("TASK-5")
def test_an_update_changes_what_is_given(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "milk", "priority": "low", "due": "2031-01-01"}, alice)

    told = operations.perform(update_task, {"task_id": 1, "title": "oat milk", "due": "none"}, alice).result

    assert (told["status"], told["title"], told["priority"], told["due"]) == ("updated", "oat milk", "low", None)
    assert told["version"] == 2
    with pytest.raises(InvalidInput, match="No change was given"):
        operations.perform(update_task, {"task_id": 1}, alice)


@pytest.mark.spec("TASK-30")
@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("2 PM", "2031-03-04T14:00:00+01:00"),
        ("at 2", "2031-03-04T14:00:00+01:00"),
        ("17:30", "2031-03-04T17:30:00+01:00"),
        ("noon", "2031-03-04T12:00:00+01:00"),
        ("in the evening", "2031-03-04T18:00:00+01:00"),
        ("2031-03-05 2 PM", "2031-03-05T14:00:00+01:00"),
        ("2031-03-05", "2031-03-05T23:59:00+01:00"),
    ],
)
@pytest.mark.parametrize("tool", [update_task, edit_task])
def test_a_time_alone_keeps_the_day_of_the_task(
    operations: Operations, alice: Caller, tool: Any, words: str, at: str
) -> None:
    operations.perform(add_task, {"title": "Meet Bo", "due": "2031-03-04 15:00"}, alice)

    assert operations.perform(tool, {"task_id": 1, "due": words}, alice).result["due"] == at


@pytest.mark.spec("TASK-30")
def test_a_time_alone_keeps_the_day_that_the_user_sees(
    operations: Operations, new_caller: Callable[..., Caller]
) -> None:
    late = new_caller(zone=ZoneInfo("America/Los_Angeles"))
    operations.perform(add_task, {"title": "Meet Bo", "due": "2031-03-04 23:30"}, late)

    told = operations.perform(update_task, {"task_id": 1, "due": "8 PM"}, late).result

    assert told["due"] == "2031-03-04T20:00:00-08:00"


@pytest.mark.spec("TASK-30")
def test_a_task_without_a_day_gets_the_next_such_time(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "Meet Bo"}, alice)

    told = operations.perform(update_task, {"task_id": 1, "due": "2 PM"}, alice).result

    now = datetime.now(alice.zone)
    ahead = datetime.fromisoformat(told["due"]) - now
    assert timedelta(0) < ahead <= timedelta(hours=25)
    assert told["due_understood"].endswith("at 2:00 PM")


@pytest.mark.spec("TASK-6")
def test_a_deleted_task_is_gone(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)

    assert operations.perform(delete_task, {"task_id": 1}, alice).result == {
        "task_id": 1,
        "status": "deleted",
        "title": "milk",
        "operation_id": 2,
    }
    with pytest.raises(TaskNotFound):
        operations.perform(delete_task, {"task_id": 1}, alice)


@pytest.mark.spec("TASK-7")
def test_a_list_is_filtered(operations: Operations, alice: Caller) -> None:
    operations.perform(add_task, {"title": "Buy milk", "tags": ["shop"], "due": "2031-01-01"}, alice)
    operations.perform(add_task, {"title": "Buy 100% wool", "description": "for the Winter"}, alice)
    operations.perform(add_task, {"title": "snake_case", "due": "2031-06-01"}, alice)
    operations.perform(complete_task, {"task_id": 3}, alice)

    assert titles(operations, alice) == ["Buy milk", "Buy 100% wool", "snake_case"]
    assert titles(operations, alice, status="pending") == ["Buy milk", "Buy 100% wool"]
    assert titles(operations, alice, status="completed") == ["snake_case"]
    assert titles(operations, alice, query="buy WINTER") == ["Buy 100% wool"]
    assert titles(operations, alice, query="%") == ["Buy 100% wool"]
    assert titles(operations, alice, query="e_c") == ["snake_case"]
    assert titles(operations, alice, query="\\") == []
    assert titles(operations, alice, tag="SHOP") == ["Buy milk"]
    assert titles(operations, alice, due_before="2031-02-01") == ["Buy milk"]
    assert titles(operations, alice, due_before="2031-02-01", status="completed") == []


@pytest.mark.spec("TASK-8")
def test_pages_follow_each_other_without_gap_or_repeat(operations: Operations, alice: Caller) -> None:
    for number in range(7):
        operations.perform(add_task, {"title": f"task {number}"}, alice)

    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = operations.perform(list_tasks, {"limit": 3, "cursor": cursor}, alice).result
        seen += [task["title"] for task in page["tasks"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == [f"task {number}" for number in range(7)]


MANY: list[dict[str, Any]] = [
    {"title": "pear", "priority": "high", "due": "2031-03-01"},
    {"title": "Apple", "due": "2031-01-01"},
    {"title": "apple", "priority": "low"},
    {"title": "fig", "priority": "high", "due": "2031-01-01"},
    {"title": "\u00c9clair \u0130\u1e9e\U0001f36b", "priority": "medium", "due": "2030-01-01T10:00:00.123456+02:00"},
    {"title": "apple"},
    {"title": "banana", "priority": "high", "due": "2031-03-01"},
]
ORDERS = {
    "created": [1, 2, 3, 4, 5, 6, 7],
    "-created": [7, 6, 5, 4, 3, 2, 1],
    "due": [5, 2, 4, 1, 7, 3, 6],
    "-due": [1, 7, 2, 4, 5, 3, 6],
    "priority": [2, 6, 3, 5, 1, 4, 7],
    "-priority": [1, 4, 7, 5, 3, 2, 6],
}


@pytest.fixture
def many(operations: Operations, alice: Caller, bob: Caller) -> Callable[..., list[int]]:
    """Returns the numbers of Alice's seven tasks page by page; `between` is called with the numbers listed so far."""
    for wanted in MANY:
        operations.perform(add_task, wanted, alice)
        operations.perform(add_task, wanted, bob)

    def pages(limit: int, *, between: Callable[[list[int]], object] = bool, **wanted: Any) -> list[int]:
        found: list[int] = []
        cursor = None
        while True:
            page = operations.perform(list_tasks, {**wanted, "limit": limit, "cursor": cursor}, alice).result
            found += [task["id"] for task in page["tasks"]]
            assert len(found) <= 2 * len(MANY)
            if (cursor := page["next_cursor"]) is None:
                return found
            between(found)

    return pages


@pytest.mark.spec("TASK-44")
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_list_is_sorted_whole_and_page_by_page(many: Callable[..., list[int]], limit: int) -> None:
    assert {sort: many(limit, sort=sort) for sort in ORDERS} == ORDERS
    assert many(limit) == [1, 2, 3, 4, 5, 6, 7]
    # The place of a letter beyond ASCII depends on the database's collation.
    assert [number for number in many(limit, sort="title") if number != 5] == [2, 3, 6, 7, 4, 1]
    assert [number for number in many(limit, sort="-title") if number != 5] == [1, 4, 7, 2, 3, 6]
    assert sorted(many(limit, sort="title")) == sorted(many(limit, sort="-title")) == [1, 2, 3, 4, 5, 6, 7]
    assert many(limit, sort="-due", priority="high") == [1, 7, 4]
    assert many(limit, priority="none") == [2, 6]


@pytest.mark.spec("TASK-44")
@pytest.mark.parametrize("sort", ["created", "-due", "due", "priority", "-title", None])
def test_a_change_between_two_pages_moves_no_other_task(
    many: Callable[..., list[int]], operations: Operations, alice: Caller, sort: str | None
) -> None:
    order = many(100, sort=sort)

    def change(found: list[int]) -> None:
        if len(found) == 2:
            other = {"title": "zucchini", "due": "none", "priority": "low"}
            operations.perform(update_task, {"task_id": found[-1], **other}, alice)
        elif len(found) == 4:
            operations.perform(delete_task, {"task_id": found[-1]}, alice)

    found = many(2, sort=sort, between=change)

    moved = order[1]
    assert [number for number in found if number != moved] == [number for number in order if number != moved]


WRONG: list[dict[str, Any]] = [
    {},
    {"title": ""},
    {"title": " \n "},
    {"title": "a" * 201},
    {"title": "a" * 100_000},
    {"title": "a\x00b"},
    {"title": "a\ud800b"},
    {"title": "a\x1bb"},
    {"title": "two\nlines"},
    {"title": 7},
    {"title": ["milk"]},
    {"title": "milk", "description": "d" * 10_001},
    {"title": "milk", "description": "\x00"},
    {"title": "milk", "priority": "urgent"},
    {"title": "milk", "tags": "home"},
    {"title": "milk", "tags": ["x"] * 21},
    {"title": "milk", "tags": [""]},
    {"title": "milk", "tags": ["t" * 51]},
    {"title": "milk", "due": "the day the music died"},
    {"title": "milk", "due": "\x00"},
    {"title": "milk", "due": 5},
    {"title": "milk", "user_id": "guest_1"},
    {"title": "milk", "unknown": 1},
    {"title": "milk", "\ud800": 1},
    {"title": "milk", "idempotency_key": ""},
    {"title": "milk", "idempotency_key": "k" * 201},
]


@pytest.mark.spec("TASK-10")
@pytest.mark.parametrize("arguments", WRONG, ids=lambda arguments: ascii(arguments)[:40])
def test_wrong_arguments_are_refused_with_a_sentence_and_change_nothing(
    operations: Operations, alice: Caller, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as error:
        operations.perform(add_task, arguments, alice)

    assert str(error.value).encode()
    assert len(str(error.value)) < 2_000
    assert "aaaaa" not in str(error.value)
    assert titles(operations, alice) == []


@pytest.mark.spec("TASK-10")
@pytest.mark.parametrize("task_id", [0, -1, 2**31, 2**63, 10**30, "three", "", None, 1.5, [1], {}, True])
def test_a_number_that_no_task_can_have_is_refused(operations: Operations, alice: Caller, task_id: Any) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)

    for tool in (get_task, complete_task, reopen_task, delete_task):
        with pytest.raises((InvalidInput, TaskNotFound)) as error:
            operations.perform(tool, {"task_id": task_id}, alice)
        assert str(error.value).endswith(".")
    assert titles(operations, alice) == ["milk"]


@pytest.mark.spec("TASK-11")
def test_no_tool_takes_a_user() -> None:
    for tool in TASK_TOOLS:
        assert "user_id" not in tool.input_schema["properties"]
        assert "scope" not in tool.input_schema["properties"]
        assert tool.input_schema["additionalProperties"] is False


@pytest.mark.spec("TASK-21")
def test_a_list_shows_the_beginning_of_a_long_description(operations: Operations, alice: Caller) -> None:
    number = operations.perform(add_task, {"title": "Long", "description": "d" * 10_000}, alice).result["id"]

    [listed] = operations.perform(list_tasks, {}, alice).result["tasks"]

    assert listed["description"] == "d" * 299 + "…"
    assert operations.perform(get_task, {"task_id": number}, alice).result["description"] == "d" * 10_000


@pytest.mark.spec("TASK-22")
def test_a_user_has_at_most_ten_thousand_tasks(
    operations: Operations, alice: Caller, bob: Caller, superuser_url: str
) -> None:
    operations.perform(add_task, {"title": "First"}, alice)
    many = "insert into tasks (user_id, id, title) select %s, number, 'old' from generate_series(2, 10000) number"
    query(superuser_url, many, alice.user_id)
    query(superuser_url, "update counters set last = 10000 where user_id = %s and noun = 'task'", alice.user_id)

    with pytest.raises(TooManyTasks):
        operations.perform(add_task, {"title": "One too many"}, alice)

    operations.perform(delete_task, {"task_id": 1}, alice)
    assert operations.perform(add_task, {"title": "Room again"}, alice).result["id"] == 10_001
    assert operations.perform(add_task, {"title": "Mine"}, bob).result["id"] == 1
