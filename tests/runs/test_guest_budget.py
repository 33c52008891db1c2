"""Guests share the turns with the model. A turn is taken when a process accepts a message, and never given back."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from backend.conversations.repository import ConversationNotFound
from backend.errors import TooManyRequests
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.jobs.leases import Leases
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.runs.models import RUNS
from backend.runs.repository import Event, RunRepository
from backend.runs.turns import Turn, Turns
from tests.conftest import query
from tests.own_database import opened
from tests.runs.scripted import Parts, Script, ScriptedAssistant, claimed_by, echo

PAID, FREE = "paid/model", "free"
TAKEN = "select coalesce(sum(turns), 0)::int from guest_model_turns"


class Costly(ScriptedAssistant):
    """Has a model that costs money, and another one for guests as well."""

    def __init__(self, script: Script = echo) -> None:
        super().__init__(script)
        self.asked: list[str] = []

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        return (PAID, FREE) if caller.kind == "guest" else (PAID,)

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        self.asked.append(model)
        await super().answer(fixed_input, model="scripted", journal=journal)


@pytest.fixture(autouse=True)
def _a_new_day(superuser_url: str) -> None:
    query(superuser_url, "delete from guest_model_turns")


@pytest.fixture
def taken(superuser_url: str) -> Callable[[], int]:
    """Returns how many turns guests have taken."""

    def count() -> int:
        [(turns,)] = query(superuser_url, TAKEN)
        return int(turns)

    return count


@pytest.fixture
def other_database(database_url: str) -> Iterator[Database]:
    """The same database, opened as by another process."""
    with opened(database_url) as other:
        yield other


def accepting(database: Database, *, most: int, most_of_a_guest: int = 0) -> Turns:
    """Return what accepts messages in a process that begins none of them."""
    leases = Leases(database, RUNS, seconds=15)
    return Turns(
        database,
        Costly(),
        leases,
        guest_turns_per_day=most_of_a_guest,
        guest_model_turns_per_day=most,
        history_messages=40,
    )


def say(turns: Turns, caller: Caller, **more: Any) -> Turn:
    return turns.accept(caller, "hello", **({"conversation_id": None, "has_slot": False} | more))


@pytest.mark.spec("IDENT-30")
def test_guests_who_write_at_once_to_two_processes_never_pass_the_budget(
    database: Database, other_database: Database, new_caller: Callable[..., Caller], taken: Callable[[], int]
) -> None:
    processes = [accepting(database, most=25), accepting(other_database, most=25)]
    guests = [new_caller() for _ in range(40)]
    together = threading.Barrier(8)

    def talk(number: int) -> list[str]:
        together.wait(10)
        return [say(processes[number % 2], guest).model for guest in guests[number::8]]

    with ThreadPoolExecutor(8) as threads:
        models = [model for of_one in threads.map(talk, range(8)) for model in of_one]

    assert (models.count(PAID), models.count(FREE), taken()) == (25, 15, 25)


@pytest.mark.spec("IDENT-30")
def test_people_take_nothing_from_the_guests_and_wait_for_nothing(
    database: Database, alice: Caller, bob: Caller, taken: Callable[[], int]
) -> None:
    turns = accepting(database, most=1)
    person = replace(alice, kind="person")

    models = [say(turns, caller).model for caller in (person, bob, person, bob)]

    assert models == [PAID, PAID, PAID, FREE]
    assert taken() == 1


@pytest.mark.spec("IDENT-30")
def test_a_limit_of_0_is_none(database: Database, alice: Caller, taken: Callable[[], int]) -> None:
    turns = accepting(database, most=0)

    assert [say(turns, alice).model for _ in range(3)] == [PAID] * 3
    assert taken() == 0


@pytest.mark.spec("IDENT-30")
def test_each_day_has_its_own_turns(database_url: str, alice: Caller) -> None:
    now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    with opened(database_url, clock=lambda: now) as database:
        turns = accepting(database, most=1)
        today = [say(turns, alice) for _ in range(2)]
        now = datetime(2026, 12, 1, tzinfo=UTC)
        tomorrow = say(turns, alice)

    assert [turn.model for turn in (*today, tomorrow)] == [PAID, FREE, PAID]
    assert today[1].model_notice == {
        "detail": f"Guests have together used today's 1 answer from {PAID}.",
        "until": "2026-12-01T00:00:00Z",
    }
    assert (today[0].model_notice, tomorrow.model_notice) == (None, None)


@pytest.mark.spec("IDENT-30")
def test_nobody_waits_for_a_budget_that_is_spent(database: Database, superuser_url: str, alice: Caller) -> None:
    turns = accepting(database, most=1)
    say(turns, alice)
    parsed = make_url(superuser_url)
    connection = psycopg2.connect(
        dbname=parsed.database, user=parsed.username, host=parsed.query["host"], port=parsed.query["port"]
    )

    try:
        connection.cursor().execute("select from guest_model_turns for update")
        assert say(turns, alice).model == FREE
    finally:
        connection.close()


@pytest.mark.spec("IDENT-31")
def test_one_message_takes_one_turn_however_often_it_is_sent(
    database: Database, other_database: Database, alice: Caller, taken: Callable[[], int]
) -> None:
    processes = [accepting(database, most=100), accepting(other_database, most=100)]
    together = threading.Barrier(8)

    def send(number: int) -> str:
        together.wait(10)
        return say(processes[number % 2], alice, idempotency_key="once").run_id

    with ThreadPoolExecutor(8) as threads:
        runs = set(threads.map(send, range(8)))

    assert (len(runs), taken()) == (1, 1)


@pytest.mark.spec("IDENT-31")
def test_a_refused_message_takes_no_turn(database: Database, alice: Caller, taken: Callable[[], int]) -> None:
    turns = accepting(database, most=100, most_of_a_guest=1)
    with pytest.raises(ConversationNotFound):
        say(turns, alice, conversation_id=7)
    say(turns, alice)
    with pytest.raises(TooManyRequests):
        say(turns, alice)

    assert taken() == 1


@pytest.mark.spec("IDENT-31")
def test_a_turn_that_was_taken_is_never_given_back(
    database: Database, authenticator: Authenticator, alice: Caller, bob: Caller, taken: Callable[[], int]
) -> None:
    async def crash(_said: list[str], _journal: Journal) -> None:
        raise KeyError

    async def failed() -> dict[str, Any]:
        async with asyncio.timeout(10):
            return (await Parts.of(database, Costly(crash), guest_model_turns_per_day=3).say(alice, "hello"))[1]

    turns = accepting(database, most=3)
    stopped = say(turns, bob)

    assert turns.cancel(bob, stopped.run_id).status == "cancelled"
    assert asyncio.run(failed())["status"] == "failed"
    say(turns, bob)
    authenticator.forget(bob.user_id)

    assert taken() == 3
    assert say(turns, alice).model == FREE


@pytest.mark.spec("IDENT-32")
def test_every_event_that_names_the_model_says_why_it_is_the_offline_one(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    async def answered() -> list[list[Event]]:
        parts = Parts.of(database, Costly(), guest_model_turns_per_day=1)
        async with asyncio.timeout(10):
            told = [await parts.told(alice, (await parts.say(alice, "hello"))[0]) for _ in range(2)]
            turn, _ = await parts.say(alice, "hello")
            with database.scope(alice.user_id, alice.zone) as scope:
                RunRepository(scope).purge(turn.run_id)
            return [*told, await parts.told(alice, turn)]

    first, second, purged = asyncio.run(answered())

    assert not [event for event in first if "model_notice" in event.data]
    [(day,)] = query(superuser_url, "select (day + 1)::text from guest_model_turns")
    notice = {"detail": f"Guests have together used today's 1 answer from {PAID}.", "until": f"{day}T00:00:00Z"}
    named = [event for event in (*second, *purged) if event.kind in ("run", "done")]
    assert [event.kind for event in named] == ["run", "done", "done"]
    assert [(event.data["model"], event.data["model_notice"]) for event in named] == [(FREE, notice)] * 3


@pytest.mark.spec("RUN-37")
@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("is_begun", [False, True])
def test_a_run_keeps_the_model_that_the_budget_gave_it_in_every_process(
    left: int, is_begun: bool, database: Database, superuser_url: str, alice: Caller, taken: Callable[[], int]
) -> None:
    turns = accepting(database, most=1)
    if not left:
        say(turns, alice)
        query(superuser_url, "update runs set status = 'cancelled', ended_at = now()")
    turn = say(turns, alice)
    if is_begun:
        claimed = claimed_by(turns)
        assert claimed is not None
        query(superuser_url, "update runs set lease_until = now() - interval '1 second' where ended_at is null")
    elsewhere = Costly()

    async def taken_up() -> list[Event]:
        async with asyncio.timeout(10):
            return await Parts.of(database, elsewhere, guest_model_turns_per_day=1).told(alice, turn)

    events = asyncio.run(taken_up())

    model = PAID if left else FREE
    assert (events[-1].data["status"], events[-1].data["model"], elsewhere.asked) == ("completed", model, [model])
    assert {"model_notice" in event.data for event in events if event.kind in ("run", "done")} == {not left}
    assert taken() == 1
