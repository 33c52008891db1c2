"""The one door: checks, transaction, ledger, replay."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from backend.errors import Forbidden, InvalidInput
from backend.idempotency import KeyUsedForSomethingElse
from backend.identity.caller import Caller, Door
from backend.operations.perform import Call, Operations, Outcome
from backend.postgres.database import Scope
from backend.tasks.repository import TaskNotFound
from backend.tasks.tools import add_task, delete_task, list_tasks
from tests.conftest import query

DOORS: tuple[Door, ...] = ("chat", "mcp", "rest")


def ledger_of(superuser_url: str, caller: Caller, columns: str) -> list[tuple[Any, ...]]:
    """Return columns of a user's ledger, oldest first, past the policies."""
    statement = f"select {columns} from operations where user_id = %s order by id"  # noqa: S608
    return query(superuser_url, statement, caller.user_id)


def titles(operations: Operations, caller: Caller) -> list[str]:
    """Return the titles of the user's tasks."""
    return [task["title"] for task in operations.perform(list_tasks, {}, caller).result["tasks"]]


@pytest.mark.spec("OPER-1")
@pytest.mark.parametrize("door", DOORS)
def test_every_write_leaves_a_row_whatever_its_door_and_outcome(
    operations: Operations, alice: Caller, superuser_url: str, door: Door
) -> None:
    caller = replace(alice, door=door, client="a client/1.0")
    reader = replace(caller, scopes=frozenset({"read"}))

    operations.perform(add_task, {"title": "milk"}, caller)
    with pytest.raises(InvalidInput):
        operations.perform(add_task, {"title": ""}, caller)
    with pytest.raises(TaskNotFound):
        operations.perform(delete_task, {"task_id": 7}, caller)
    with pytest.raises(Forbidden):
        operations.perform(delete_task, {"task_id": 1}, reader)

    assert ledger_of(superuser_url, alice, "id, door, client, tool, outcome") == [
        (1, door, "a client/1.0", "add_task", "ok"),
        (2, door, "a client/1.0", "add_task", "failed"),
        (3, door, "a client/1.0", "delete_task", "failed"),
        (4, door, "a client/1.0", "delete_task", "denied"),
    ]
    results = ledger_of(superuser_url, alice, "result")
    assert results[0][0]["title"] == "milk"
    assert results[2][0] == {
        "error": "Task 7 does not exist.",
        "hint": "Call list_tasks to see the user's tasks.",
    }
    assert titles(operations, alice) == ["milk"]


@pytest.mark.spec("OPER-2")
def test_a_row_keeps_the_whole_result_of_a_write_and_only_ids_of_a_read(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    written = operations.perform(add_task, {"title": "milk"}, alice).result
    operations.perform(list_tasks, {"query": "milk"}, alice, Call(run_id="r1", call_id="r1-1-1"))

    rows = ledger_of(superuser_url, alice, "arguments, result, milliseconds")

    assert rows[0][:2] == ({"title": "milk"}, written)
    assert rows[1][:2] == ({"query": "milk"}, {"tasks": {"count": 1, "ids": [1]}, "next_cursor": None})
    assert all(milliseconds >= 0 for _, _, milliseconds in rows)


@pytest.mark.spec("OPER-3")
def test_an_equal_call_of_a_run_gets_the_recorded_outcome(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    call = Call(run_id="r1", call_id="r1-0-0")

    first = operations.perform(add_task, {"title": "milk"}, alice, call)
    again = operations.perform(add_task, {"title": "milk"}, alice, call)

    assert (first.replayed, again.replayed) == (False, True)
    assert (again.result, again.operation_id) == (first.result, first.operation_id)
    assert titles(operations, alice) == ["milk"]
    assert ledger_of(superuser_url, alice, "id") == [(1,)]


@pytest.mark.spec("OPER-3")
def test_a_failed_call_of_a_run_is_recorded_once(operations: Operations, alice: Caller, superuser_url: str) -> None:
    call = Call(run_id="r1", call_id="r1-0-0")

    with pytest.raises(TaskNotFound) as first:
        operations.perform(delete_task, {"task_id": 7}, alice, call)
    again = operations.perform(delete_task, {"task_id": 7}, alice, call)

    assert (again.replayed, again.is_error) == (True, True)
    assert again.result == first.value.result
    assert ledger_of(superuser_url, alice, "outcome") == [("failed",)]


@pytest.mark.spec("OPER-4")
def test_twenty_equal_calls_at_once_have_one_effect(operations: Operations, alice: Caller, superuser_url: str) -> None:
    together = threading.Barrier(10)

    def perform(_number: int) -> Outcome:
        together.wait(10)
        return operations.perform(add_task, {"title": "milk", "idempotency_key": "k"}, alice)

    with ThreadPoolExecutor(10) as threads:
        outcomes = list(threads.map(perform, range(20)))

    assert len({outcome.operation_id for outcome in outcomes}) == 1
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert titles(operations, alice) == ["milk"]
    assert ledger_of(superuser_url, alice, "tool, idempotency_key")[0] == ("add_task", "k")


@pytest.mark.spec("OPER-5")
def test_a_key_stands_for_one_content_of_one_user_and_one_tool(
    operations: Operations, alice: Caller, bob: Caller
) -> None:
    wanted = {"title": "milk", "idempotency_key": "k"}
    operations.perform(add_task, wanted, alice)

    with pytest.raises(KeyUsedForSomethingElse):
        operations.perform(add_task, wanted | {"title": "bread"}, alice)
    operations.perform(add_task, wanted | {"title": "bread"}, bob)
    operations.perform(add_task, {"idempotency_key": "k", "title": "milk"}, alice)

    assert titles(operations, alice) == ["milk"]
    assert titles(operations, bob) == ["bread"]


@pytest.mark.spec("OPER-6")
def test_what_a_caller_writes_beside_a_call_commits_with_it_or_not_at_all(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    told: list[Outcome] = []

    def fails(_scope: Scope, outcome: Outcome) -> None:
        told.append(outcome)
        raise RuntimeError("The event could not be written.")

    with pytest.raises(RuntimeError):
        operations.perform(add_task, {"title": "milk"}, alice, Call(record=fails))

    assert [outcome.is_error for outcome in told] == [False]
    assert ledger_of(superuser_url, alice, "id") == []
    assert titles(operations, alice) == []


@pytest.mark.spec("OPER-6")
def test_a_failure_is_told_to_who_writes_beside_it(operations: Operations, alice: Caller) -> None:
    told: list[Outcome] = []

    with pytest.raises(TaskNotFound):
        operations.perform(
            delete_task, {"task_id": 7}, alice, Call(record=lambda _scope, outcome: told.append(outcome))
        )

    assert [(outcome.is_error, "error" in outcome.result) for outcome in told] == [(True, True)]


@pytest.mark.spec("OPER-7")
def test_text_that_cannot_be_stored_does_not_break_the_ledger(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    caller = replace(alice, client="evil\x00\ud800" + "c" * 1000)

    with pytest.raises(InvalidInput):
        operations.perform(add_task, {"title": "a\x00\ud800", "\ud800\x00": {"deep": ["\x00"]}}, caller)
    with pytest.raises(InvalidInput):
        operations.perform(add_task, {"title": "a" * 1_000_000}, caller)

    rows = ledger_of(superuser_url, alice, "client, arguments, outcome")
    assert [outcome for _, _, outcome in rows] == ["failed", "failed"]
    assert len(rows[0][0]) == 200
    assert rows[0][1]["title"] == "a\ufffd\ufffd"
    assert "left_out" in rows[1][1]
