"""Each user's concurrent calls, on a real socket; the calls hang in the database for as long as a test wants."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
import httpx
import pytest

from backend.limits.fair_share import MOST_AT_WORK, FairShare
from backend.settings import Settings
from tests.conftest import serving, signed_in_guest, wait_until
from tests.mcp_server.sessions import over_http, text_of
from tests.own_database import OwnDatabase
from tests.problem import refused

HANGS = """
    create function wait_for_gate() returns trigger language plpgsql security definer as $$
    begin
        while new.title like 'hang%' and exists (select from public.gate) loop perform pg_sleep(0.02); end loop;
        return new;
    end $$
"""
AT_WORK = (
    "select count(*)::int from pg_stat_activity where datname = %s and state = 'active' "
    "and query ilike 'update tasks%%'"
)


@dataclass
class Gate:
    """Changing a task's title to one that begins with "hang" blocks until the gate is opened."""

    own: OwnDatabase
    most_at_work: int = 0
    answers: list[Future[httpx.Response]] = field(default_factory=list)

    def at_work(self) -> int:
        """Return how many changes hang in the database now."""
        [(count,)] = self.own.query(AT_WORK, self.own.name)
        self.most_at_work = max(self.most_at_work, count)
        return int(count)

    def open(self) -> list[httpx.Response]:
        """Let the changes continue, and return their answers."""
        self.own.query("delete from gate")
        return [answer.result(60) for answer in self.answers]


@pytest.fixture(scope="module")
def own(own: OwnDatabase) -> OwnDatabase:
    own.query("create table gate ()")
    own.query(HANGS)
    own.query("create trigger hangs before update on tasks for each row execute function wait_for_gate()")
    return own


@pytest.fixture(scope="module")
def url(own: OwnDatabase, make_settings: Callable[..., Settings]) -> Iterator[str]:
    with serving(make_settings(database_url=own.url)) as url:
        yield url


@pytest.fixture
def gate(own: OwnDatabase) -> Iterator[Gate]:
    own.query("insert into gate default values")
    closed = Gate(own)
    yield closed
    closed.open()


@pytest.fixture
def anna(url: str) -> Iterator[httpx.Client]:
    with signed_in_guest(url) as client:
        for number in range(20):
            client.post("/api/tasks", json={"title": f"Task {number}"}).raise_for_status()
        yield client


@pytest.fixture
def ben(url: str) -> Iterator[httpx.Client]:
    with signed_in_guest(url) as client:
        yield client


@contextmanager
def hanging(gate: Gate, user: httpx.Client, calls: int) -> Iterator[None]:
    """Keep this many calls of a user in progress, of which as many as allowed are at work."""

    def hang(number: int) -> httpx.Response:
        return user.patch(f"/api/tasks/{number}", json={"title": f"hang {number}"}, timeout=120)

    with ThreadPoolExecutor(calls) as threads:
        gate.answers += [threads.submit(hang, number) for number in range(1, calls + 1)]
        try:
            wait_until(lambda: gate.at_work() >= min(calls, MOST_AT_WORK), seconds=60)
            yield
        finally:
            gate.open()


@pytest.mark.spec("SHARE-1")
def test_four_calls_of_a_user_are_at_work_the_others_wait_and_nobody_else_does(
    gate: Gate, anna: httpx.Client, ben: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.limits.fair_share.WAIT_SECONDS", 60.0)

    with hanging(gate, anna, 20):
        for number in range(5):
            assert ben.post("/api/tasks", json={"title": f"Ben's {number}"}).status_code == 201
            assert gate.at_work() == MOST_AT_WORK
        assert not any(answer.done() for answer in gate.answers)
        answers = gate.open()

    assert [answer.status_code for answer in answers] == [200] * 20
    assert gate.most_at_work == MOST_AT_WORK


@pytest.mark.spec("SHARE-2")
def test_who_waits_too_long_gets_429_and_nothing_was_done(
    gate: Gate, anna: httpx.Client, own: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.limits.fair_share.WAIT_SECONDS", 0.3)
    wanted, key = {"title": "Milk"}, {"Idempotency-Key": "one"}
    kept = "select count(*)::int from operations where tool = 'add_task'"
    before = own.query(kept)

    with hanging(gate, anna, 20):
        wait_until(lambda: sum(answer.done() for answer in gate.answers) == 20 - MOST_AT_WORK)
        late = anna.post("/api/tasks", json=wanted, headers=key)
        assert own.query(kept) == before
        for path in ("/api/tasks", "/api/documents", "/api/conversations"):
            refused(anna.get(path), 429, "too_busy")
        # Requests that end a session or a token are never delayed.
        assert anna.get("/api/me").status_code == anna.get("/api/tokens").status_code == 200
        assert gate.at_work() == MOST_AT_WORK
        answers = gate.open()

    problem = refused(late, 429, "too_busy")
    assert "Try again in a few seconds." in problem["detail"]
    assert int(late.headers["retry-after"]) > 0
    assert sorted(answer.status_code for answer in answers) == [200] * MOST_AT_WORK + [429] * (20 - MOST_AT_WORK)
    made, again = (anna.post("/api/tasks", json=wanted, headers=key).raise_for_status().json() for _ in range(2))
    assert made["id"] == again["id"]
    assert own.query(kept) == [(before[0][0] + 1,)]


@pytest.mark.spec("SHARE-2")
def test_an_upload_waits_for_as_long_as_it_takes(
    gate: Gate, anna: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.limits.fair_share.WAIT_SECONDS", 0.3)
    files = [("file", (f"{name}.txt", f"The {name} note.")) for name in ("first", "second")]

    with hanging(gate, anna, MOST_AT_WORK), ThreadPoolExecutor(1) as thread:
        upload = thread.submit(anna.post, "/api/documents", files=files)
        for _ in range(2):
            refused(anna.get("/api/documents"), 429, "too_busy")
        assert not upload.done()
        gate.open()
        kept = upload.result(60)

    assert kept.status_code == 202
    assert len(kept.json()["documents"]) == 2


@pytest.mark.spec("SHARE-3")
def test_an_mcp_client_that_waits_too_long_gets_an_error_of_the_tool(
    gate: Gate, anna: httpx.Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.limits.fair_share.WAIT_SECONDS", 0.3)
    token = anna.headers["authorization"].removeprefix("Bearer ")

    with over_http(url, token) as session, hanging(gate, anna, MOST_AT_WORK):
        answer = session.call("add_task", title="Milk")
        assert answer.is_error
        assert "Try again in a few seconds." in text_of(answer)
        assert "list_tasks" in session.tools()
        gate.open()
        assert session.result("add_task", title="Milk")["title"] == "Milk"


def events_of(own: OwnDatabase, run_id: str) -> list[str]:
    """Return the kinds of a run's stored events."""
    rows = own.query("select kind from run_events where run_id = %s order by seq", run_id)
    return [kind for (kind,) in rows]


def run_that_adds_a_task(client: httpx.Client, own: OwnDatabase) -> str:
    """Make the assistant add a task, and return the run once the assistant has decided to."""
    message = {"message": "Add a task to buy groceries"}
    with client.stream("POST", "/api/chat", json=message, headers={"Accept": "text/event-stream"}):
        [(run_id,)] = wait_until(
            lambda: own.query(
                "select r.id from runs r join run_events e on e.user_id = r.user_id and e.run_id = r.id "
                "where e.kind = 'tool_call' and r.ended_at is null"
            )
        )
    return str(run_id)


@pytest.mark.spec("SHARE-4")
def test_a_call_inside_a_run_waits_for_as_long_as_it_takes(
    gate: Gate, anna: httpx.Client, ben: httpx.Client, own: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.limits.fair_share.WAIT_SECONDS", 0.3)

    with hanging(gate, anna, MOST_AT_WORK):
        run_id = run_that_adds_a_task(anna, own)
        # Another user's whole turn completes meanwhile, and a call of this user outside the run gives up.
        assert ben.post("/api/chat", json={"message": "Add a task to call Mum"}).json()["status"] == "completed"
        refused(anna.get("/api/tasks"), 429, "too_busy")
        assert "tool_result" not in events_of(own, run_id)
        gate.open()

    done = wait_until(lambda: (seen := anna.get(f"/api/runs/{run_id}").json())["status"] != "running" and seen)
    assert done["status"] == "completed"
    assert "buy groceries" in [task["title"].lower() for task in anna.get("/api/tasks").json()["tasks"]]


@pytest.mark.spec("SHARE-4")
def test_a_run_whose_call_waits_can_be_stopped(gate: Gate, anna: httpx.Client, own: OwnDatabase) -> None:
    with hanging(gate, anna, MOST_AT_WORK):
        run_id = run_that_adds_a_task(anna, own)
        anna.post(f"/api/runs/{run_id}/cancel").raise_for_status()
        status = "select status from runs where id = %s"
        wait_until(lambda: own.query(status, run_id) == [("cancelled",)])
        assert gate.at_work() == MOST_AT_WORK

    titles = [task["title"].lower() for task in anna.get("/api/tasks").json()["tasks"]]
    assert "buy groceries" not in titles


@pytest.mark.spec("SHARE-1")
def test_a_slot_is_held_until_the_work_has_ended_although_its_caller_is_gone() -> None:
    share, go_on = FairShare(), threading.Event()
    order: list[str] = []

    def work() -> None:
        go_on.wait(30)
        order.append("ended")

    async def next_one() -> None:
        async with share.slot("anna", is_patient=True):
            order.append("began")

    async def story() -> None:
        async with anyio.create_task_group() as callers:
            for _ in range(MOST_AT_WORK):
                callers.start_soon(share.run, "anna", work)
            await anyio.wait_all_tasks_blocked()
            waiting = asyncio.create_task(next_one())
            await anyio.wait_all_tasks_blocked()
            callers.cancel_scope.cancel()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        await waiting

    asyncio.run(story())

    assert order[0] == "ended"
    assert "began" in order
