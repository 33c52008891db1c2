"""Messages between processes: received at once, lost and restored, and swallowed by a pooler."""

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg2
import pytest
from anyio.to_thread import run_sync
from structlog.testing import capture_logs

from backend import process
from backend.identity.caller import Caller
from backend.postgres import notifications
from backend.postgres.database import Database
from backend.postgres.notifications import Kind, Notifications, notify
from backend.runs import journal as journals
from backend.runs.follow import POLL_SECONDS, Follower
from backend.runs.journal import Journal
from backend.runs.live import Live
from backend.runs.repository import Event
from backend.settings import Settings
from bench.scripted_model import says, scripted_model
from tests.conftest import query, serving, signed_in_guest, wait_until
from tests.own_database import OwnDatabase, knowing_everybody, opened
from tests.pooler import Habit, pooler
from tests.process import Process, running
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant, text_of

KINDS: tuple[Kind, ...] = ("news", "work", "cancel", "document")
LISTENING = "from pg_stat_activity where application_name = 'docutalk listening' and datname = %s"
RUN_ID = re.compile(r'"run_id": "(\w+)"')
HABITS: list[Habit] = ["swallows notifications", "tells another process id"]


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def alice(database: Database) -> Caller:
    authenticator = knowing_everybody(database)
    _, token = authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))
    return authenticator.caller(token)


class Listener:
    """A process, as far as notifications go."""

    def __init__(self, database: Database, url: str, *, keeps_trying: bool = False) -> None:
        self.notifications = Notifications(database, keeps_trying=keeps_trying)
        self.notifications.subscribe(KINDS, self._hear)
        self.heard: list[tuple[str, str]] = []
        self.at: list[float] = []
        self.task = asyncio.create_task(self.notifications.listen(url))

    @property
    def is_listening(self) -> bool:
        return self.notifications.is_listening

    def _hear(self, kind: str, subject: str) -> None:
        # Without a subject, the process only reminds itself to check.
        if subject:
            self.heard.append((kind, subject))
            self.at.append(time.monotonic())


@asynccontextmanager
async def listening(database: Database, own: OwnDatabase, **options: Any) -> AsyncIterator[Listener]:
    """Start listening, and yield once listening is known to work."""
    listener = Listener(database, own.url, **options)
    try:
        await until(lambda: listener.is_listening)
        yield listener
    finally:
        listener.task.cancel()
        await asyncio.wait([listener.task])


async def until(condition: Callable[[], Any], *, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  Half of what is waited for is in the database.
            await asyncio.sleep(0.005)


async def tell(database: Database, kind: Kind, subject: str) -> float:
    """Notify everybody, and return when that began."""

    def speak() -> None:
        with database.transaction(None) as session:
            notify(session, kind, subject)

    began = time.monotonic()
    await run_sync(speak)
    return began


async def lose_connections(own: OwnDatabase) -> None:
    """Close every listening connection on the server's side, as a database does that falls asleep."""
    ended = await run_sync(query, own.elsewhere, f"select pg_terminate_backend(pid) {LISTENING}", own.name)
    assert ended
    await until(lambda: connections(own) == 0)


def connections(own: OwnDatabase) -> int:
    [(count,)] = query(own.elsewhere, f"select count(*) {LISTENING}", own.name)
    return int(count)


@pytest.mark.database
@pytest.mark.spec("NOTE-1")
def test_every_process_hears_in_order_and_within_a_tenth_of_a_second(own: OwnDatabase, database: Database) -> None:
    async def run() -> None:
        with opened(own.url) as other:
            async with listening(database, own) as here, listening(other, own) as there:
                told = [await tell(database, "news", f"run{number}") for number in range(20)]
                await until(lambda: len(here.heard) == len(there.heard) == 20)

                for listener in (here, there):
                    assert listener.heard == [("news", f"run{number}") for number in range(20)]
                    took = [at - began for began, at in zip(told, listener.at, strict=True)]
                    assert statistics.median(took) < 0.1, took

    asyncio.run(run())


@pytest.mark.database
@pytest.mark.spec("NOTE-1")
def test_what_is_taken_back_is_not_told(own: OwnDatabase, database: Database) -> None:
    async def run() -> None:
        async with listening(database, own) as listener:
            with suppress(KeyError), database.transaction(None) as session:
                notify(session, "work", "taken back")
                raise KeyError
            for kind in ("news", "work", "cancel"):
                await tell(database, kind, "kept")
            await until(lambda: len(listener.heard) == 3)

            assert listener.heard == [("news", "kept"), ("work", "kept"), ("cancel", "kept")]

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.spec("NOTE-2")
def test_a_connection_that_is_lost_while_nothing_happens_is_made_anew_when_something_does(
    own: OwnDatabase, database: Database
) -> None:
    async def run() -> None:
        async with listening(database, own) as listener:
            # Earlier activity does not count.
            listener.notifications.want()
            for number in range(2):
                await lose_connections(own)
                await until(lambda: not listener.is_listening)
                quiet_until = time.monotonic() + 3 * notifications.FIRST_PAUSE
                while time.monotonic() < quiet_until:
                    assert connections(own) == 0
                    await asyncio.sleep(0.1)

                listener.notifications.want()
                await until(lambda: listener.is_listening)
                assert connections(own) == 1
                await tell(database, "news", f"after loss {number}")
                await until(lambda: listener.heard[-1:] == [("news", f"after loss {number}")])  # noqa: B023  Awaited.

    asyncio.run(run())


@pytest.mark.spec("NOTE-2")
def test_a_service_makes_a_lost_connection_anew_when_a_message_comes(
    own: OwnDatabase, make_settings: Callable[..., Settings]
) -> None:
    with serving(make_settings(database_url=own.url)) as url, signed_in_guest(url) as guest:
        wait_until(lambda: connections(own) == 1)
        query(own.elsewhere, f"select pg_terminate_backend(pid) {LISTENING}", own.name)
        wait_until(lambda: connections(own) == 0)

        assert guest.post("/api/chat", json={"message": "hello"}).json()["status"] == "completed"
        wait_until(lambda: connections(own) == 1)


@pytest.mark.database
@pytest.mark.spec("NOTE-3")
def test_a_process_that_learns_of_work_in_no_other_way_keeps_trying(own: OwnDatabase, database: Database) -> None:
    async def run() -> None:
        async with listening(database, own, keeps_trying=True) as listener:
            for number in range(2):
                await lose_connections(own)
                await until(lambda: not listener.is_listening)
                await until(lambda: listener.is_listening)
                await tell(database, "work", f"after loss {number}")
                await until(lambda: listener.heard[-1:] == [("work", f"after loss {number}")])  # noqa: B023  Awaited.

    asyncio.run(run())


@pytest.mark.spec("NOTE-3")
def test_work_that_came_while_nobody_listened_is_found_once_somebody_does(
    own: OwnDatabase,
    database: Database,
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    alice: Caller,
) -> None:
    monkeypatch.setattr(notifications, "FIRST_PAUSE", 1.0)
    recent = (
        "select count(*) from pg_stat_activity where datname = %s and application_name = 'docutalk' "
        "and query_start > now() - interval '0.7 seconds'"
    )

    async def run() -> None:
        dedicated = process.Process(make_settings(database_url=own.url), is_dedicated=True)
        async with dedicated.at_work():
            await until(lambda: dedicated.notifications.is_listening, seconds=30)
            await until(lambda: query(own.elsewhere, recent, own.name) == [(0,)], seconds=30)
            await lose_connections(own)
            await until(lambda: not dedicated.notifications.is_listening)

            accepting = Parts.of(database, dedicated.assistant)
            accepting.worker.stop_claiming()
            turn = await accepting.worker.accept(alice, "hello", conversation_id=None)
            accepting.looking.cancel()
            await until(lambda: dedicated.notifications.is_listening)

            async with asyncio.timeout(30):
                told = await accepting.told(alice, turn)
            assert (told[-1].data["status"], told[-1].data["error"]) == ("completed", None)

    asyncio.run(run())


@pytest.mark.spec("NOTE-4")
@pytest.mark.parametrize("habit", HABITS)
def test_a_pooler_in_between_is_noticed_and_logged_once(
    own: OwnDatabase, database: Database, monkeypatch: pytest.MonkeyPatch, habit: Habit
) -> None:
    monkeypatch.setattr(notifications, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(notifications, "ASK_AGAIN_SECONDS", 0.01)

    async def run() -> None:
        with pooler(own.url, habit) as between, capture_logs() as logged:
            listener = Listener(database, between.url)
            await until(lambda: "notifications_unavailable" in [line["event"] for line in logged])
            await until(lambda: connections(own) == 0)
            await tell(database, "news", "of a run")
            assert between.connections == 1
            for number in (2, 3):
                listener.notifications.want()
                await until(lambda: (between.connections, connections(own)) == (number, 1))  # noqa: B023  Awaited.
                await until(lambda: connections(own) == 0)

            assert not listener.is_listening
            assert listener.heard == []
            told = [line for line in logged if line["event"] == "notifications_unavailable"]
            assert [(line["log_level"], "MIGRATION_DATABASE_URL" in line["reason"]) for line in told] == [
                ("warning", True)
            ]
            assert (between.dropped > 0) is (habit == "swallows notifications")
            listener.task.cancel()
            await asyncio.wait([listener.task])

    asyncio.run(run())


@pytest.mark.spec("NOTE-4")
def test_one_slow_answer_does_not_end_the_listening(
    own: OwnDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(notifications, "ASK_AGAIN_SECONDS", 0.01)
    # The slowest case: it is not even sent.
    monkeypatch.setattr(notifications, "notify", lambda *_: None)

    async def run() -> None:
        with capture_logs() as logged:
            listener = Listener(database, own.url)
            await until(lambda: "notifications_unavailable" in [line["event"] for line in logged])
            monkeypatch.setattr(notifications, "notify", notify)
            monkeypatch.setattr(notifications, "PROBE_SECONDS", 30)

            def is_back() -> bool:
                listener.notifications.want()
                return listener.is_listening

            await until(is_back)
            listener.task.cancel()
            await asyncio.wait([listener.task])

    asyncio.run(run())


@pytest.mark.spec("NOTE-6")
def test_a_worker_that_hears_nothing_looks_for_work_by_the_clock(
    own: OwnDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.01)
    looks: list[str] = []

    async def run() -> None:
        with pooler(own.url, "swallows notifications") as between:
            listener = Listener(database, between.url, keeps_trying=True)
            listener.notifications.subscribe(KINDS, lambda kind, _subject: looks.append(kind))
            await until(lambda: len(looks) >= 6)
            listener.task.cancel()
            await asyncio.wait([listener.task])

    asyncio.run(run())

    assert looks[:6] == ["work", "document"] * 3


@pytest.mark.spec("NOTE-7")
def test_each_worker_is_notified_of_its_own_work_only(
    own: OwnDatabase, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    parts = process.Process(make_settings(database_url=own.url))
    for name, finder in {"runs": parts.worker._finder, "documents": parts.ingestion._finder}.items():
        monkeypatch.setattr(finder, "look_now", partial(looks.append, f"{name} now"))
        monkeypatch.setattr(finder, "look_soon", partial(looks.append, f"{name} soon"))

    def looks_after(payload: str) -> list[str]:
        looks.clear()
        parts.notifications._pass_on(payload)
        return list(looks)

    assert looks_after("document 7") == ["documents now"]
    assert looks_after("work 7") == ["runs now"]
    assert looks_after("news 7") == ["runs soon"]
    assert looks_after("probe of somebody else") == looks_after("nonsense") == []


def test_a_connection_that_cannot_listen_is_closed(own: OwnDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "CHANNEL", "no name of a channel")

    with pytest.raises(psycopg2.Error) as raised:
        notifications._listening(own.url)

    # The exception's traceback keeps the function's local variables alive.
    assert raised.tb is not None
    wait_until(lambda: connections(own) == 0)


@pytest.mark.spec("NOTE-5")
@pytest.mark.parametrize("is_told", [True, False], ids=["told", "behind a pooler"])
def test_a_run_is_followed_from_another_process_with_notifications_and_without(
    own: OwnDatabase, database: Database, monkeypatch: pytest.MonkeyPatch, alice: Caller, is_told: bool
) -> None:
    monkeypatch.setattr(notifications, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(journals, "STORE_TEXT_SECONDS", 0.0)
    stored: dict[int, float] = {}

    async def slowly(_said: list[str], journal: Journal) -> None:
        for number in range(12):
            stored[2 + number] = time.monotonic()
            await journal.add_text(f"word{number} ")
            await asyncio.sleep(0.1)
        await journal.finish(FINAL, outputs={})

    async def run() -> None:
        with opened(own.url) as other, pooler(own.url, "swallows notifications") as between:
            listener = Listener(other, own.url if is_told else between.url)
            await until(lambda: listener.is_listening or between.dropped)
            assert listener.is_listening is is_told
            there = Live()
            listener.notifications.subscribe(("news",), lambda _kind, run_id: there.wake(run_id))
            follower = Follower(other, there, is_listening=lambda: listener.is_listening)
            here = Parts.of(database, ScriptedAssistant(slowly))
            turn = await here.worker.accept(alice, "hello", conversation_id=None)

            events: list[Event] = []
            late: list[float] = []
            async for event in follower.events(alice, turn.run_id):
                events.append(event)
                if event.seq in stored:
                    late.append(time.monotonic() - stored[event.seq])

            listener.task.cancel()
            assert [event.seq for event in events] == list(range(1, 15))
            assert text_of(events) == events[-1].data["response"] == "".join(f"word{n} " for n in range(12))
            # Received at once, or found by checking twice a second.
            assert len(late) == 12
            assert statistics.median(late) < (0.1 if is_told else POLL_SECONDS)
            assert max(late) < 1

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.spec("NOTE-4", "NOTE-5")
def test_a_service_behind_a_pooler_says_so_once_and_follows_what_another_one_runs(
    own: OwnDatabase, tmp_path: Path
) -> None:
    with scripted_model([says("and so on " * 60, wait=0.05)]) as model, pooler(own.url, HABITS[0]) as between:
        settings = {"DATABASE_URL": own.url, "MODEL": "openai/any", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "x"}
        behind = settings | {"MIGRATION_DATABASE_URL": between.url, "MIGRATE_ON_START": "false"}
        with (
            running(tmp_path, name="direct", loaded=True, **settings) as direct,
            running(tmp_path, name="behind", loaded=True, **behind) as service,
            signed_in_guest(direct.url) as guest,
        ):
            wait_until(lambda: logged(service, "notifications_unavailable"))
            for _ in range(2):
                accept = {"Accept": "text/event-stream"}
                with guest.stream("POST", "/api/chat", json={"message": "Tell me"}, headers=accept) as answer:
                    [run_id] = next(found.groups() for line in answer.iter_lines() if (found := RUN_ID.search(line)))
                texts, events = followed(f"{service.url}/api/runs/{run_id}/events", guest.headers)

                assert events[-1] == "done"
                assert len(texts) > 3
                kept = own.query("select seq, created_at from run_events where run_id = %s and kind = 'text'", run_id)
                late = [texts[seq] - at.timestamp() for seq, at in kept]
                # Text is stored once a second, in a transaction that begins at `created_at`.
                assert max(late) < 1.5, late
            told = logged(service, "notifications_unavailable")
            assert [line["level"] for line in told] == ["warning"]
            assert logged(direct, "notifications_unavailable") == []
            assert len(logged(direct, "notifications_heard")) == 1


def logged(service: Process, event: str) -> list[dict[str, Any]]:
    return [line for line in service.events if line["event"] == event]


def followed(url: str, headers: httpx.Headers) -> tuple[dict[int, float], list[str]]:
    """Follow a run to its end; return the arrival time of each stored text by its number, and the events' names."""
    texts: dict[int, float] = {}
    names: list[str] = []
    seq = None
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                seq = int(value)
            elif name == "event":
                names.append(value)
                if value == "text" and seq is not None:
                    texts[seq] = time.time()
            elif not line:
                seq = None
    return texts, names
