"""The service removes by itself what has to go after a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from anyio.to_thread import run_sync

from backend.errors import DatabaseUnavailable
from backend.identity.expiry import ROWS_AT_ONCE, remove_expired_guests
from backend.jobs import housekeeping
from backend.jobs.housekeeping import Chore, Housekeeper, StillInUse, remove_each
from backend.postgres.database import Database
from backend.process import Process
from backend.settings import Settings
from tests.conftest import wait_until
from tests.documents.desk import UTC
from tests.own_database import OwnDatabase, knowing_everybody, opened
from tests.runs.replicas import held
from tests.statements import on_statement

GUESTS = "expired_guests"
RESTS = "lease_owner is null and due_at > now() + interval '59 minutes'"
USERS = "select user_id from users order by user_id"


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture(autouse=True)
def _all_are_due(own: OwnDatabase) -> None:
    own.query("delete from users")
    own.query("delete from chores where id ~ ' '")
    own.query("update chores set due_at = now(), lease_owner = null, lease_until = null, fruitless = 0")


def expired(own: OwnDatabase, database: Database, *, tasks: int = 0, hours: int = 1) -> str:
    """Return a guest who has expired."""
    user, _ = knowing_everybody(database).welcome_guest(address="tests", zone=UTC)
    own.query(
        "insert into tasks (user_id, id, title) select %s, n, 'A task' from generate_series(1, %s) n",
        user.user_id,
        tasks,
    )
    own.query(
        "update users set expires_at = now() - make_interval(hours => %s) where user_id = %s", hours, user.user_id
    )
    return user.user_id


def keeper(database: Database, *removals: Callable[[], Iterator[int]], **options: Any) -> Housekeeper:
    """Make a process that removes expired guests, or does what a test gives it in their place."""
    first, *rest = removals or (partial(remove_expired_guests, database),)
    chores = [Chore(GUESTS, first), *(Chore(f"chore {number}", one) for number, one in enumerate(rest))]
    return Housekeeper(database, chores, **({"lease_seconds": 15} | options))


@asynccontextmanager
async def at_work(*keepers: Housekeeper) -> AsyncIterator[tuple[Housekeeper, ...]]:
    looking = [asyncio.create_task(one.run()) for one in keepers]
    try:
        yield keepers
    finally:
        for one in keepers:
            await one.stop()
        for task in looking:
            task.cancel()


async def until(condition: Callable[[], Any]) -> Any:
    return await run_sync(partial(wait_until, condition, seconds=30))


def row(own: OwnDatabase, columns: str) -> tuple[Any, ...]:
    [found] = own.query(f"select {columns} from chores where id = %s", GUESTS)  # noqa: S608
    return found


@pytest.mark.database
@pytest.mark.spec("CHORE-1")
def test_one_process_does_a_chore_that_is_due_and_then_it_rests_for_an_hour(
    own: OwnDatabase, database: Database
) -> None:
    begun: list[str] = []
    go_on = threading.Event()

    def removal(name: str) -> Callable[[], Iterator[int]]:
        def remove() -> Iterator[int]:
            begun.append(name)
            go_on.wait(30)
            yield from remove_expired_guests(database)

        return remove

    async def story() -> None:
        one, other = keeper(database, removal("one")), keeper(database, removal("other"))
        async with at_work(one, other):
            await until(lambda: begun)
            # The one that does the chore has no slot to claim another one for.
            await all_look(other if begun == ["one"] else one)
            go_on.set()
            await until(lambda: row(own, RESTS) == (True,))
            await all_look(one, other)
        assert len(begun) == 1

    async def all_look(*keepers: Housekeeper) -> None:
        seen = len(looks)
        for one in keepers:
            one.look_now()
        await until(lambda: len(looks) >= seen + len(keepers))

    looks: list[str] = []
    on_statement(database, lambda statement: looks.append(statement) if "claimable_chores" in statement else None)

    gone = expired(own, database, tasks=3)
    asyncio.run(story())

    assert own.query(USERS) == []
    assert own.query("select * from tasks where user_id = %s", gone) == []


@pytest.mark.spec("CHORE-1")
def test_an_idle_process_looks_for_what_is_due_from_time_to_time(own: OwnDatabase, database: Database) -> None:
    async def story() -> None:
        async with at_work(keeper(database, idle_seconds=0.2)):
            await until(lambda: row(own, "due_at > now()") == (True,))
            expired(own, database)
            own.query("update chores set due_at = now()")
            # Nothing happens in the process, and nobody comes.
            await until(lambda: own.query(USERS) == [])

    asyncio.run(story())


@pytest.mark.spec("CHORE-1")
def test_a_process_at_work_looks_once_an_hour(
    own: OwnDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> list[str]:
        looks: list[str] = []
        on_statement(database, lambda statement: looks.append(statement) if "claimable_chores" in statement else None)
        one = keeper(database)
        async with at_work(one):
            await until(lambda: row(own, RESTS) == (True,))
            expired(own, database)
            own.query("update chores set due_at = now()")
            looks.clear()
            for _ in range(3):
                one.database_is_awake()
                await asyncio.sleep(0.05)
            assert looks == []
            monkeypatch.setattr(housekeeping, "REST_SECONDS", 0.01)
            one.database_is_awake()
            await until(lambda: own.query(USERS) == [])
        return looks

    assert asyncio.run(story())


@pytest.mark.database
@pytest.mark.spec("CHORE-3", "IDENT-4")
def test_a_guest_who_cannot_be_removed_holds_up_nobody_and_is_tried_again_in_the_next_pass(
    own: OwnDatabase, database: Database
) -> None:
    async def story() -> None:
        # The longest expired is the first to be removed.
        stuck = expired(own, database, tasks=1, hours=2)
        for _ in range(2):
            expired(own, database)
        async with at_work(keeper(database)) as [one]:
            with held(own.superuser_url, "select 1 from tasks where user_id = %s for update", stuck):
                await until(lambda: row(own, RESTS) == (True,))
                assert own.query(USERS) == [(stuck,)]
                statements: list[str] = []
                on_statement(database, statements.append)
                newcomer, _ = knowing_everybody(database).welcome_guest(address="tests", zone=UTC)
                assert not [statement for statement in statements if "expired" in statement or "delete" in statement]
            own.query("update chores set due_at = now()")
            one.look_now()
            await until(lambda: own.query(USERS) == [(newcomer.user_id,)])

    asyncio.run(story())


@pytest.mark.database
@pytest.mark.spec("CHORE-2")
def test_a_large_account_goes_in_batches_and_another_process_goes_on_where_one_stopped(
    own: OwnDatabase, database: Database
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[int]:
        for count in remove_expired_guests(database):
            yield count
            reached.set()
            go_on.wait(30)

    async def story() -> int:
        one = keeper(database, slowly)
        async with at_work(one):
            await until(reached.is_set)
            stopping = asyncio.create_task(one.stop())
            assert await asyncio.wait([stopping], timeout=0.2) == (set(), {stopping}), "It waits for the batch."
            go_on.set()
            await stopping
        assert row(own, "lease_owner, lease_until, fruitless") == (None, None, 0)
        left: int = own.query("select count(*)::int from tasks")[0][0]
        async with at_work(keeper(database)):
            await until(lambda: own.query(USERS) == [])
        return left

    guest = expired(own, database, tasks=3 * ROWS_AT_ONCE)
    own.query(
        "insert into operations (user_id, id, door, tool, arguments, outcome, milliseconds) "
        "select %s, n, 'mcp', 'add_task', '{}', 'ok', 1 from generate_series(1, %s) n",
        guest,
        2 * ROWS_AT_ONCE,
    )
    own.query(
        "insert into access_log (user_id, tool, outcome, milliseconds) "
        "select %s, 'list_tasks', 'ok', 1 from generate_series(1, %s) n",
        guest,
        4 * ROWS_AT_ONCE,
    )
    asked: list[str] = []
    on_statement(database, asked.append)

    assert 0 < asyncio.run(story()) <= 2 * ROWS_AT_ONCE
    for what, least in (("delete from tasks", 4), ("remove_logs", 5)):
        assert len([statement for statement in asked if what in statement]) >= least, what


@pytest.mark.spec("CHORE-4")
def test_chores_do_not_wait_for_each_other(own: OwnDatabase, database: Database) -> None:
    own.query("insert into chores (id) values ('chore 0')")
    reached, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[int]:
        reached.set()
        go_on.wait(30)
        yield 1

    async def story() -> None:
        async with at_work(keeper(database, slowly, lambda: iter(()))):
            await until(reached.is_set)
            await until(lambda: own.query("select due_at > now() from chores where id = 'chore 0'") == [(True,)])
            assert row(own, "due_at > now()") == (False,)
            go_on.set()
            await until(lambda: row(own, RESTS) == (True,))

    asyncio.run(story())


@pytest.mark.spec("CHORE-4")
def test_a_chore_of_a_newer_version_is_left_to_that(own: OwnDatabase, database: Database) -> None:
    unknown = "select attempt, lease_owner, due_at <= now() from chores where id = 'of a newer version'"

    async def story() -> None:
        own.query("insert into chores (id) values ('of a newer version')")
        async with at_work(keeper(database)):
            await until(lambda: row(own, RESTS) == (True,))
            await until(lambda: own.query(unknown) == [(1, None, True)])

        async with at_work(keeper(database)):
            expired(own, database)
            own.query("update chores set due_at = now(), lease_until = null")
            await until(lambda: own.query(unknown) == [(2, None, True)])

    asyncio.run(story())


@pytest.mark.spec("CHORE-1")
def test_each_chore_of_a_process_has_its_row(own: OwnDatabase, make_settings: Callable[..., Settings]) -> None:
    process = Process(make_settings(database_url=own.url))

    assert sorted(process.housekeeper._chores) == [id_ for (id_,) in own.query("select id from chores order by id")]


@pytest.mark.spec("CHORE-3")
def test_what_fails_or_is_in_use_is_skipped_and_a_stop_comes_in_between() -> None:
    there = ["in use", "locked", "defect", "a", "b"]

    def find(but_not: Any) -> list[str]:
        return [key for key in there if key not in but_not][:2]

    def remove(key: str) -> Iterator[int]:
        if key == "in use":
            raise StillInUse
        if key == "locked":
            raise DatabaseUnavailable
        if key == "defect":
            raise ZeroDivisionError
        there.remove(key)
        yield 1

    # After each of them there is a moment to stop.
    assert list(remove_each(find, remove)) == [0, 0, 0, 1, 1]
    assert there == ["in use", "locked", "defect"]
