"""Stopping a run from another process, whatever the run is doing; its work stays, and the conversation continues."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from bench.scripted_model import Reply, ScriptedModel, Silence, ToolCall, says, scripted_model
from tests.agent.talk import KEY, Event, assert_acceptable, assert_gapless, say, text_of
from tests.conftest import query, serving, signed_in_guest, wait_until
from tests.problem import refused
from tests.runs.replicas import Held, Reader, held

ADD = ToolCall("add_task", {"title": "Milk"})
LONG = says("and so on " * 600, wait=0.05)
"""Longer than any test waits for its end."""


@dataclass
class Two:
    """A guest who talks to one process and stops the runs at another."""

    guest: httpx.Client
    other: str
    model: ScriptedModel

    def begin(self, message: str = "Do it", conversation_id: int | None = None) -> Reader:
        body = {"message": message, "conversation_id": conversation_id}
        return Reader(self.guest, f"{self.guest.base_url}/api/chat", say=body)

    def cancel(self, run_id: str) -> httpx.Response:
        return httpx.post(f"{self.other}/api/runs/{run_id}/cancel", headers=self.guest.headers, timeout=30)

    def goes_on(self, events: list[Event]) -> None:
        """Fail unless the next message is answered, from a history that a provider accepts."""
        self.model.follow([says("Here I am.")])
        reply = say(self.guest, "And now?", events[0][2]["conversation_id"]).raise_for_status().json()
        assert reply["response"] == "Here I am."
        assert_acceptable(self.model.requests[0]["messages"])


@pytest.fixture(scope="module")
def processes(make_settings: Callable[..., Settings], database_url: str) -> Iterator[tuple[ScriptedModel, list[str]]]:
    """The provider's server, and two services that share nothing but the database."""
    importlib.import_module("backend.agent.providers")
    with scripted_model([says("Hello.")]) as model, ExitStack() as stack:
        settings = make_settings(
            database_url=database_url,
            model="openai/any",
            openai_base_url=model.url,
            openai_api_key=KEY,
            # A wish to stop is also found at each renewal, so the next renewal is set far in the future.
            lease_seconds=300,
        )
        urls = [stack.enter_context(serving(settings)) for _ in range(2)]
        for url in urls:
            # Loading a provider's library at its first use is not part of the test.
            with signed_in_guest(url) as guest:
                say(guest, "hello").raise_for_status()
        yield model, urls


@pytest.fixture
def two(processes: tuple[ScriptedModel, list[str]]) -> Iterator[Two]:
    """A new guest of both services."""
    model, (here, there) = processes
    with signed_in_guest(here) as guest:
        yield Two(guest, there, model)


def assert_cancelled(events: list[Event]) -> dict[str, Any]:
    """Fail unless a stream ends with a stopped run; return its `done`."""
    assert_gapless(events)
    done = events[-1][2]
    assert (done["status"], done["error"]["code"]) == ("cancelled", "run_cancelled")
    assert done["error"]["detail"]
    assert done["response"] == text_of(events)
    return done


@pytest.mark.spec("RUN-23")
@pytest.mark.parametrize("silent", [Silence(90), says("I think ... " * 3, wait=90)], ids=["silent", "falls silent"])
def test_a_run_whose_model_says_nothing_ends_soon(two: Two, silent: Any) -> None:
    two.model.follow([silent])
    reader = two.begin()
    wait_until(lambda: len(two.model.requests) == 1)
    answer = two.cancel(reader.run_id)
    events = reader.ended(seconds=30)

    assert (answer.status_code, answer.json()["id"]) == (200, reader.run_id)
    assert assert_cancelled(events)["response"] == ""
    two.goes_on(events)


@pytest.mark.spec("RUN-23")
def test_a_run_is_stopped_in_mid_stream_and_what_was_said_stays(two: Two) -> None:
    two.model.follow([says("I add it.", calls=(ADD,)), LONG])
    reader = two.begin()
    wait_until(lambda: "and so on" in text_of(reader.events))
    two.cancel(reader.run_id).raise_for_status()
    events = reader.ended(seconds=30)

    done = assert_cancelled(events)
    assert done["response"].startswith("I add it.\n\nand so on")
    assert len(done["response"]) < len(LONG.text)
    assert [(call["name"], call["is_error"]) for call in done["tool_calls"]] == [("add_task", False)]
    conversation = two.guest.get(f"/api/conversations/{done['conversation_id']}").json()
    assert [message["content"] for message in conversation["messages"]] == ["Do it", done["response"]]
    assert len(two.guest.get("/api/tasks").json()["tasks"]) == 1
    two.goes_on(events)


@contextmanager
def tool_that_waits(two: Two, url: str) -> Iterator[tuple[Reader, Held]]:
    """Begin a run with two parallel calls, whose first one waits for a locked row."""
    two.guest.post("/api/tasks", json={"title": "Bread"}).raise_for_status()
    user_id = two.guest.get("/api/me").json()["id"]
    two.model.follow([says("I add it.", calls=(ADD, ToolCall("complete_task", {"task_id": 1}))), says("Done.")])
    row = "select 1 from counters where user_id = %s and noun = 'task' for update"
    with held(url, row, user_id) as lock:
        reader = two.begin()
        wait_until(lambda: lock.waiting(for_what="counters"))
        yield reader, lock


@pytest.mark.spec("RUN-24")
def test_a_run_is_stopped_in_mid_tool_and_what_the_tool_does_is_told(two: Two, superuser_url: str) -> None:
    with tool_that_waits(two, superuser_url) as (reader, lock):
        run = two.cancel(reader.run_id).raise_for_status().json()
        assert run["status"] == "running"
        wait_until(lambda: query(superuser_url, "select 1 from runs where id = %s and cancel_requested", run["id"]))
        lock.release()
        events = reader.ended(seconds=10)

    done = assert_cancelled(events)
    added, completed = done["tool_calls"]
    assert (added["name"], added["is_error"]) == ("add_task", False)
    assert (completed["name"], completed["is_error"], completed["operation_id"]) == ("complete_task", True, None)
    tasks = two.guest.get("/api/tasks").json()["tasks"]
    assert [(task["title"], task["completed"]) for task in tasks] == [("Bread", False), ("Milk", False)]
    results = [data for _, kind, data in events if kind == "tool_result"]
    assert [(result["call_id"][-3:], result["is_error"]) for result in results] == [("1-1", False), ("1-2", True)]
    operations = query(superuser_url, "select id, call_id, outcome from operations where run_id = %s", reader.run_id)
    assert operations == [(added["operation_id"], f"{reader.run_id}-1-1", "ok")]
    assert len(two.model.requests) == 1
    two.goes_on(events)


@pytest.mark.spec("RUN-24")
def test_a_run_is_stopped_in_mid_tool_and_what_the_tool_does_not_do_is_told(two: Two, superuser_url: str) -> None:
    with tool_that_waits(two, superuser_url) as (reader, lock):
        two.cancel(reader.run_id).raise_for_status()
        for pid in lock.waiting(for_what="counters"):
            query(superuser_url, "select pg_terminate_backend(%s)", pid)
        lock.release()
        events = reader.ended(seconds=10)

    done = assert_cancelled(events)
    assert [(call["is_error"], call["operation_id"]) for call in done["tool_calls"]] == [(True, None)] * 2
    assert [kind for _, kind, _ in events].count("tool_result") == 2
    assert query(superuser_url, "select 1 from operations where run_id = %s", reader.run_id) == []
    tasks = two.guest.get("/api/tasks").json()["tasks"]
    assert [(task["title"], task["completed"]) for task in tasks] == [("Bread", False)]
    two.goes_on(events)


@pytest.mark.spec("RUN-25")
def test_a_queued_run_is_stopped_at_once_and_the_one_before_it_goes_on(two: Two) -> None:
    two.model.follow([says("one two three four", wait=0.5)])
    first = two.begin("First")
    run_id = first.run_id
    second = two.begin("Second", first.events[0][2]["conversation_id"])
    assert second.run_id != run_id
    stopped = two.cancel(second.run_id).raise_for_status().json()
    ended_second, ended_first = second.ended(), first.ended()

    assert (stopped["status"], stopped["error"]["code"]) == ("cancelled", "run_cancelled")
    assert [kind for _, kind, _ in ended_second] == ["run", "done"]
    assert assert_cancelled(ended_second)["message_id"] is None
    assert (ended_first[-1][2]["status"], ended_first[-1][2]["response"]) == ("completed", "one two three four")
    assert len(two.model.requests) == 1
    two.goes_on(ended_first)


@pytest.mark.spec("RUN-25")
def test_who_waits_for_the_answer_is_told_that_it_was_stopped(two: Two, superuser_url: str) -> None:
    two.model.follow([Silence(90)])
    waiting: list[httpx.Response] = []

    class Waiting(Reader):
        def run(self) -> None:
            waiting.append(say(two.guest, "Do it"))

    reader = Waiting(two.guest, "")
    user_id = two.guest.get(f"{two.other}/api/me").json()["id"]
    wait_until(lambda: len(two.model.requests) == 1)
    ((run_id,),) = query(superuser_url, "select id from runs where user_id = %s", user_id)
    two.cancel(run_id).raise_for_status()
    reader.join(30)

    assert waiting[0].status_code == 200
    assert waiting[0].json()["status"] == "cancelled"
    assert waiting[0].json()["error"]["code"] == "run_cancelled"


@pytest.mark.spec("RUN-26")
@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
def test_stopping_a_run_that_has_ended_changes_nothing(two: Two, superuser_url: str, how: str) -> None:
    replies: dict[str, Reply] = {"completed": says("Done."), "failed": says(" "), "cancelled": Silence(90)}
    two.model.follow([replies[how]])
    reader = two.begin()
    if how == "cancelled":
        wait_until(lambda: len(two.model.requests) == 1)
        two.cancel(reader.run_id)
    events = reader.ended()
    rows = "select r::text from runs r where id = %s union all select e::text from run_events e where run_id = %s"
    before = query(superuser_url, rows, reader.run_id, reader.run_id)
    run = two.guest.get(f"/api/runs/{reader.run_id}").json()
    answers = [two.cancel(reader.run_id) for _ in range(2)]

    assert events[-1][2]["status"] == how
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, run)] * 2
    assert run["status"] == how
    assert query(superuser_url, rows, reader.run_id, reader.run_id) == before


@pytest.mark.spec("RUN-26")
def test_a_run_of_another_user_cannot_be_stopped_and_a_reader_may_not_stop_one(two: Two) -> None:
    two.model.follow([LONG])
    reader = two.begin()
    run_id = reader.run_id
    token = two.guest.post("/api/tokens", json={"name": "reader", "scopes": ["read"]}).raise_for_status().json()
    with signed_in_guest(two.other) as stranger:
        refused(stranger.post(f"/api/runs/{run_id}/cancel"), 404)
        refused(stranger.post("/api/runs/0123456789abcdef0123456789abcdef/cancel"), 404)
    only_reads = {"Authorization": f"Bearer {token['token']}"}
    refused(httpx.post(f"{two.other}/api/runs/{run_id}/cancel", headers=only_reads), 403)

    assert httpx.get(f"{two.other}/api/runs/{run_id}", headers=only_reads).json()["status"] == "running"
    two.cancel(run_id).raise_for_status()
    assert_cancelled(reader.ended())
