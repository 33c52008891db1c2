"""What remains of a run whose events were purged: its messages, its ledger, its end, and the answer to a repeat."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from typing import Any

import httpx
import pytest

from backend.identity.caller import Caller
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.runs.purge import purge_old_runs
from backend.runs.turns import Turn
from backend.settings import Settings
from tests.conftest import query, serving, signed_in_guest, wait_until
from tests.runs.scripted import Parts, ScriptedAssistant, echo

DAYS = 2
EVENTS = {"Accept": "text/event-stream"}
KEPT = (
    "select * from messages where user_id = %s order by id",
    "select * from operations where user_id = %s order by id",
)
DETAILS = (
    "select count(*)::int from run_events where run_id = %s",
    "select count(*)::int from run_responses where run_id = %s",
    "select count(*)::int from runs where id = %s and (coalesce(input::text, 'null') <> 'null' or purged_at is null)",
)


def age(superuser_url: str, run_id: str, *, minutes_beyond: int) -> None:
    """Make a run look as if it had ended DAYS and some minutes ago."""
    statement = "update runs set ended_at = now() - make_interval(days => %s, mins => %s) where id = %s"
    query(superuser_url, statement, DAYS, minutes_beyond, run_id)


def details_of(superuser_url: str, run_id: str) -> list[int]:
    """Count a run's events and responses, and 1 for its input."""
    return [int(query(superuser_url, statement, run_id)[0][0]) for statement in DETAILS]


def told(client: httpx.Client, run_id: str, *, after: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """Follow a run to its end; return each event's number, name and data."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    return parsed(client.get(f"/api/runs/{run_id}/events", headers=headers).raise_for_status().text)


def parsed(stream: str) -> list[tuple[int, str, dict[str, Any]]]:
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in stream.split("\n\n") if block]
    return [(int(event["id"]), event["event"], json.loads(event["data"])) for event in events if "id" in event]


@pytest.mark.spec("PURGE-1", "PURGE-2", "PURGE-3")
def test_what_ended_long_ago_keeps_its_messages_its_ledger_and_its_end(
    make_settings: Callable[..., Settings], database_url: str, superuser_url: str
) -> None:
    settings = make_settings(database_url=database_url, run_events_days=DAYS)
    with serving(settings) as url, signed_in_guest(url) as guest:
        user_id = guest.get("/api/me").json()["id"]
        key = {"Idempotency-Key": "of the old one"}
        said: dict[str, Any] = {"message": "Add a task to buy milk"}
        old = guest.post("/api/chat", json=said, headers=key).raise_for_status().json()
        more = {"conversation_id": old["conversation_id"], "message": "Show me all my tasks"}
        young = guest.post("/api/chat", json=more).raise_for_status().json()
        state, conversation = [
            guest.get(path).raise_for_status().json()
            for path in (f"/api/runs/{old['run_id']}", f"/api/conversations/{old['conversation_id']}")
        ]
        events, of_young = told(guest, old["run_id"]), told(guest, young["run_id"])
        kept = [query(superuser_url, statement, user_id) for statement in KEPT]
        last = events[-1][0]
        assert len(events) == last > 4
        assert all(kept)
        age(superuser_url, old["run_id"], minutes_beyond=1)
        age(superuser_url, young["run_id"], minutes_beyond=-10)

        query(superuser_url, "update chores set due_at = now()")
        with serving(settings) as other_url:
            wait_until(lambda: details_of(superuser_url, old["run_id"]) == [0, 0, 0])
            with httpx.Client(base_url=other_url, headers=guest.headers, timeout=30) as other:
                for client in (guest, other):
                    assert client.get(f"/api/runs/{old['run_id']}").json() == state
                    there = client.get(f"/api/conversations/{old['conversation_id']}").json()
                    assert there == conversation
                    # Only the last event is left, with its own data and number.
                    for after in (None, 0, 2, last - 1):
                        assert told(client, old["run_id"], after=after) == events[-1:]
                    for after in (last, last + 1, last + 1000):
                        assert told(client, old["run_id"], after=after) == []
                    assert told(client, young["run_id"]) == of_young

                    again = client.post("/api/chat", json=said, headers=key)
                    assert (again.status_code, again.json()) == (200, old)
                    streamed = client.post("/api/chat", json=said, headers=key | EVENTS)
                    assert parsed(streamed.text) == events[-1:]
                    stopped = client.post(f"/api/runs/{old['run_id']}/cancel")
                    assert (stopped.status_code, stopped.json()) == (200, state)
                refused = other.post("/api/chat", json={"message": "Something else"}, headers=key)
                assert refused.status_code == 422
                third = other.post("/api/chat", json=more | {"message": "Mark it as done"}).raise_for_status().json()

        assert [call["name"] for call in third["tool_calls"]] == ["complete_task"]
        for statement, rows in zip(KEPT, kept, strict=True):
            assert query(superuser_url, statement, user_id)[: len(rows)] == rows
        assert details_of(superuser_url, young["run_id"]) == [len(of_young), 2, 1]


async def fail(_said: list[str], journal: Journal) -> None:
    await journal.add_text("I began")
    raise KeyError


async def stop(_said: list[str], _journal: Journal) -> None:
    await asyncio.Event().wait()


@pytest.mark.database
@pytest.mark.spec("PURGE-2")
@pytest.mark.parametrize(("script", "status"), [(echo, "completed"), (fail, "failed"), (stop, "cancelled")])
def test_the_end_is_told_as_before_however_the_run_ended(
    database: Database, superuser_url: str, alice: Caller, script: Any, status: str
) -> None:
    async def end() -> None:
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        if status == "cancelled":
            await parts.worker.cancel(alice, turn.run_id)
        before = await parts.told(alice, turn)
        age(superuser_url, turn.run_id, minutes_beyond=1)

        assert list(purge_old_runs(database, keep=timedelta(days=DAYS))) == [1]
        assert details_of(superuser_url, turn.run_id) == [0, 0, 0]
        assert before[-1].data["status"] == status
        assert await parts.told(alice, turn) == before[-1:]
        assert await parts.told(alice, turn, after=before[-1].seq or 0) == []

    asyncio.run(end())


@pytest.mark.database
@pytest.mark.spec("PURGE-1")
def test_runs_are_purged_once_the_oldest_first_each_in_a_transaction_of_its_own(
    database: Database, superuser_url: str, alice: Caller, bob: Caller
) -> None:
    async def purge() -> None:
        parts = Parts.of(database, ScriptedAssistant(echo))
        said = [await parts.say(caller, "hello") for caller in (alice, bob, alice, bob)]
        runs = [turn.run_id for turn, _ in said]
        for minutes, run_id in enumerate(reversed(runs)):
            age(superuser_url, run_id, minutes_beyond=minutes)
        unended = await asyncio.to_thread(waiting, parts)

        assert list(islice(purge_old_runs(database, keep=timedelta(days=DAYS)), 2)) == [1, 1]
        assert [details_of(superuser_url, run_id)[0] for run_id in runs[:2]] == [0, 0]
        assert 0 not in [details_of(superuser_url, run_id)[0] for run_id in runs[2:]]
        # A process whose lease ran out may still be at it while the next one goes on.
        await asyncio.gather(
            *(asyncio.to_thread(list, purge_old_runs(database, keep=timedelta(days=DAYS))) for _ in "12")
        )
        assert list(purge_old_runs(database, keep=timedelta(days=DAYS))) == []
        assert [details_of(superuser_url, run_id)[0] for run_id in runs] == [0] * 4
        assert details_of(superuser_url, unended.run_id)[0] >= 1
        assert (await parts.told(alice, unended))[-1].data["status"] == "completed"

    def waiting(parts: Parts) -> Turn:
        turn = parts.turns.accept(alice, "hello", conversation_id=None, has_slot=False)
        long_ago = "update runs set created_at = now() - interval '40 days' where id = %s"
        query(superuser_url, long_ago, turn.run_id)
        return turn

    asyncio.run(purge())
