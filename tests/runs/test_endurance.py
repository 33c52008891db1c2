"""The trouble of one run, user, process or notification delays nobody else, and leads to no false statement."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.conversations.models import Message
from backend.edge.problems import install_problems
from backend.errors import DatabaseUnavailable
from backend.identity.caller import Caller
from backend.jobs import finder
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS
from backend.jobs.worker import LAST_STEP_SECONDS
from backend.limits.fair_share import FairShare
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.postgres.notifications import Notifications
from backend.runs.ending import RunCancelled
from backend.runs.follow import MOST_FOLLOWED
from backend.runs.journal import Journal
from backend.runs.repository import Event
from backend.runs.routes import run_routes
from backend.runs.turns import Turn
from backend.tasks.tools import TASK_TOOLS
from backend.wire.native import chat_routes, event_stream
from tests.conftest import query, wait_until
from tests.own_database import opened
from tests.runs.replicas import held
from tests.runs.scripted import FINAL, Parts, Script, ScriptedAssistant, claimed_by, echo
from tests.statements import on_statement

RUN_OUT = "update runs set lease_until = now() - interval '1 second' where id = %s"


@pytest.fixture(autouse=True)
def _runs_are_looked_for_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LOOK_SECONDS", 0.05)


async def until(condition: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(wait_until, condition)


async def queued(database: Database, caller: Caller, words: str = "hello", *, assistant: Any = None) -> Turn:
    """Accept a message in a process without a free slot for its run."""
    parts = Parts.of(database, assistant or ScriptedAssistant(echo), slots=0)
    turn = await parts.worker.accept(caller, words, conversation_id=None)
    await gone(parts)
    return turn


async def begun(database: Database, url: str, caller: Caller, words: str = "hello", *, assistant: Any = None) -> Turn:
    """Accept a message, begin its run, and disappear."""
    parts = Parts.of(database, assistant or ScriptedAssistant(echo), slots=0)
    turn = await parts.worker.accept(caller, words, conversation_id=None)
    await gone(parts)
    claimed = await asyncio.to_thread(claimed_by, parts.turns)
    assert claimed is not None
    assert claimed.lease.id == turn.run_id
    query(url, RUN_OUT, turn.run_id)
    return turn


async def gone(parts: Parts) -> None:
    """Stop a process from looking for work."""
    parts.looking.cancel()
    await asyncio.wait([parts.looking])


class Unreadable(ScriptedAssistant):
    """Fails on one message."""

    def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
        if messages[-1].content == "garbled":
            raise ZeroDivisionError("secret data")
        return super().fixed_input(messages, caller)


@pytest.mark.spec("RUN-34")
@pytest.mark.parametrize("what", ["message", "event"])
def test_a_row_that_cannot_be_read_fails_its_own_run_and_no_other(
    what: str, database: Database, superuser_url: str, alice: Caller, bob: Caller
) -> None:
    async def attempts() -> tuple[list[Event], list[dict[str, Any]]]:
        if what == "message":
            broken = await queued(database, alice, "garbled")
        else:
            broken = await begun(database, superuser_url, alice)
            query(superuser_url, "update runs set last_seq = 3 where id = %s", broken.run_id)
            event = (
                "insert into run_events (user_id, run_id, seq, kind, data) values (%s, %s, 3, 'tool_result', '{}') "
                "on conflict (user_id, run_id, seq) do update set kind = excluded.kind, data = excluded.data"
            )
            query(superuser_url, event, alice.user_id, broken.run_id)
        # It has waited longest, so it comes first at every attempt.
        others = [await queued(database, bob, f"m{number}") for number in range(3)]
        parts = Parts.of(database, Unreadable(echo), slots=1)
        async with asyncio.timeout(20):
            replies = [(await parts.told(bob, turn))[-1].data for turn in others]
            events = await parts.told(alice, broken)
            replies.append((await parts.say(alice, "again", broken.conversation_id))[1])
            return events, replies

    with capture_logs() as logs:
        events, replies = asyncio.run(attempts())

    assert (events[-1].data["status"], events[-1].data["error"]["code"]) == ("failed", "run_crashed")
    assert [event.kind for event in events].count("done") == 1
    assert "secret" not in str([event.data for event in events])
    assert [entry["event"] for entry in logs].count("run_unreadable") == 1
    assert [reply["response"] for reply in replies] == [f"You said {words}." for words in ("m0", "m1", "m2", "again")]


@pytest.mark.spec("RUN-34")
def test_a_time_zone_that_this_machine_does_not_know_leaves_no_message_unanswered(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    zones: list[str] = []

    class Asking(ScriptedAssistant):
        def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
            zones.append(caller.zone.key)
            return super().fixed_input(messages, caller)

    async def answered() -> dict[str, Any]:
        turn = await queued(database, alice)
        query(superuser_url, "update users set time_zone = 'Mars/Olympus' where user_id = %s", alice.user_id)
        parts = Parts.of(database, Asking(echo))
        async with asyncio.timeout(10):
            return (await parts.told(alice, turn))[-1].data

    assert asyncio.run(answered())["response"] == "You said hello."
    assert zones == ["UTC"]


class Watched(AgentAssistant):
    """Exposes the journal of the run that it answers."""

    journal: Journal

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        self.journal = journal
        await super().answer(fixed_input, model=model, journal=journal)


@pytest.mark.spec("RUN-35")
def test_a_stop_while_a_tool_writes_what_is_then_lost_tells_only_what_is_in_the_rows(
    database_url: str, superuser_url: str, alice: Caller
) -> None:
    with opened(database_url) as database:
        assistant = Watched(
            ModelChoice(), TASK_TOOLS, now=database.now, max_steps=5, history_characters=10_000, share=FairShare()
        )

        async def stopped() -> list[Event]:
            await assistant.load(ToolServer(TASK_TOOLS, Operations(database)))
            parts = Parts.of(database, assistant, lease_seconds=1.5)
            loop = asyncio.get_running_loop()
            writing: list[int] = []

            def heard(statement: str) -> None:
                if statement.startswith("INSERT INTO operations"):
                    writing.append(threading.get_ident())
                    cancelled = parts.worker.cancel(alice, assistant.journal.run_id)
                    asyncio.run_coroutine_threadsafe(cancelled, loop).result(10)
                    wait_until(lambda: isinstance(assistant.journal.interrupted, RunCancelled))
                elif statement == "COMMIT" and threading.get_ident() in writing:
                    writing.clear()
                    kill_who_is_about_to_commit(superuser_url)

            on_statement(database, heard)
            async with asyncio.timeout(30):
                turn = await parts.worker.accept(alice, "Add a task to buy milk", conversation_id=None)
                return await parts.told(alice, turn)

        events = asyncio.run(stopped())

    done = events[-1].data
    # That attempt does not know what was done; the next one does.
    assert [event.kind for event in events if event.seq] == ["run", "tool_call", "run", "reset", "tool_result", "done"]
    assert (done["status"], done["error"]["code"]) == ("cancelled", "run_cancelled")
    (call,) = done["tool_calls"]
    (result,) = [event.data for event in events if event.kind == "tool_result"]
    assert (call["name"], call["is_error"], call["operation_id"]) == ("add_task", True, None)
    assert (result["is_error"], result["operation_id"]) == (True, None)
    for table in ("tasks", "operations"):
        rows = f"select 1 from {table} where user_id = %s"  # noqa: S608  One of two.
        assert query(superuser_url, rows, alice.user_id) == []


def kill_who_is_about_to_commit(url: str) -> None:
    """End the connection that has just written a tool's result."""
    killed = query(
        url,
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() "
        "and state = 'idle in transaction' and query like 'INSERT INTO run_events%%'",
    )
    assert killed == [(True,)]


@pytest.mark.spec("RUN-36")
def test_a_cancellation_that_nobody_asked_for_fails_the_run_once(database: Database, alice: Caller) -> None:
    attempts: list[str] = []

    async def script(said: list[str], journal: Journal) -> None:
        attempts.append(said[-1])
        if said[-1] == "fail":
            await journal.add_text("I begin")
            # As a library does whose own task group failed.
            raise asyncio.CancelledError
        await echo(said, journal)

    async def twice() -> tuple[list[Event], dict[str, Any]]:
        parts = Parts.of(database, ScriptedAssistant(script))
        async with asyncio.timeout(10):
            turn = await parts.worker.accept(alice, "fail", conversation_id=None)
            events = await parts.told(alice, turn)
            return events, (await parts.say(alice, "again", turn.conversation_id))[1]

    events, reply = asyncio.run(twice())

    assert attempts == ["fail", "again"]
    assert [event.kind for event in events][-2:] == ["error", "done"]
    assert (events[-1].data["status"], events[-1].data["error"]["code"]) == ("failed", "run_crashed")
    assert events[-1].data["response"] == "I begin"
    assert reply["response"] == "You said again."


class Choosing(ScriptedAssistant):
    """Has one model for people and another for guests, and records which one it is asked for."""

    def __init__(self, script: Script, *, guests_get: str) -> None:
        super().__init__(script)
        self._guests_get = guests_get
        self.asked: list[str] = []

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        return (self._guests_get,) if caller.kind == "guest" else ("paid",)

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        self.asked.append(model)
        await super().answer(fixed_input, model="scripted", journal=journal)


@pytest.mark.spec("RUN-37")
@pytest.mark.parametrize(("kind", "model"), [("guest", "free"), ("person", "paid")])
def test_a_queued_run_is_answered_with_the_model_that_its_caller_gets_where_it_is_claimed(
    kind: str, model: str, database: Database, superuser_url: str, alice: Caller
) -> None:
    here, there = Choosing(echo, guests_get="paid"), Choosing(echo, guests_get="free")

    async def answered() -> list[Event]:
        turn = await queued(database, alice, assistant=here)
        assert turn.model == "paid"
        query(superuser_url, "update users set kind = %s where user_id = %s", kind, alice.user_id)
        async with asyncio.timeout(10):
            return await Parts.of(database, there).told(alice, turn)

    events = asyncio.run(answered())

    assert (here.asked, there.asked) == ([], [model])
    assert [event.data["model"] for event in events if event.kind == "run"] == ["paid", model]
    assert (events[-1].data["status"], events[-1].data["model"]) == ("completed", model)
    [(kept,)] = query(superuser_url, "select model from runs where user_id = %s", alice.user_id)
    assert kept == model


@pytest.mark.spec("RUN-37")
def test_a_run_that_another_model_began_is_not_answered_by_a_model_that_its_caller_does_not_get(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    here, there = Choosing(echo, guests_get="paid"), Choosing(echo, guests_get="free")

    async def taken_over() -> tuple[list[Event], dict[str, Any]]:
        turn = await begun(database, superuser_url, alice, assistant=here)
        parts = Parts.of(database, there)
        async with asyncio.timeout(10):
            events = await parts.told(alice, turn)
            assert there.asked == []
            return events, (await parts.say(alice, "again", turn.conversation_id))[1]

    events, reply = asyncio.run(taken_over())

    error = events[-1].data["error"]
    assert (events[-1].data["status"], error["code"], error["status"]) == ("failed", "model_withdrawn", 503)
    assert (reply["response"], reply["model"]) == ("You said again.", "free")


@pytest.mark.spec("RUN-38")
def test_a_process_whose_model_could_not_be_loaded_leaves_runs_to_others(
    database_url: str, database: Database, superuser_url: str, alice: Caller
) -> None:
    class Broken(ScriptedAssistant):
        is_ready = False

    looks: list[str] = []

    async def left(own: Database) -> dict[str, Any]:
        waiting = await queued(database, alice)
        on_statement(own, lambda statement: looks.append(statement) if "is_any_run_left" in statement else None)
        broken = Parts.of(own, Broken(echo))
        broken.worker.notified("work", waiting.run_id)
        await until(lambda: len(looks) >= 3)
        assert query(superuser_url, "select status, attempt from runs where id = %s", waiting.run_id) == [("queued", 0)]
        async with asyncio.timeout(10):
            return (await Parts.of(database, ScriptedAssistant(echo)).told(alice, waiting))[-1].data

    with opened(database_url) as own:
        reply = asyncio.run(left(own))

    assert (reply["status"], reply["response"]) == ("completed", "You said hello.")


@pytest.mark.spec("RUN-39")
@pytest.mark.parametrize("is_wanted", [False, True], ids=["a notification alone", "a row that says so"])
def test_a_notification_stops_only_what_its_row_says_is_to_stop(
    is_wanted: bool, database: Database, database_url: str, superuser_url: str, alice: Caller
) -> None:
    released = asyncio.Event()

    async def script(said: list[str], journal: Journal) -> None:
        await released.wait()
        await echo(said, journal)

    async def told() -> dict[str, Any]:
        # The next heartbeat would come after 20 seconds.
        parts = Parts.of(database, ScriptedAssistant(script), lease_seconds=60)
        notifications = Notifications(database)
        notifications.subscribe(("news", "work", "cancel"), parts.worker.notified)
        listening = asyncio.create_task(notifications.listen(database_url))
        await until(lambda: notifications.is_listening)
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        leased = query(superuser_url, "select lease_until from runs where id = %s", turn.run_id)
        if is_wanted:
            query(superuser_url, "update runs set cancel_requested = true where id = %s", turn.run_id)
        query(superuser_url, "select pg_notify('docutalk', %s)", f"cancel {turn.run_id}")
        if not is_wanted:
            now = "select lease_until from runs where id = %s"
            await until(lambda: query(superuser_url, now, turn.run_id) != leased)
            released.set()
        try:
            async with asyncio.timeout(10):
                return (await parts.told(alice, turn))[-1].data
        finally:
            listening.cancel()

    done = asyncio.run(told())

    assert done["status"] == ("cancelled" if is_wanted else "completed")
    assert done["response"] == ("" if is_wanted else "You said hello.")


@pytest.mark.spec("RUN-40")
def test_a_run_that_meets_no_database_waits_longer_after_each_attempt_and_is_given_up(
    database: Database, superuser_url: str, alice: Caller
) -> None:
    attempts = 0
    waits: list[float] = []

    async def script(_said: list[str], _journal: Journal) -> None:
        nonlocal attempts
        attempts += 1
        raise DatabaseUnavailable

    async def given_up() -> list[Event]:
        put_off = (
            "select attempt, extract(epoch from lease_until - now())::float from runs "
            "where id = %s and lease_owner is null and lease_until > now()"
        )
        parts = Parts.of(database, ScriptedAssistant(script), lease_seconds=7)
        async with asyncio.timeout(40):
            turn = await parts.worker.accept(alice, "hello", conversation_id=None)
            for number in range(1, MOST_FRUITLESS_ATTEMPTS + 1):
                [(attempt, seconds)] = await until(lambda: query(superuser_url, put_off, turn.run_id))
                assert attempt == attempts == number
                waits.append(seconds)
                # The test does not wait that long.
                query(superuser_url, RUN_OUT, turn.run_id)
            return await parts.told(alice, turn)

    events = asyncio.run(given_up())

    for seconds, longest in zip(waits, (2, 4, 6, 7, 7), strict=True):
        # The clock used for both times may be set back a little in between.
        assert longest - 1.5 < seconds <= longest + 0.1
    assert attempts == MOST_FRUITLESS_ATTEMPTS
    assert (events[-1].data["status"], events[-1].data["error"]["code"]) == ("failed", "run_gave_up")


@asynccontextmanager
async def served(database: Database, parts: Parts, callers: dict[str, Caller]) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the routes of one process on a real socket; the header X-User names the user."""

    async def signed_in(request: Request) -> Caller:
        return callers[request.headers["X-User"]]

    app = FastAPI()
    app.include_router(chat_routes(parts.worker, parts.follower, signed_in, wait_seconds=5))
    app.include_router(
        run_routes(database, parts.worker, parts.follower, signed_in, stream_of=event_stream, share=FairShare())
    )
    install_problems(app)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20, limits=httpx.Limits(max_connections=None)) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


@pytest.mark.spec("RUN-41")
def test_a_user_follows_only_so_many_runs_at_once(
    database: Database, superuser_url: str, alice: Caller, bob: Caller
) -> None:
    released = asyncio.Event()

    async def script(said: list[str], journal: Journal) -> None:
        await released.wait()
        await echo(said, journal)

    async def crowd() -> tuple[list[httpx.Response], httpx.Response, str]:
        parts = Parts.of(database, ScriptedAssistant(script))
        async with (
            asyncio.timeout(20),
            served(database, parts, {"alice": alice, "bob": bob}) as client,
            AsyncExitStack() as streams,
        ):

            async def follow(user: str, path: str) -> AsyncExitStack:
                one = await streams.enter_async_context(AsyncExitStack())
                stream = client.stream("GET", path, headers={"X-User": user})
                answer = await one.enter_async_context(stream)
                assert answer.status_code == 200
                lines = answer.aiter_lines()
                one.push_async_callback(lines.aclose)  # type: ignore[attr-defined]  # It is a generator.
                # Followers that receive something are counted.
                assert await anext(lines) == "id: 1"
                return one

            turn = await parts.worker.accept(alice, "hello", conversation_id=None)
            path = f"/api/runs/{turn.run_id}/events"
            followed = [await follow("alice", path) for _ in range(MOST_FOLLOWED)]
            mine = {"X-User": "alice"}
            refused = [
                await client.get(path, headers=mine),
                await client.post("/api/chat", json={"message": "one more"}, headers=mine),
            ]
            # The run's state can still be read, and another user can follow.
            state = await client.get(f"/api/runs/{turn.run_id}", headers=mine)
            other = await parts.worker.accept(bob, "hello", conversation_id=None)
            await follow("bob", f"/api/runs/{other.run_id}/events")
            await followed[0].aclose()

            released.set()
            while (answer := await client.get(path, headers=mine)).status_code == 429:  # noqa: ASYNC110  A server.
                await asyncio.sleep(0.02)
            return refused, state, answer.text

    refused, state, text = asyncio.run(crowd())

    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert int(answer.headers["retry-after"]) > 0
    assert state.json()["status"] == "running"
    assert "You said hello." in text
    assert query(superuser_url, "select count(*) from runs where user_id = %s", alice.user_id) == [(1,)]


@pytest.mark.spec("RUN-42")
@pytest.mark.parametrize("what", ["claims a run", "hands a run back"])
def test_a_process_goes_down_in_time_while_its_database_hangs(
    what: str, database: Database, superuser_url: str, alice: Caller
) -> None:
    begun = asyncio.Event()

    async def script(_said: list[str], journal: Journal) -> None:
        begun.set()
        await asyncio.sleep(60)
        await journal.finish(FINAL, outputs={})

    async def stopped(parts: Parts) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await parts.worker.stop(seconds=0.2)
        return loop.time() - started

    async def goes_down() -> float:
        if what == "claims a run":
            await queued(database, alice)
            # A claim skips locked rows, but has to wait for a locked table.
            with held(superuser_url, "lock table queues; select 1") as lock:
                parts = Parts.of(database, ScriptedAssistant(script))
                await until(lambda: lock.waiting(for_what="claimable_runs"))
                return await stopped(parts)
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        await begun.wait()
        with held(superuser_url, "select 1 from runs where id = %s for update", turn.run_id):
            return await stopped(parts)

    longest = {"claims a run": 0.2, "hands a run back": 0.2 + LAST_STEP_SECONDS}[what]
    assert longest - 0.1 < asyncio.run(goes_down()) < longest + 2.5, "A statement waits for a lock for five seconds."
