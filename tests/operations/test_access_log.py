"""Reads outside of runs: none is recorded over REST, and over MCP each one is, without its text and without a lock."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from backend.errors import Forbidden
from backend.identity.caller import Caller, Door
from backend.jobs import housekeeping
from backend.jobs.housekeeping import prune, remove_old
from backend.operations.access_log import PRUNE
from backend.operations.perform import Operations
from backend.postgres.repository import AccountGone
from backend.tasks.repository import TaskNotFound
from backend.tasks.tools import add_task, get_task, list_tasks
from tests.conftest import connected, query
from tests.own_database import OwnDatabase, opened

ROWS = "select client, tool, outcome, document_ids from access_log where user_id = %s order by at"
LEDGER = "select tool from operations where user_id = %s"
COUNTERS = "select noun, last from counters where user_id = %s order by noun"


def read_in_three_ways(operations: Operations, caller: Caller) -> None:
    """Read with success, without finding anything, and without the right to."""
    operations.perform(list_tasks, {"query": "secret"}, caller)
    with pytest.raises(TaskNotFound):
        operations.perform(get_task, {"task_id": 7}, caller)
    with pytest.raises(Forbidden):
        operations.perform(list_tasks, {"query": "secret"}, replace(caller, scopes=frozenset({"write"})))


@pytest.mark.spec("OPER-10")
def test_a_read_over_rest_leaves_no_row_whatever_its_outcome(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    read_in_three_ways(operations, replace(alice, door="rest"))

    assert query(superuser_url, LEDGER, alice.user_id) == []
    assert query(superuser_url, ROWS, alice.user_id) == []


@pytest.mark.spec("OPER-11")
def test_a_read_over_mcp_leaves_one_row_in_the_access_log(
    operations: Operations, alice: Caller, superuser_url: str
) -> None:
    read_in_three_ways(operations, replace(alice, door="mcp", client="Claude\x00" + "c" * 300))

    assert query(superuser_url, LEDGER, alice.user_id) == []
    client = ("Claude\ufffd" + "c" * 300)[:200]
    assert query(superuser_url, ROWS, alice.user_id) == [
        (client, "list_tasks", "ok", []),
        (client, "get_task", "failed", []),
        (client, "list_tasks", "denied", []),
    ]
    assert (
        query(superuser_url, "select 1 from access_log a where user_id = %s and a::text ~ 'secret'", alice.user_id)
        == []
    )


@pytest.mark.spec("OPER-12")
@pytest.mark.parametrize("door", ["rest", "mcp"])
def test_a_read_waits_for_no_other_call_of_the_user(
    operations: Operations, alice: Caller, superuser_url: str, door: Door
) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)
    numbers = query(superuser_url, COUNTERS, alice.user_id)

    with connected(superuser_url) as other:
        # Another call of the user has taken a number of every kind, and is not done.
        other.execute("begin")
        other.execute("update counters set last = last + 1 where user_id = %s", (alice.user_id,))
        found = operations.perform(list_tasks, {}, replace(alice, door=door)).result["tasks"]

    assert [task["title"] for task in found] == ["milk"]
    assert query(superuser_url, COUNTERS, alice.user_id) == numbers


@pytest.fixture
def logged(own: OwnDatabase) -> Iterator[OwnDatabase]:
    """A database with seven reads of each of two users, made one to seven days ago."""
    for user in ("anna", "ben"):
        own.query("insert into users (user_id, kind, name) values (%s, 'guest', 'x')", user)
        own.query(
            "insert into access_log (user_id, at, tool, outcome, milliseconds) "
            "select %s, now() - make_interval(days => age), age, 'ok', 1 from generate_series(1, 7) age",
            user,
        )
    yield own
    own.query("delete from users where user_id in ('anna', 'ben')")


def ages(logged: OwnDatabase) -> list[tuple[str, str]]:
    """Return who has rows of how many days."""
    return sorted(logged.query("select user_id, tool from access_log"))


@pytest.mark.database
@pytest.mark.spec("OPER-13")
def test_old_rows_are_removed_for_every_user_and_the_oldest_first(
    logged: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "REMOVED_AT_ONCE", 4)

    with opened(logged.url) as database:
        batches = remove_old(database, PRUNE, keep=timedelta(days=3, hours=12))
        first = next(batches)
        oldest_are_gone = ages(logged)
        rest = list(batches)

    assert (first, rest) == (4, [4, 0])
    assert oldest_are_gone == [(user, age) for user in ("anna", "ben") for age in "12345"]
    assert ages(logged) == [(user, age) for user in ("anna", "ben") for age in "123"]


@pytest.mark.database
@pytest.mark.spec("OPER-13")
def test_rows_of_an_account_that_is_being_deleted_are_passed_over(logged: OwnDatabase) -> None:
    with connected(logged.superuser_url) as deleting, opened(logged.url) as database:
        deleting.execute("begin")
        deleting.execute("delete from users where user_id = 'anna'")
        removed = prune(database, PRUNE, older_than=database.now() - timedelta(days=5, hours=12), most=100)

    assert removed == 2
    assert [age for user, age in ages(logged) if user == "ben"] == ["1", "2", "3", "4", "5"]


@pytest.mark.spec("OPER-11")
def test_a_read_over_mcp_says_that_the_account_was_deleted(
    operations: Operations, new_caller: Callable[..., Caller], superuser_url: str
) -> None:
    gone = replace(new_caller(), door="mcp")
    query(superuser_url, "delete from users where user_id = %s", gone.user_id)

    for tool, arguments in ((list_tasks, {}), (get_task, {"task_id": 7})):
        with pytest.raises(AccountGone):
            operations.perform(tool, arguments, gone)


@pytest.mark.database
@pytest.mark.spec("OPER-13")
def test_no_row_of_the_last_day_can_be_removed(logged: OwnDatabase) -> None:
    logged.query("update access_log set at = now() - interval '23 hours' where tool = '1'")
    with opened(logged.url) as database:
        removed = prune(database, PRUNE, older_than=database.now() + timedelta(days=1), most=100)

    assert removed == 12
    assert ages(logged) == [("anna", "1"), ("ben", "1")]
