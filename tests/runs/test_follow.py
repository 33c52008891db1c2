import asyncio
from typing import Any

import pytest
from anyio.to_thread import run_sync

from backend.identity.caller import Caller
from backend.operations.perform import Outcome
from backend.postgres.database import Database
from backend.runs import journal as journals
from backend.runs.follow import HEARTBEAT, RECONNECT, Follower
from backend.runs.journal import Journal
from backend.runs.live import MOST_KEPT, Live
from backend.runs.repository import Event
from backend.runs.turns import Turn
from tests.own_database import opened
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant, echo, text_of
from tests.statements import on_statement

WORDS = [f"word{number}" for number in range(20)]


@pytest.fixture(autouse=True)
def text_is_stored_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "STORE_TEXT_SECONDS", 0.02)


async def slowly(_said: list[str], journal: Journal) -> None:
    for word in WORDS:
        await journal.add_text(word + " ")
        await asyncio.sleep(0.004)
    await journal.finish(FINAL, outputs={})


async def with_a_reset(said: list[str], journal: Journal) -> None:
    for word in WORDS[:12]:
        await journal.add_text(word + " ")
        await asyncio.sleep(0.004)
    await journal.reset()
    await slowly(said, journal)


def followed(database: Database, caller: Caller, script: Any) -> tuple[list[Event], dict[int, list[Event]]]:
    """Return what one follower received from the start, and what others received from each stored event on."""

    async def run() -> tuple[list[Event], dict[int, list[Event]]]:
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(caller, "hello", conversation_id=None)
        events: list[Event] = []
        returned: dict[int, asyncio.Task[list[Event]]] = {}
        async for event in parts.follower.events(caller, turn.run_id):
            events.append(event)
            if event.seq is not None:
                returned[event.seq] = asyncio.create_task(parts.told(caller, turn, after=event.seq))
        return events, {seq: await task for seq, task in returned.items()}

    return asyncio.run(run())


def stored(events: list[Event]) -> list[Event]:
    return [event for event in events if event.seq is not None]


@pytest.mark.spec("RUN-9")
@pytest.mark.parametrize("script", [slowly, with_a_reset])
def test_stored_events_are_numbered_without_a_gap_and_live_text_has_no_number(
    database: Database, alice: Caller, script: Any
) -> None:
    events, _ = followed(database, alice, script)

    assert [event.seq for event in stored(events)] == list(range(1, len(stored(events)) + 1))
    assert events[0].kind == "run"
    assert events[-1].kind == "done"
    assert {event.kind for event in events if event.seq is None} == {"text"}
    assert text_of(events) == text_of(stored(events)) == events[-1].data["response"] == " ".join(WORDS) + " "


@pytest.mark.spec("RUN-10")
@pytest.mark.parametrize("script", [slowly, with_a_reset])
def test_who_comes_back_is_told_exactly_the_rest(database: Database, alice: Caller, script: Any) -> None:
    events, returned = followed(database, alice, script)

    for seq, rest in returned.items():
        assert stored(rest) == stored(events)[seq:]
        assert text_of([*stored(events)[:seq], *rest]) == events[-1].data["response"]
    assert returned[max(returned)] == []


@pytest.mark.spec("RUN-10")
@pytest.mark.parametrize("after", [3, 99, 2_147_483_647])
def test_who_comes_back_after_the_end_is_told_nothing_and_not_kept(
    database: Database, alice: Caller, after: int
) -> None:
    async def run() -> list[Event]:
        parts = Parts.of(database, ScriptedAssistant(echo))
        turn, _ = await parts.say(alice, "hello")
        async with asyncio.timeout(5):
            return await parts.told(alice, turn, after=after)

    assert asyncio.run(run()) == []


@pytest.mark.spec("RUN-11")
def test_a_follower_elsewhere_is_told_the_same_stored_events(
    database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.runs.follow.POLL_SECONDS", 0.01)

    async def run() -> tuple[list[Event], list[Event]]:
        parts = Parts.of(database, ScriptedAssistant(slowly))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        # A process that does not execute the run has no live channel for it.
        elsewhere = Follower(database, Live())
        there = [event async for event in elsewhere.events(alice, turn.run_id)]
        return await parts.told(alice, turn), there

    here, there = asyncio.run(run())

    assert there == stored(there) == here


@pytest.mark.spec("RUN-12")
def test_a_silent_run_keeps_its_stream_open_with_heartbeats(database: Database, alice: Caller) -> None:
    heard_twice = asyncio.Event()

    async def silent(said: list[str], journal: Journal) -> None:
        await heard_twice.wait()
        await echo(said, journal)

    async def run() -> list[Event]:
        parts = Parts.of(database, ScriptedAssistant(silent), heartbeat_seconds=0.05)
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        events: list[Event] = []
        async with asyncio.timeout(30):
            async for event in parts.follower.events(alice, turn.run_id):
                events.append(event)
                if events.count(HEARTBEAT) == 2:
                    heard_twice.set()
        return events

    events = asyncio.run(run())

    assert events[-1].kind == "done"


@pytest.mark.spec("RUN-13")
def test_streams_end_with_reconnect_when_the_process_goes_down(database: Database, alice: Caller) -> None:
    followed = asyncio.Semaphore(0)

    async def endless(_said: list[str], journal: Journal) -> None:
        await journal.add_text("word0 ")
        await asyncio.Event().wait()

    async def follow(parts: Parts, turn: Turn) -> list[Event]:
        events = []
        async for event in parts.follower.events(alice, turn.run_id):
            events.append(event)
            if event.kind == "text":
                followed.release()
        return events

    async def run() -> list[list[Event]]:
        parts = Parts.of(database, ScriptedAssistant(endless))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        following = [asyncio.create_task(follow(parts, turn)) for _ in range(3)]
        async with asyncio.timeout(30):
            for _ in following:
                await followed.acquire()
            parts.follower.stop()
            events = await asyncio.gather(*following)
        await parts.worker.stop(seconds=0)
        return events

    for events in asyncio.run(run()):
        assert events[-1] is RECONNECT
        assert "done" not in [event.kind for event in events]


@pytest.mark.spec("RUN-13")
def test_a_database_that_goes_away_is_told_as_reconnect(database_url: str, alice: Caller) -> None:
    database = Database()
    database.open(database_url)

    async def run() -> list[Event]:
        parts = Parts.of(database, ScriptedAssistant(echo))
        turn, _ = await parts.say(alice, "hello")
        database.close()
        return await parts.told(alice, turn)

    assert asyncio.run(run()) == [RECONNECT]


@pytest.mark.spec("RUN-43")
def test_who_follows_a_run_where_it_is_executed_reads_the_database_once(database_url: str, alice: Caller) -> None:
    reads: list[str] = []

    async def run(database: Database) -> list[list[Event]]:
        parts = Parts.of(database, ScriptedAssistant(slowly))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        told = await asyncio.gather(*[parts.told(alice, turn) for _ in range(3)])
        on_statement(database, lambda statement: reads.append("again") if "FROM run_events" in statement else None)
        return [*told, await parts.told(alice, turn)]

    with opened(database_url) as database:
        on_statement(database, lambda statement: reads.append("read") if "FROM run_events" in statement else None)
        *told, afterwards = asyncio.run(run(database))

    assert len(stored(afterwards)) > 4
    for events in told:
        assert stored(events) == afterwards
    assert reads == ["read"] * 3 + ["read", "again"]


@pytest.mark.spec("RUN-43")
def test_who_is_far_behind_is_told_the_rest_from_the_database(database: Database, alice: Caller) -> None:
    told: list[list[Event]] = []

    async def long(_said: list[str], journal: Journal) -> None:
        for number in range(2 * MOST_KEPT):
            await journal.add_response(FINAL, [_call(number)], outputs={})
        await journal.finish(FINAL, outputs={})

    async def run() -> list[Event]:
        parts = Parts.of(database, ScriptedAssistant(long))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        events = []
        async for event in parts.follower.events(alice, turn.run_id):
            events.append(event)
            if event.seq == 1:
                # It stops reading until the run has written more than is kept.
                told.append(await parts.told(alice, turn))
        return events

    events = asyncio.run(run())

    assert stored(events) == stored(told[0])
    assert [event.seq for event in events] == list(range(1, 4 * MOST_KEPT + 3))


@pytest.mark.spec("RUN-44")
def test_followers_are_told_of_a_call_once_it_is_committed_and_of_none_that_is_rolled_back(
    database: Database, alice: Caller
) -> None:
    class Broken(Exception):
        """Keeps a transaction from being committed."""

    async def script(_said: list[str], journal: Journal) -> None:
        def record(result: str, *, fails: bool) -> None:
            with database.scope(alice.user_id, alice.zone) as scope:
                journal.record(scope, Outcome("add_task", "call_0", 1, {"result": result}))
                if fails:
                    raise Broken

        await journal.add_response(FINAL, [_call(0)], outputs={})
        with pytest.raises(Broken):
            await run_sync(lambda: record("rolled back", fails=True))
        journal.tell()
        await asyncio.sleep(0.05)
        await run_sync(lambda: record("kept", fails=False))
        journal.tell()
        await journal.finish(FINAL, outputs={})

    events, _ = followed(database, alice, script)

    assert [event.kind for event in events] == ["run", "tool_call", "tool_result", "done"]
    assert events[2].data["result"] == {"result": "kept"}
    assert [event.seq for event in events] == [1, 2, 3, 4]


def _call(number: int) -> dict[str, Any]:
    return {"call_id": f"call_{number}", "name": "add_task", "arguments": {"title": "milk"}}
