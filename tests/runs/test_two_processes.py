"""Two service processes on one database: one run for equal messages, one run at a time, and limits for all."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.postgres.embedded import EmbeddedPostgres
from bench.scripted_model import ScriptedModel, ToolCall, calls, says, scripted_model
from tests.agent.talk import assert_gapless, events_in, text_of
from tests.conftest import query, signed_in_guest, wait_until
from tests.own_database import own_database
from tests.process import Process
from tests.runs.replicas import STREAM, Played, Reader, Replicas

pytestmark = pytest.mark.slow

SLOTS = 5
MOST_OF_A_USER = 4


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """The provider's server."""
    with scripted_model([says("Hello.")]) as server:
        yield server


WHAT_WAS_ANSWERED = (
    "select r.id, r.input, q.content, a.content from runs r "
    "join messages a on a.user_id = r.user_id and a.id = r.answer_id "
    "join messages q on q.user_id = r.user_id and q.id = r.message_id "
    "where (r.user_id, r.conversation_id) = (select user_id, conversation_id from runs where id = %s) "
    "order by r.message_id"
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel, database_url: str) -> Iterator[list[Process]]:
    """Two services that use the scripted model for people."""
    directory = tmp_path_factory.mktemp("both")
    settings = {"MAX_CONCURRENT_RUNS": SLOTS}
    with Replicas.over(directory, model=model.url, database_url=database_url, **settings) as replicas:
        yield replicas.alive(2)


@pytest.mark.spec("RUN-17")
def test_twenty_equal_messages_at_once_are_one_run(
    both: list[Process], model: ScriptedModel, superuser_url: str
) -> None:
    adding = ToolCall("add_task", {"title": "Milk"})
    for as_stream in (False, True):
        model.follow(Played({"Add milk": [says("I add it.", calls=(adding,)), says("Done.")]}))
        barrier = threading.Barrier(20)

        def post(
            number: int, guest: httpx.Client, barrier: threading.Barrier = barrier, as_stream: bool = as_stream
        ) -> Any:
            headers = {"Authorization": guest.headers["Authorization"], "Idempotency-Key": "once"}
            headers |= STREAM if as_stream else {}
            with httpx.Client(base_url=both[number % 2].url, headers=headers, timeout=30) as client:
                client.get("/api/me").raise_for_status()
                barrier.wait(20)
                answer = client.post("/api/chat", json={"message": "Add milk"})
            assert answer.status_code == 200
            if not as_stream:
                return answer.json()
            events = events_in(answer.text)
            assert_gapless(events)
            assert text_of(events) == events[-1][2]["response"]
            return events[-1][2]

        with signed_in_guest(both[0].url) as guest, ThreadPoolExecutor(20) as pool:
            user_id = guest.get("/api/me").json()["id"]
            replies = list(pool.map(lambda number, client=guest: post(number, client), range(20)))
            tasks = guest.get("/api/tasks").json()["tasks"]

        assert len({json.dumps(reply, sort_keys=True) for reply in replies}) == 1
        assert (replies[0]["status"], replies[0]["response"]) == ("completed", "I add it.\n\nDone.")
        assert [task["title"] for task in tasks] == ["Milk"]
        counted = "select count(*) from {} where user_id = %s"
        rows = {
            table: query(superuser_url, counted.format(table), user_id)[0][0]
            for table in ("runs", "conversations", "messages", "run_responses", "tasks")
        }
        assert rows == {"runs": 1, "conversations": 1, "messages": 2, "run_responses": 2, "tasks": 1}
        done = "select tool, outcome from operations where run_id = %s"
        assert query(superuser_url, done, replies[0]["run_id"]) == [("add_task", "ok")]
        assert query(superuser_url, "select turns from usage where user_id = %s", user_id) == [(1,)]
        assert len(model.requests) == 2


@dataclass(frozen=True)
class Answered:
    """A run, as stored in its row and messages."""

    id: str
    input: dict[str, Any]
    question: str
    answer: str


PEOPLE = 4


@pytest.mark.spec("RUN-18")
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.long)])
def test_two_messages_at_once_are_answered_in_order_every_time(
    tmp_path: Path, model: ScriptedModel, cluster: EmbeddedPostgres, template: str, worker_id: str, rounds: int
) -> None:
    def talk(urls: list[str], rounds: int) -> tuple[int, list[tuple[str, str]]]:
        """Return the conversation, and the runs of each round."""
        with ExitStack() as stack:
            guest = stack.enter_context(signed_in_guest(urls[0]))
            headers = {"Authorization": guest.headers["Authorization"]}
            clients = [stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60)) for url in urls]
            pool = stack.enter_context(ThreadPoolExecutor(2))
            first = guest.post("/api/chat", json={"message": "hello"}).raise_for_status().json()
            barrier = threading.Barrier(2)

            def say(client: httpx.Client, message: str) -> str:
                barrier.wait(60)
                body = {"message": message, "conversation_id": first["conversation_id"]}
                reply = client.post("/api/chat", json=body).raise_for_status().json()
                done = [(call["name"], call["is_error"]) for call in reply["tool_calls"]]
                assert (reply["status"], done) == ("completed", [("add_task", False)]), reply
                return str(reply["run_id"])

            pairs = []
            for number in range(rounds):
                one, two = pool.map(say, clients, (f"Add a task to buy a{number}", f"Add a task to buy b{number}"))
                pairs.append((one, two))
            titles = [task["title"] for task in guest.get("/api/tasks?limit=100").json()["tasks"]]
            assert len(titles) == len(set(titles)) == 2 * rounds
            return first["conversation_id"], pairs

    # A process on a database takes any waiting run, and the runs of the other tests have another model.
    with own_database(cluster, template, f"in_order_{worker_id}") as database:
        settings = {"database_url": database.url, "MODEL": "offline"}
        with Replicas.over(tmp_path, model=model.url, **settings) as replicas:
            urls = [process.url for process in replicas.alive(2)]
            with ThreadPoolExecutor(PEOPLE) as pool:
                talks = list(pool.map(talk, [urls] * PEOPLE, [rounds // PEOPLE] * PEOPLE))
        answered = [[Answered(*row) for row in database.query(WHAT_WAS_ANSWERED, pairs[0][0])] for _, pairs in talks]

    for runs, (_, pairs) in zip(answered, talks, strict=True):
        assert len(runs) == 2 * len(pairs) + 1
        for earlier, later in pairwise(runs):
            # A run's input is fixed in the transaction that begins it. This input has the earlier run's answer, so that
            # run had already ended.
            said = [item["content"] for item in later.input["items"] if "content" in item]
            assert said[-3:] == [earlier.question, earlier.answer, later.question]
        places = {run.id: place for place, run in enumerate(runs)}
        for number, pair in enumerate(pairs):
            assert {places[run_id] for run_id in pair} == {2 * number + 1, 2 * number + 2}


@pytest.mark.spec("RUN-27")
def test_a_reader_elsewhere_is_told_stored_events_within_a_second_and_text_within_two(
    both: list[Process], model: ScriptedModel, superuser_url: str
) -> None:
    slowly = says(" ".join(f"word{number}" for number in range(60)), wait=0.1)
    adding = calls(ToolCall("add_task", {"title": "Milk"}), wait=0.3)
    model.follow(Played({"Tell me": [adding, slowly]}))
    with signed_in_guest(both[0].url) as guest:
        here = Reader(guest, f"{both[0].url}/api/chat", say={"message": "Tell me"})
        there = Reader(guest, f"{both[1].url}/api/runs/{here.run_id}/events")
        told_here, told_there = here.ended(), there.ended()

    assert_gapless(told_here)
    assert_gapless(told_there)
    assert [event for event in told_here if event[0] is not None] == told_there
    assert text_of(told_here) == text_of(told_there) == told_there[-1][2]["response"]
    rows = query(superuser_url, "select seq, created_at from run_events where run_id = %s", here.run_id)
    stored_at: dict[Any, datetime] = dict(rows)
    late = {
        (number, kind): came - stored_at[number].timestamp()
        for (number, kind, _), came in zip(told_there, there.came, strict=True)
        if kind != "run"
    }
    assert max(late.values()) < 1, late
    lag = max(_when(there, length) - _when(here, length) for length in range(len(text_of(told_here))))
    assert lag < 2


def _when(reader: Reader, length: int) -> float:
    """Return when a reader had more than this many characters of the answer."""
    for (_, kind, data), came in zip(reader.events, reader.came, strict=True):
        if kind == "text" and data["offset"] + len(data["delta"]) > length:
            return came
    raise AssertionError(length)


@pytest.mark.spec("RUN-28")
def test_runs_at_once_are_bounded_for_each_process_and_each_user(
    both: list[Process], model: ScriptedModel, superuser_url: str
) -> None:
    model.follow([says("one two three", wait=0.15)])
    each = 8
    statement = "select lease_owner, user_id from runs where ended_at is null and lease_until >= now()"
    with ExitStack() as stack, ThreadPoolExecutor(4 * each) as pool:
        guests = [stack.enter_context(signed_in_guest(both[0].url)) for _ in range(4)]

        def say(guest: httpx.Client, number: int) -> str:
            answer = httpx.post(
                f"{both[number % 2].url}/api/chat", json={"message": "hello"}, headers=guest.headers, timeout=60
            )
            return str(answer.raise_for_status().json()["response"])

        def seen_while(some: list[httpx.Client]) -> list[list[tuple[str, str]]]:
            """Send the messages of some guests, and return the runs seen at each look."""
            answers = [pool.submit(say, guest, number) for number in range(each) for guest in some]
            seen: list[list[tuple[str, str]]] = []

            def all_answered() -> bool:
                seen.append(query(superuser_url, statement))
                return all(answer.done() for answer in answers)

            wait_until(all_answered, seconds=60)
            assert [answer.result() for answer in answers] == ["one two three"] * len(answers)
            return seen

        alone, together = seen_while(guests[:1]), seen_while(guests)

    def most(seen: list[list[tuple[str, str]]], place: int) -> int:
        return max(max(Counter(run[place] for run in running).values(), default=0) for running in seen)

    # The limits were reached and never exceeded. Several users may fill all places before one of them reaches its own
    # limit.
    assert most(alone, 1) == MOST_OF_A_USER
    assert most(together, 1) <= MOST_OF_A_USER
    assert most(together, 0) == SLOTS
    assert max(len(running) for running in together) == 2 * SLOTS
