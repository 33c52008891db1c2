"""Leases under competition: threads that claim at once, with the database as the only arbiter."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlmodel import Session

from backend.identity.caller import Caller
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS, Lease, LeaseLost
from backend.postgres.database import Database, now_utc
from backend.runs.journal import Journal
from backend.runs.repository import Event, RunEnded, RunRepository
from tests.jobs.claimant import END, MOST, SECONDS, Claimant
from tests.own_database import OwnDatabase, knowing_everybody, opened
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant

pytestmark = pytest.mark.database

RUN_OUT = "update runs set lease_until = now() - interval '1 second' where id = %s"


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def new_caller(own: OwnDatabase, database: Database) -> Callable[..., Caller]:
    own.query("delete from users")
    authenticator = knowing_everybody(database)

    def make(**changes: Any) -> Caller:
        _, token = authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))
        return replace(authenticator.caller(token), **changes)

    return make


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do the same in `count` threads that begin at the same moment, and return what each returned."""
    together = threading.Barrier(count)

    def begin(number: int) -> Any:
        together.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def lease_of(own: OwnDatabase, run_id: str) -> tuple[Any, ...]:
    """Return a run's status, attempt, fruitless attempts, and the seconds until its lease runs out."""
    [row] = own.query(
        "select status, attempt, fruitless, extract(epoch from lease_until - now())::float from runs where id = %s",
        run_id,
    )
    return row


@pytest.mark.spec("LEASE-1")
def test_workers_that_claim_at_once_never_get_the_same_row(
    database: Database, new_caller: Callable[..., Caller]
) -> None:
    for _ in range(3):
        accepting = Claimant.over(database)
        waiting = {accepting.accept(new_caller()).run_id for _ in range(16)}
        claimants = [Claimant.over(database) for _ in range(8)]

        claimed = at_once(8, lambda number: claimants[number].claim_all())  # noqa: B023  It is over within the round.

        leases = [lease for of_one in claimed for lease in of_one]
        assert {lease.id for lease in leases} == waiting
        assert len(leases) == len(waiting)
        assert {lease.attempt for lease in leases} == {1}


@pytest.mark.spec("LEASE-1")
def test_a_row_that_somebody_is_about_to_claim_is_passed_over_without_waiting(
    database: Database, new_caller: Callable[..., Caller]
) -> None:
    first, second = [Claimant.over(database).accept(new_caller()).run_id for _ in range(2)]
    began_to, may_end = threading.Event(), threading.Event()

    def hesitate(_session: Session, lease: Lease) -> Lease:
        began_to.set()
        assert may_end.wait(10)
        return lease

    with ThreadPoolExecutor(1) as thread:
        hesitating: Future[Lease | None] = thread.submit(Claimant.over(database).leases.claim, hesitate)
        assert began_to.wait(10)
        meanwhile = [lease.id for lease in Claimant.over(database).claim_all()]
        may_end.set()
        lease = hesitating.result(10)

    assert meanwhile == [second]
    assert lease is not None
    assert lease.id == first


@pytest.mark.spec("LEASE-1")
def test_a_claim_whose_beginning_fails_leaves_the_row_to_others(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    run_id = Claimant.over(database).accept(new_caller()).run_id

    def fail(_session: Session, _lease: Lease) -> Lease:
        raise KeyError

    with pytest.raises(KeyError):
        Claimant.over(database).leases.claim(fail)

    assert lease_of(own, run_id) == ("queued", 0, 0, None)
    assert [lease.id for lease in Claimant.over(database).claim_all()] == [run_id]


@pytest.mark.spec("LEASE-2")
def test_the_row_that_has_waited_longest_is_claimed_first(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    claimant = Claimant.over(database)
    waited = [60, 600, 6, 300]
    runs = {claimant.accept(new_caller()).run_id: minutes for minutes in waited}
    for run_id, minutes in runs.items():
        own.query(
            "update queues set place = now() - make_interval(mins => %s) "
            "where user_id = (select user_id from runs where id = %s)",
            minutes,
            run_id,
        )

    assert [runs[lease.id] for lease in claimant.claim_all()] == sorted(waited, reverse=True)


@pytest.mark.spec("LEASE-3")
def test_one_run_of_a_conversation_is_worked_on_and_the_next_when_it_has_ended(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    first = claimant.accept(caller)
    later = [claimant.accept(caller, first.conversation_id, has_slot=True) for _ in range(2)]
    # Not even a clock that ran backwards changes the order.
    own.query("update runs set created_at = now() - interval '1 day' where id = %s", later[1].run_id)
    assert [turn.claimed for turn in later] == [None, None]

    for turn in (first, *later):
        claimed = at_once(4, lambda _: Claimant.over(database).claim())
        assert [lease.id for lease in claimed if lease] == [turn.run_id]
        own.query(RUN_OUT, turn.run_id)
        assert [lease.id for lease in claimant.claim_all()] == [turn.run_id]
        own.query(END, turn.run_id)

    assert claimant.claim() is None


@pytest.mark.spec("LEASE-4")
def test_no_more_runs_of_a_user_are_claimed_than_the_bound_however_many_claim_at_once(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    for _ in range(3):
        greedy, modest = new_caller(), new_caller()
        accepting = Claimant.over(database)
        waiting = {accepting.accept(greedy).run_id for _ in range(12)}
        other = accepting.accept(modest).run_id
        claimants = [Claimant.over(database) for _ in range(8)]

        claimed = at_once(8, lambda number: claimants[number].claim_all())  # noqa: B023  It is over within the round.

        ids = [lease.id for of_one in claimed for lease in of_one]
        assert len(ids) == len(set(ids)) == MOST + 1
        assert other in ids
        # Each that ends makes room for one.
        own.query(END, next(run_id for run_id in ids if run_id != other))
        assert len(at_once(4, lambda _: Claimant.over(database).claim_all())) == 4
        [(leased,)] = own.query("select count(*) from runs where id = any(%s) and lease_until > now()", list(waiting))
        assert leased == MOST


@pytest.mark.spec("LEASE-4")
def test_accepting_and_claiming_at_once_keep_the_bound_together(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    for _ in range(4):
        caller, accepting = new_caller(), Claimant.over(database)
        for _ in range(3):
            accepting.accept(caller)

        def either(number: int, caller: Caller = caller) -> bool:
            claimant = Claimant.over(database)
            return bool(claimant.accept(caller, has_slot=True).claimed if number % 2 else claimant.claim())

        at_once(12, either)

        [(leased, waiting)] = own.query(
            "select count(*) filter (where lease_until > now()), count(*) filter (where lease_until is null) "
            "from runs where user_id = %s",
            caller.user_id,
        )
        assert (leased, waiting) == (MOST, 3 + 6 - MOST)


@pytest.mark.spec("LEASE-4")
def test_a_lease_that_ran_out_makes_room_for_others_of_the_user(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    runs = [claimant.accept(caller).run_id for _ in range(MOST + 2)]
    assert [lease.id for lease in claimant.claim_all()] == runs[:MOST]

    own.query(RUN_OUT, runs[0])
    own.query(END, runs[1])

    assert [lease.id for lease in claimant.claim_all()] == [runs[0], runs[MOST]]


@pytest.mark.spec("LEASE-5")
def test_a_renewed_lease_is_kept_and_tells_whether_the_work_is_to_stop(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    claimant = Claimant.over(database)
    run_id = claimant.accept(new_caller()).run_id
    lease = claimant.claim()
    assert lease is not None
    # Late, and still in time: nobody took it.
    own.query(RUN_OUT, run_id)

    assert claimant.leases.renew(lease) is False
    assert SECONDS - 5 < lease_of(own, run_id)[3] <= SECONDS
    assert Claimant.over(database).claim() is None
    own.query("update runs set cancel_requested = true where id = %s", run_id)
    assert claimant.leases.renew(lease) is True


def _taken_over(own: OwnDatabase, database: Database, run_id: str) -> None:
    own.query(RUN_OUT, run_id)
    assert Claimant.over(database).claim() is not None


def _given_back(own: OwnDatabase, _database: Database, run_id: str) -> None:
    own.query("update runs set lease_owner = null, lease_until = null, status = 'queued' where id = %s", run_id)


def _ended(own: OwnDatabase, _database: Database, run_id: str) -> None:
    own.query(END, run_id)


def _deleted(own: OwnDatabase, _database: Database, run_id: str) -> None:
    own.query("delete from runs where id = %s", run_id)


@pytest.mark.spec("LEASE-6")
@pytest.mark.parametrize("lost", [_taken_over, _given_back, _ended, _deleted])
def test_a_lost_lease_neither_is_renewed_nor_gives_anything_back(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller], lost: Callable[..., None]
) -> None:
    claimant = Claimant.over(database)
    run_id = claimant.accept(new_caller()).run_id
    lease = claimant.claim()
    assert lease is not None
    lost(own, database, run_id)
    row = own.query("select attempt, fruitless, lease_owner, lease_until, status, ended_at from runs")

    with pytest.raises(LeaseLost):
        claimant.leases.renew(lease)
    claimant.leases.give_back(lease)
    claimant.leases.put_off(lease)

    assert own.query("select attempt, fruitless, lease_owner, lease_until, status, ended_at from runs") == row


@pytest.mark.spec("LEASE-6")
def test_a_lost_lease_writes_nothing(own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    run_id = claimant.accept(caller).run_id
    lease = claimant.claim()
    assert lease is not None

    def write(attempt: int) -> int:
        with database.scope(caller.user_id, caller.zone) as scope:
            event = Event("text", {"delta": "a", "offset": 0})
            [stored] = RunRepository(scope).append(run_id, [event], attempt=attempt).events
            return stored.seq or 0

    assert write(lease.attempt) == 2
    _taken_over(own, database, run_id)
    with pytest.raises(LeaseLost):
        write(lease.attempt)
    assert write(lease.attempt + 1) == 3
    own.query(END, run_id)
    with pytest.raises(RunEnded):
        write(lease.attempt + 1)
    assert own.query("select seq from run_events where run_id = %s order by seq", run_id) == [(1,), (2,), (3,)]


@pytest.mark.spec("LEASE-7")
def test_what_is_given_back_can_be_claimed_at_once_by_anybody(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    run_id = Claimant.over(database).accept(new_caller()).run_id
    counted = []

    for _ in range(3):
        claimant = Claimant.over(database)
        lease = claimant.claim()
        assert lease is not None
        counted.append(lease.fruitless)
        claimant.leases.give_back(lease)
        assert lease_of(own, run_id) == ("queued", lease.attempt, 0, None)

    assert counted == [1, 1, 1]


@pytest.mark.spec("LEASE-7")
def test_what_is_put_off_can_be_claimed_after_a_while_that_grows_with_the_attempts(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    run_id = Claimant.over(database).accept(new_caller()).run_id

    # Two seconds for each attempt, and never longer than a lease.
    for attempt, longest in enumerate((2, 4, 5, 5), start=1):
        claimant = Claimant.over(database, seconds=5)
        lease = claimant.claim()
        assert lease is not None
        assert lease.fruitless == attempt
        claimant.leases.put_off(lease)
        *row, seconds = lease_of(own, run_id)
        assert row == ["running", attempt, attempt]
        assert longest - 1.5 < seconds <= longest
        assert own.query("select lease_owner from runs where id = %s", run_id) == [(None,)]
        assert claimant.claim() is None
        own.query(RUN_OUT, run_id)


@pytest.mark.spec("LEASE-8")
def test_attempts_that_come_to_nothing_are_counted_until_a_step_is_committed(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    caller, claimant = new_caller(), Claimant.over(database)
    run_id = claimant.accept(caller).run_id

    def attempt(*events: Event) -> Lease:
        own.query(RUN_OUT, run_id)
        lease = claimant.claim()
        assert lease is not None
        with database.scope(caller.user_id, caller.zone) as scope:
            RunRepository(scope).append(run_id, list(events), attempt=lease.attempt)
        return lease

    said, stepped = Event("text", {"delta": "a", "offset": 0}), Event("tool_call", {"call_id": "a"})
    hopeless = [attempt(said).is_hopeless for _ in range(MOST_FRUITLESS_ATTEMPTS)]
    assert hopeless == [False] * MOST_FRUITLESS_ATTEMPTS
    assert attempt(stepped).is_hopeless
    # That one came further after all.
    hopeless = [attempt(said).is_hopeless for _ in range(MOST_FRUITLESS_ATTEMPTS + 1)]
    assert hopeless == [False] * MOST_FRUITLESS_ATTEMPTS + [True]


def _ahead() -> datetime:
    return now_utc() + timedelta(hours=5)


def _behind() -> datetime:
    return now_utc() - timedelta(hours=5)


@pytest.mark.spec("LEASE-9")
@pytest.mark.parametrize("clock", [_ahead, _behind], ids=["ahead", "behind"])
def test_a_process_whose_clock_is_hours_off_leases_as_all_others_do(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller], clock: Callable[[], datetime]
) -> None:
    with opened(own.url, clock=clock) as other:
        wrong, right = Claimant.over(other), Claimant.over(database)
        caller = new_caller()
        runs = [
            right.accept(caller, has_slot=True).run_id,
            wrong.accept(caller, has_slot=True).run_id,
            right.accept(caller).run_id,
            wrong.accept(caller).run_id,
        ]
        by_wrong, by_right = wrong.claim(), right.claim()
        assert by_wrong is not None
        assert by_right is not None

        for run_id in runs:
            assert SECONDS - 5 < lease_of(own, run_id)[3] <= SECONDS
        # Nobody takes anything from anybody who is alive, and what ran out is claimed.
        assert wrong.claim() is right.claim() is None
        wrong.leases.renew(by_wrong)
        assert SECONDS - 5 < lease_of(own, by_wrong.id)[3] <= SECONDS
        own.query(RUN_OUT, by_right.id)
        taken = wrong.claim()
        assert taken is not None
        assert taken.id == by_right.id
        # Who works on a run is told to stop; nobody ends it over their head.
        assert wrong.turns.cancel(caller, taken.id).cancel_requested
        assert lease_of(own, taken.id)[0] == "running"


@pytest.mark.spec("LEASE-9")
@pytest.mark.parametrize("clock", [_ahead, _behind], ids=["ahead", "behind"])
def test_a_run_waits_for_its_turn_also_when_a_clock_that_is_hours_off_accepted_it(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller], clock: Callable[[], datetime]
) -> None:
    with opened(own.url, clock=clock) as other:
        wrong, right = Claimant.over(other), Claimant.over(database)
        runs = [claimant.accept(new_caller()).run_id for claimant in (right, wrong, right, wrong)]

        assert [lease.id for lease in right.claim_all()] == runs


@pytest.mark.spec("LEASE-10")
def test_what_finds_runs_across_users_tells_ids_and_opens_no_row(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    alice, bob = new_caller(), new_caller()
    claimant = Claimant.over(database)
    of_alice = claimant.accept(alice)
    ended = claimant.accept(alice)
    own.query(END, ended.run_id)
    of_bob = claimant.accept(bob)
    found_by = {
        "claimable_runs(100, '{}')": {of_alice.run_id, of_bob.run_id},
        "due_runs(now() + interval '1 day', 100, '{}')": {ended.run_id},
    }

    for function, expected in found_by.items():
        with database.transaction(bob.user_id) as session:
            found = session.execute(text(f"select * from {function}"))  # noqa: S608  One of two.
            assert list(found.keys()) == ["user_id", "id"]
            ids = {row.id for row in found}
            assert ids
            assert ids <= expected
            joined = f"select r.user_id from {function} f join runs r using (user_id, id)"  # noqa: S608  One of two.
            assert {row.user_id for row in session.execute(text(joined))} <= {bob.user_id}
            for statement in (
                "update runs set status = 'cancelled' where id = :id returning id",
                "delete from runs where id = :id returning id",
                "select id from runs where id = :id for update",
                "select run_id from run_events where run_id = :id",
            ):
                assert session.execute(text(statement), {"id": of_alice.run_id}).all() == []

    with pytest.raises(LeaseLost):
        claimant.leases.renew(Lease(bob.user_id, of_alice.run_id, 0))


@pytest.mark.spec("LEASE-11")
def test_a_process_that_was_held_up_for_longer_than_its_lease_goes_on_and_does_not_run_a_run_twice(
    own: OwnDatabase, database: Database, new_caller: Callable[..., Caller]
) -> None:
    caller, slots = new_caller(), 2
    failures: list[dict[str, Any]] = []
    attempts: list[str] = []
    made: list[Parts] = []

    async def late(_said: list[str], journal: Journal) -> None:
        attempts.append(journal.run_id)
        # As after seconds in which the process could do nothing: it looks for work before it renews its lease.
        await asyncio.to_thread(own.query, RUN_OUT, journal.run_id)
        made[0].worker.notified("work", journal.run_id)
        async with asyncio.timeout(10):
            while ((await asyncio.to_thread(lease_of, own, journal.run_id))[3] or -1) < 0:  # noqa: ASYNC110  A row.
                await asyncio.sleep(0.02)
        await journal.add_text("at last")
        await asyncio.sleep(0.2)
        await journal.finish(FINAL, outputs={})

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        parts = Parts.of(database, ScriptedAssistant(late), slots=slots, lease_seconds=1)
        made.append(parts)
        async with asyncio.timeout(40):
            for _ in range(slots + 1):
                turn = await parts.worker.accept(caller, "hello", conversation_id=None)
                told = await parts.told(caller, turn)
                assert (told[-1].data["status"], told[-1].data["response"]) == ("completed", "at last")
                assert [event.kind for event in told] == ["run", "text", "text", "done"]
                assert [event.seq for event in told] == [1, None, 2, 3]
        parts.looking.cancel()

    asyncio.run(run())

    assert len(attempts) == len(set(attempts)) == slots + 1
    assert failures == []
