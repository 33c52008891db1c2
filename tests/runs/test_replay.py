"""A run continues in another attempt as if there had been only one; attempts are fenced, and not repeated forever."""

import asyncio
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.identity.caller import Caller
from backend.jobs import finder
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.runs import journal as journals
from backend.runs.attempt import Claimed
from backend.runs.journal import Journal
from backend.runs.live import Live
from backend.runs.models import Run
from backend.runs.repository import Event
from backend.runs.turns import Turn
from backend.tasks.tools import TASK_TOOLS
from bench.scripted_model import Answer, ScriptedModel, Silence, ToolCall, calls, says, scripted_model
from tests.agent.talk import KEY
from tests.conftest import query, wait_until
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant, claimed_by, echo, text_of

ADD = ToolCall("add_task", {"title": "Milk"})


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """The provider's server."""
    importlib.import_module("backend.agent.providers")
    with scripted_model([says("Hello.")]) as server:
        yield server


@pytest.fixture(autouse=True)
def _runs_are_looked_for_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LOOK_SECONDS", 0.05)


def let_run_out(url: str, turn: Turn, also: str = "") -> None:
    """Make the lease of a run expire, as if its worker had disappeared."""
    set_to = f"lease_until = now() - interval '1 second'{also}"
    query(url, f"update runs set {set_to} where id = %s", turn.run_id)  # noqa: S608  # the test's own words


def stored(events: list[Event]) -> list[Event]:
    return [event for event in events if event.seq is not None]


def seen(events: list[Event]) -> list[tuple[Any, ...]]:
    """Return what a reader sees of the calls, without the run's id, operation numbers and times."""

    def timeless(result: Any) -> Any:
        return {name: value for name, value in (result or {}).items() if not name.endswith("_at")}

    told = [event.data for event in events if event.kind in ("tool_call", "tool_result")]
    return [
        (
            data["call_id"].partition("-")[2],
            data["name"],
            data.get("arguments"),
            timeless(data.get("result")),
            data.get("is_error"),
        )
        for data in told
    ]


async def until(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_until, condition)


SCRIPTS = {
    "a call that succeeds": [calls(ADD)],
    "a call that fails": [calls(ToolCall("complete_task", {"task_id": 99}))],
    "bad arguments": [calls(ToolCall("add_task", '{"title": '))],
    "an unknown tool": [calls(ToolCall("drop_database"))],
    "an unknown tool before a response that is committed": [calls(ToolCall("drop_database")), calls(ADD)],
    "all in one response": [says("I try.", calls=(ToolCall("nothing"), ADD, ToolCall("get_task", {"task_id": 9})))],
}


@pytest.mark.spec("RUN-19")
@pytest.mark.parametrize("scopes", [{"read", "write"}, {"read"}], ids=["may write", "may only read"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_replayed_attempt_comes_to_the_same_outcome(
    script: list[Answer],
    scopes: set[str],
    database: Database,
    superuser_url: str,
    model: ScriptedModel,
    new_caller: Callable[..., Caller],
) -> None:
    final = says("Done.")

    async def turns() -> tuple[list[Event], list[Event], list[Any]]:
        operations = Operations(database)
        choice = ModelChoice(name="openai/any", keys={"openai": KEY}, base_url=model.url)
        assistant = AgentAssistant(
            choice, TASK_TOOLS, now=database.now, max_steps=6, history_characters=10_000, share=operations.share
        )
        await assistant.load(ToolServer(TASK_TOOLS, operations))
        undisturbed, disturbed = (new_caller(scopes=frozenset(scopes)) for _ in range(2))
        first = Parts.of(database, assistant)
        model.follow([*script, final])
        turn = await first.worker.accept(undisturbed, "Do it", conversation_id=None)
        expected = await first.told(undisturbed, turn)

        model.follow([*script, Silence(), final])
        turn = await first.worker.accept(disturbed, "Do it", conversation_id=None)
        await until(lambda: len(model.requests) == len(script) + 1)
        first.looking.cancel()
        let_run_out(superuser_url, turn)
        second = Parts.of(database, assistant)
        events = await second.told(disturbed, turn)
        return expected, events, operations_of(superuser_url, turn)

    expected, events, operations = asyncio.run(turns())

    assert events[-1].data["status"] == "completed"
    assert [event.seq for event in stored(events)] == list(range(1, len(stored(events)) + 1))
    assert seen(events) == seen(expected)
    assert text_of(events) == events[-1].data["response"] == expected[-1].data["response"]
    assert events[-1].data["usage"] == expected[-1].data["usage"]
    # The model is asked only for what was not committed, with exactly the same request.
    cut_off, repeated = model.requests[-2:]
    assert len(model.requests) == len(script) + 2
    assert repeated["messages"] == cut_off["messages"]
    assert repeated["tools"] == cut_off["tools"]
    assert len(operations) == len(set(operations))


def operations_of(url: str, turn: Turn) -> list[Any]:
    statement = "select call_id, outcome from operations where run_id = %s order by id"
    return query(url, statement, turn.run_id)


def journal_of(database: Database, claimed: Claimed) -> Journal:
    return Journal(
        database,
        Live(),
        caller=claimed.caller,
        conversation_id=claimed.conversation_id,
        lease=claimed.lease,
        still_there=lambda _scope, ids: ids,
        transcript=claimed.transcript,
        stored=claimed.stored,
    )


async def dead_attempt(parts: Parts, url: str, turn: Turn) -> Claimed:
    """Claim a run and vanish."""
    claimed = await asyncio.to_thread(claimed_by, parts.turns)
    assert claimed is not None
    assert claimed.lease.id == turn.run_id
    let_run_out(url, turn)
    return claimed


@pytest.mark.spec("RUN-20")
def test_a_run_that_comes_to_nothing_five_times_is_given_up_and_its_conversation_goes_on(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    async def attempts() -> tuple[list[Event], dict[str, Any]]:
        dead = Parts.of(database, ScriptedAssistant(echo), slots=0)
        turn = await dead.worker.accept(alice, "hello", conversation_id=None)
        for _ in range(MOST_FRUITLESS_ATTEMPTS):
            await dead_attempt(dead, superuser_url, turn)
        alive = Parts.of(database, ScriptedAssistant(echo))
        events = await alive.told(alice, turn)
        _, reply = await alive.say(alice, "again", turn.conversation_id)
        return events, reply

    events, reply = asyncio.run(attempts())

    assert [event.seq for event in stored(events)] == list(range(1, len(stored(events)) + 1))
    assert [event.kind for event in events][-2:] == ["error", "done"]
    assert (events[-1].data["status"], events[-1].data["error"]["code"]) == ("failed", "run_gave_up")
    assert events[-1].data["error"]["status"] >= 500
    assert (reply["status"], reply["response"]) == ("completed", "You said again.")


@pytest.mark.spec("RUN-20")
def test_an_attempt_that_commits_a_step_starts_the_count_anew(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    async def attempts() -> list[Event]:
        dead = Parts.of(database, ScriptedAssistant(echo), slots=0)
        turn = await dead.worker.accept(alice, "hello", conversation_id=None)
        for _ in range(MOST_FRUITLESS_ATTEMPTS - 1):
            await dead_attempt(dead, superuser_url, turn)
        claimed = await asyncio.to_thread(claimed_by, dead.turns)
        assert claimed is not None
        call = {"call_id": f"{turn.run_id}-1-1", "name": "add_task", "arguments": {}}
        await journal_of(database, claimed).add_response(FINAL, [call], outputs={})
        let_run_out(superuser_url, turn)
        for _ in range(MOST_FRUITLESS_ATTEMPTS - 1):
            await dead_attempt(dead, superuser_url, turn)
        return await Parts.of(database, ScriptedAssistant(echo)).told(alice, turn)

    events = asyncio.run(attempts())

    assert [event.kind for event in events].count("reset") == 2 * MOST_FRUITLESS_ATTEMPTS - 1
    assert (events[-1].data["status"], events[-1].data["response"]) == ("completed", "You said hello.")


@pytest.mark.spec("RUN-21")
def test_an_attempt_whose_lease_was_taken_over_writes_nothing_more(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    begun, released = asyncio.Event(), asyncio.Event()
    refused: list[Exception] = []

    async def slowly(said: list[str], journal: Journal) -> None:
        begun.set()
        await journal.add_text("Void.")
        await released.wait()
        try:
            await echo(said, journal)
        except Exception as error:
            refused.append(error)
            raise

    async def attempts() -> tuple[list[Event], list[Event], dict[str, Any]]:
        zombie = Parts.of(database, ScriptedAssistant(slowly))
        turn = await zombie.worker.accept(alice, "hello", conversation_id=None)
        reading = asyncio.create_task(zombie.told(alice, turn))
        await begun.wait()
        zombie.looking.cancel()
        let_run_out(superuser_url, turn)
        other = Parts.of(database, ScriptedAssistant(echo))
        there = await other.told(alice, turn)
        other.looking.cancel()
        released.set()
        here = await reading
        # Its slot is free again.
        async with asyncio.timeout(10):
            _, reply = await zombie.say(alice, "still there?")
        return there, here, reply

    there, here, reply = asyncio.run(attempts())

    assert [getattr(error, "code", None) for error in refused] == ["conflict"]
    assert text_of(there) == text_of(here) == "You said hello."
    assert stored(here) == stored(there)
    assert [event.kind for event in there].count("done") == 1
    assert reply["response"] == "Void.You said still there?."


@pytest.mark.spec("RUN-22")
def test_a_process_whose_lease_ran_out_renews_it_and_does_not_begin_its_own_run_again(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    attempts = 0
    hung = asyncio.Event()

    async def script(said: list[str], journal: Journal) -> None:
        nonlocal attempts
        attempts += 1
        await hung.wait()
        await echo(said, journal)

    async def held_up() -> list[Event]:
        parts = Parts.of(database, ScriptedAssistant(script), lease_seconds=1.5)
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        await until(lambda: attempts == 1)
        let_run_out(superuser_url, turn)
        parts.worker.notified("work", turn.run_id)
        leased = "select 1 from runs where id = %s and lease_until > now()"
        await until(lambda: bool(query(superuser_url, leased, turn.run_id)))
        hung.set()
        return await parts.told(alice, turn)

    events = asyncio.run(held_up())

    assert attempts == 1
    assert {event.kind for event in events} == {"run", "text", "done"}
    assert [event.kind for event in events].count("run") == 1
    assert events[-1].data["response"] == "You said hello."


@pytest.mark.spec("RUN-33")
@pytest.mark.parametrize("lease", ["runs", "ran out"])
def test_a_run_whose_process_died_is_stopped_all_the_same(
    lease: str, database: Database, superuser_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "STORE_TEXT_SECONDS", 0)

    async def stopped() -> tuple[Run, list[Event], dict[str, Any]]:
        dead = Parts.of(database, ScriptedAssistant(echo), slots=0)
        turn = await dead.worker.accept(alice, "hello", conversation_id=None)
        claimed = await asyncio.to_thread(claimed_by, dead.turns)
        assert claimed is not None
        await journal_of(database, claimed).add_text("Void.")
        if lease == "ran out":
            let_run_out(superuser_url, turn)
        run = await dead.worker.cancel(alice, turn.run_id)
        let_run_out(superuser_url, turn)
        alive = Parts.of(database, ScriptedAssistant(echo))
        events = await alive.told(alice, turn)
        _, reply = await alive.say(alice, "again", turn.conversation_id)
        return run, events, reply

    run, events, reply = asyncio.run(stopped())

    assert run.status == {"runs": "running", "ran out": "cancelled"}[lease]
    assert [event.seq for event in stored(events)] == list(range(1, len(stored(events)) + 1))
    assert (events[-1].data["status"], events[-1].data["error"]["code"]) == ("cancelled", "run_cancelled")
    assert events[-1].data["response"] == ""
    assert [event.kind for event in events if event.kind != "run"] == ["text", "reset", "done"]
    assert reply["response"] == "You said again."
