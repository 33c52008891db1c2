"""Queues: whose run is claimed next, what wakes a user who left the queue, and how many rows that reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from backend.documents.models import DOCUMENTS
from backend.identity.caller import Caller
from backend.jobs.leases import Leases
from backend.postgres.database import Database
from backend.runs.repository import RunRepository
from backend.runs.turns import Turn
from backend.workspace.conversations import hide
from tests.jobs.claimant import END, MOST, Claimant
from tests.own_database import OwnDatabase, knowing_everybody, opened

pytestmark = pytest.mark.database

READ = "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int from pg_stat_xact_user_tables"


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def new_caller(own: OwnDatabase, database: Database) -> Callable[[], Caller]:
    own.query("delete from users")
    authenticator = knowing_everybody(database)

    def make() -> Caller:
        _, token = authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))
        return authenticator.caller(token)

    return make


@contextmanager
def under_way(own: OwnDatabase, statement: str, *arguments: Any) -> Iterator[psycopg2.extensions.connection]:
    """Leave a superuser's statement uncommitted within the block, and commit it after."""
    url = make_url(own.superuser_url)
    connection = psycopg2.connect(
        dbname=url.database, user=url.username, host=url.query["host"], port=url.query["port"]
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, arguments)
        yield connection
        connection.commit()
    finally:
        connection.close()


def rows_read(session: Session, work: Callable[[], Any]) -> tuple[int, Any]:
    """Return how many rows some work reads in a transaction, and what it returns."""
    before = session.execute(text(READ)).scalar_one()
    result = work()
    return session.execute(text(READ)).scalar_one() - before, result


def place_of(own: OwnDatabase, caller: Caller) -> Any:
    [(place,)] = own.query("select place from queues where user_id = %s and kind = 'runs'", caller.user_id)
    return place


@pytest.mark.spec("LEASE-2")
def test_whoever_was_served_longest_ago_comes_first_however_many_others_wait(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    anna, ben, carla, claimant = new_caller(), new_caller(), new_caller(), Claimant.over(database)
    names = {anna.user_id: "anna", ben.user_id: "ben", carla.user_id: "carla"}
    order = []

    def claim() -> None:
        lease = claimant.claim()
        assert lease is not None
        order.append(names[lease.user_id])
        own.query(END, lease.id)

    for _ in range(4):
        claimant.accept(anna)
    claim()
    claimant.accept(ben)
    claimant.accept(ben)
    for _ in range(2):
        claim()
    # One who begins at once is served as well.
    begun = claimant.accept(carla, has_slot=True)
    claimant.accept(carla)
    assert begun.claimed is not None
    for _ in range(4):
        claim()

    assert order == ["anna", "ben", "anna", "ben", "anna", "carla", "anna"]
    assert claimant.claim() is None


@pytest.mark.spec("LEASE-2")
def test_newcomers_have_no_more_than_ten_minutes_start_on_who_waits(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    waiting, regular, claimant = new_caller(), new_caller(), Claimant.over(database)
    # Both were served; one of them has waited since, for more than ten minutes.
    own.query(
        "insert into queues (user_id, kind, served_at) select user_id, 'runs', now() - interval '90 minutes' from users"
    )
    claimant.accept(waiting)
    own.query("update queues set place = now() - interval '80 minutes' where user_id = %s", waiting.user_id)
    newcomer = new_caller_beside(database)
    for caller in (newcomer, regular):
        claimant.accept(caller)

    claimed = [claimant.claim() for _ in range(3)]

    assert [lease.user_id for lease in claimed if lease] == [waiting.user_id, newcomer.user_id, regular.user_id]


def new_caller_beside(database: Database) -> Caller:
    """Return a further user, where the fixture would begin with nobody."""
    authenticator = knowing_everybody(database)
    return authenticator.caller(authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))[1])


def _ends(own: OwnDatabase, _database: Database, _caller: Caller, turn: Turn) -> None:
    own.query(END, turn.run_id)


def _is_deleted(_own: OwnDatabase, database: Database, caller: Caller, turn: Turn) -> None:
    with database.scope(caller.user_id, caller.zone) as scope:
        hide(turn.conversation_id, scope)


def _is_cancelled(own: OwnDatabase, database: Database, caller: Caller, turn: Turn) -> None:
    # Its process is gone, so the cancel ends it.
    own.query("update runs set lease_owner = null, lease_until = null where id = %s", turn.run_id)
    Claimant.over(database).turns.cancel(caller, turn.run_id)


@pytest.mark.spec("LEASE-12")
@pytest.mark.parametrize("frees", [_ends, _is_deleted, _is_cancelled])
def test_a_user_of_whom_nothing_can_be_claimed_leaves_the_queue_until_one_of_their_runs_makes_room(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller], frees: Callable[..., None]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    at_work = [claimant.accept(caller, has_slot=True) for _ in range(MOST)]
    next_one = claimant.accept(caller)
    assert place_of(own, caller) is not None

    assert claimant.claim() is None
    assert place_of(own, caller) is None
    frees(own, database, caller, at_work[1])

    lease = claimant.claim()
    assert lease is not None
    assert lease.id == next_one.run_id


@pytest.mark.spec("LEASE-12")
def test_the_next_message_of_a_conversation_waits_outside_the_queue_for_the_one_before(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    first = claimant.accept(caller, has_slot=True)
    second = claimant.accept(caller, first.conversation_id)
    assert claimant.claim() is None
    assert place_of(own, caller) is None

    # Nobody knows yet whether the end will be committed; a claim does not wait for that, and misses nothing.
    with under_way(own, END, first.run_id):
        assert claimant.claim() is None
        third = Claimant.over(database).accept(new_caller_beside(database))
        lease = claimant.claim()
        assert lease is not None
        assert lease.id == third.run_id
    lease = claimant.claim()

    assert lease is not None
    assert lease.id == second.run_id


@pytest.mark.spec("LEASE-12")
@pytest.mark.parametrize(
    "held",
    [
        "select from conversations for update",
        "select from runs for update",
        "select from queues for update",
    ],
)
def test_who_is_passed_over_for_a_lock_stays_in_the_queue(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller], held: str
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    turn = claimant.accept(caller)

    with under_way(own, held):
        assert claimant.claim() is None

    lease = claimant.claim()
    assert lease is not None
    assert lease.id == turn.run_id


MANY = """
    insert into runs (user_id, id, conversation_id, message_id, status, model, scopes, lease_owner, lease_until,
                      ended_at)
    select u.user_id, u.user_id || kind.name || n, c, n, kind.status, 'offline', '{read}', kind.owner,
           case when kind.owner is not null then now() + interval '1 hour' end, kind.ended_at
    from (select user_id, row_number() over () as number from users where user_id like 'many%%') u,
         (values ('ended', 'completed', null, now(), 1, 5), ('running', 'running', 'other', null, 1, %(running)s),
                 ('queued', 'queued', null, null, 5, %(queued)s)) kind(name, status, owner, ended_at, first, count),
         lateral generate_series(1, kind.count) n, lateral (select kind.first + n) as place(c)
"""


@pytest.mark.spec("LEASE-13")
@pytest.mark.usefixtures("new_caller")
@pytest.mark.parametrize("statistics", ["stale", "fresh"])
@pytest.mark.parametrize("users", [350, pytest.param(1750, marks=pytest.mark.long)])
def test_a_claim_reads_few_rows_however_many_runs_wait(
    own: OwnDatabase, database: Database, statistics: str, users: int
) -> None:
    tables = ("queues", "runs", "conversations")
    for table in tables:
        own.query(f"alter table {table} set (autovacuum_enabled = off)")
        own.query(f"analyze {table}")
    # Each with four at work and two queued behind those, besides what has ended: of all 1,750, 7,000 and 3,500.
    own.query(
        "insert into users (user_id, kind, name) select 'many' || n, 'guest', '' from generate_series(1, %s) n", users
    )
    own.query(
        "insert into conversations (user_id, id, title) select user_id, c, '' from users, generate_series(1, 20) c "
        "where user_id like 'many%%'"
    )
    own.query(MANY % {"running": 4, "queued": 2})
    caller = new_caller_beside(database)
    last = Claimant.over(database).accept(caller)
    if statistics == "fresh":
        for table in tables:
            own.query(f"analyze {table}")
    read: list[int] = []

    def claimable() -> Any:
        with database.transaction(None) as session:
            look = text("select user_id, id from claimable_runs(4, '{}')")
            rows, found = rows_read(session, lambda: session.execute(look).one_or_none())
            read.append(rows)
            return found

    found = claimable()
    while found is not None and found.id is None:
        found = claimable()

    assert found is not None
    assert found.id == last.run_id
    assert len(read) == users // 100 + 1
    assert max(read) < 100 * 20
    # Those of whom nothing can be claimed have left the queue.
    assert claimable() is not None
    assert read[-1] < 20


@pytest.mark.spec("LEASE-13")
def test_accepting_a_message_reads_few_rows_however_many_runs_the_user_had(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    first = claimant.accept(caller, has_slot=True)
    own.query(
        "insert into runs (user_id, id, conversation_id, message_id, status, model, scopes, ended_at) "
        "select %s, 'old' || n, %s, -n, 'completed', 'offline', '{read}', now() from generate_series(1, 3000) n",
        caller.user_id,
        first.conversation_id,
    )
    looks: dict[str, Callable[[Session, RunRepository], Any]] = {
        "is_busy": lambda _session, runs: runs.is_busy(first.conversation_id),
        "count_unfinished": lambda _session, runs: runs.count_unfinished(),
        "has_room": lambda session, _runs: claimant.leases.has_room(session, caller.user_id),
    }

    read = {}
    for name, look in looks.items():
        with database.scope(caller.user_id, caller.zone) as scope:
            read[name], _ = rows_read(scope.session, partial(look, scope.session, RunRepository(scope)))

    assert max(read.values()) < 20, read


@pytest.mark.spec("LEASE-12")
@pytest.mark.usefixtures("new_caller")
def test_a_claim_gets_past_hundreds_of_users_whose_rows_are_locked(own: OwnDatabase, database: Database) -> None:
    own.query("insert into users (user_id, kind, name) select 'many' || n, 'guest', '' from generate_series(1, 250) n")
    own.query("insert into conversations (user_id, id, title) select user_id, 1, '' from users")
    own.query(
        "insert into runs (user_id, id, conversation_id, message_id, status, model, scopes) "
        "select user_id, 'of ' || user_id, 1, 1, 'queued', 'offline', '{read}' from users"
    )
    turn = Claimant.over(database).accept(new_caller_beside(database))

    with under_way(own, "select from conversations where user_id like 'many%%' for update"):
        lease = Claimant.over(database).claim()
        assert lease is not None
        assert lease.id == turn.run_id
        assert Claimant.over(database).claim() is None


@pytest.mark.spec("LEASE-12")
def test_a_claim_does_not_wait_for_an_account_that_is_being_deleted(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    going, staying, claimant = new_caller(), new_caller(), Claimant.over(database)
    lapsed = claimant.accept(going, has_slot=True)
    own.query("update runs set lease_until = now() - interval '1 second' where id = %s", lapsed.run_id)
    turn = claimant.accept(staying)

    with under_way(own, "select from users where user_id = %s for update", going.user_id):
        lease = claimant.claim()
        assert lease is not None
        assert lease.id == turn.run_id
        assert claimant.claim() is None


@pytest.mark.spec("LEASE-12")
def test_a_failed_document_that_is_sent_again_is_claimed_although_its_user_was_in_no_queue(
    own: OwnDatabase, database: Database, new_caller: Callable[[], Caller]
) -> None:
    caller = new_caller()
    own.query(
        "insert into documents (user_id, id, filename, original_filename, content_type, file_size, sha256, status, "
        "ended_at) values (%s, 1, 'a', 'a', 'text/plain', 1, 'a', 'failed', now())",
        caller.user_id,
    )
    # As after the migration, which knows only users with something to do.
    own.query("delete from queues")
    leases = Leases(database, DOCUMENTS, seconds=30)

    own.query("update documents set status = 'pending', ended_at = null where user_id = %s", caller.user_id)
    lease = leases.claim(lambda _session, lease: lease)

    assert lease is not None
    assert lease.id == "1"
