"""Service processes are killed, paused and stopped in the middle of runs, and nothing is lost or done twice."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from bench.scripted_model import Answer, Reply, ScriptedModel, Silence, ToolCall, calls, says, scripted_model
from tests.agent.talk import Event, assert_acceptable, assert_gapless, say, text_of
from tests.conftest import query, signed_in_guest, wait_until
from tests.process import Process
from tests.runs.replicas import LEASE_SECONDS, Held, Played, Reader, Replicas, paused

pytestmark = pytest.mark.slow

ADD = ToolCall("add_task", {"title": "Milk"})
LONG = says("and so on " * 200, wait=0.05)
ENDLESS = says("and so on " * 4000, wait=0.05)
"""Ten minutes, longer than any test waits."""
DONE = says("All of it is done.")

CLAIM_SECONDS = LEASE_SECONDS + 5
"""The most seconds until another process continues a run whose process died."""
OF_RUN = "select 1 from runs where user_id = %s and ended_at is null for update"
OF_COUNTER = "select 1 from counters where user_id = %s and noun = %s for update"
OF_TASK = "select 1 from tasks where user_id = %s and id = 1 for update"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """The provider's server."""
    with scripted_model([says("Hello.")]) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel, database_url: str) -> Iterator[Replicas]:
    """Processes that are started and killed."""
    with Replicas.over(tmp_path_factory.mktemp("replicas"), model=model.url, database_url=database_url) as made:
        yield made


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state of a run when its process is killed."""

    name: str
    replies: tuple[Reply, ...]
    """The model's replies in the order of the requests, from whichever process they come."""
    locks: str = ""
    """The row that the run waits for."""
    lock_arguments: tuple[Any, ...] = ()
    at_request: int = 0
    """The request during which the row is locked, so that the run waits for it after the reply. 0 locks it before all
    requests."""
    waits_with: str = ""
    """Words of the waiting statement, if others may wait for the same row."""
    asked: int
    """How often the model is called, in both attempts together."""
    tasks: tuple[tuple[str, bool], ...]
    """Titles of the resulting tasks, and whether they are completed."""
    answer: str
    voids: bool = False
    """Whether readers saw text before the kill that is later discarded."""

    @property
    def cut_off(self) -> int:
        """The number of the request whose reply takes longer than the process lives."""
        slow = (isinstance(reply, Silence) or (isinstance(reply, Answer) and reply.wait > 0) for reply in self.replies)
        return list(slow).index(True) + 1


BREAD = ("Bread", False)
MILK = ("Milk", False)
MOMENTS = [
    Moment(
        name="the model is silent",
        replies=(Silence(60), DONE),
        asked=2,
        tasks=(BREAD,),
        answer=DONE.text,
    ),
    Moment(
        name="the model speaks",
        replies=(ENDLESS, DONE),
        asked=2,
        tasks=(BREAD,),
        answer=DONE.text,
        voids=True,
    ),
    Moment(
        name="before a response is committed",
        replies=(says("I add it.", calls=(ADD,)), says("I do add it.", calls=(ADD,)), DONE),
        locks=OF_RUN,
        at_request=1,
        waits_with="set last_seq",
        asked=3,
        tasks=(BREAD, MILK),
        answer=f"I do add it.\n\n{DONE.text}",
        voids=True,
    ),
    Moment(
        name="before the tool's effect",
        replies=(says("I add it.", calls=(ADD,)), DONE),
        locks=OF_COUNTER,
        lock_arguments=("task",),
        asked=2,
        tasks=(BREAD, MILK),
        answer=f"I add it.\n\n{DONE.text}",
    ),
    Moment(
        name="between the tool's effect and its commit",
        replies=(says("I add it.", calls=(ADD,)), DONE),
        locks=OF_COUNTER,
        lock_arguments=("operation",),
        asked=2,
        tasks=(BREAD, MILK),
        answer=f"I add it.\n\n{DONE.text}",
    ),
    Moment(
        name="after the tool's commit",
        replies=(says("I add it.", calls=(ADD,)), Silence(60), DONE),
        asked=3,
        tasks=(BREAD, MILK),
        answer=f"I add it.\n\n{DONE.text}",
    ),
    Moment(
        name="between parallel calls",
        replies=(calls(ADD, ToolCall("complete_task", {"task_id": 1}), ToolCall("add_task", {"title": "Eggs"})), DONE),
        locks=OF_TASK,
        asked=2,
        tasks=(("Bread", True), MILK, ("Eggs", False)),
        answer=DONE.text,
    ),
    Moment(
        name="in the second response",
        replies=(calls(ADD), ENDLESS, calls(ADD), DONE),
        asked=4,
        tasks=(BREAD, MILK, MILK),
        answer=DONE.text,
        voids=True,
    ),
    Moment(
        name="before the end is committed",
        replies=(calls(ADD), says("This is void."), DONE),
        locks=OF_RUN,
        at_request=2,
        waits_with="FOR UPDATE",
        asked=3,
        tasks=(BREAD, MILK),
        answer=DONE.text,
        voids=True,
    ),
]


def speaks(reader: Reader) -> bool:
    """Return whether a reader has received some of the long text."""
    return "and so on" in text_of(reader.events)


class Interrupted:
    """A guest's run, read in the process that will be killed, up to its moment."""

    def __init__(self, moment: Moment, guest: httpx.Client, url: str) -> None:
        self.moment = moment
        self.guest = guest
        self.before: Reader
        self.after: Reader
        self._url = url
        self._lock: Held | None = None
        guest.post("/api/tasks", json={"title": "Bread"}).raise_for_status()
        self.user_id = guest.get("/api/me").json()["id"]
        self.replies = [partial(self._reply, number, reply) for number, reply in enumerate(moment.replies, start=1)]
        self._asked = 0

    def __repr__(self) -> str:
        """Show how far the run has come."""
        heard = [(number, kind) for number, kind, _ in self.before.events[-5:]]
        return f"{self.moment.name}: the model was asked {self._asked} times, last heard {heard}"

    def begin(self) -> None:
        """Send the message."""
        if self.moment.locks and not self.moment.at_request:
            self._lock = self._held()
        url = f"{self.guest.base_url}/api/chat"
        self.before = Reader(self.guest, url, say={"message": self.moment.name})

    def is_there(self) -> bool:
        """Return whether the run has reached its moment."""
        if self.moment.locks:
            return self._lock is not None and bool(self._lock.waiting(for_what=self.moment.waits_with))
        is_asked = self._asked == self.moment.cut_off
        # Some of the text is stored, and some was only sent live.
        texts = [number for number, kind, _ in self.before.events if kind == "text"]
        return is_asked and (not self.moment.voids or (None in texts and any(texts)))

    def let_go(self) -> None:
        """Release the row that the dead process waited for."""
        if self._lock is not None:
            self._lock.release()

    def resume(self, url: str) -> None:
        """Continue reading in another process."""
        self.before.ended()
        url = f"{url}/api/runs/{self.before.run_id}/events"
        self.after = Reader(self.guest, url, after=self.before.last_id)

    @property
    def events(self) -> list[Event]:
        """The events that the reader received from both processes."""
        return [*self.before.events, *self.after.ended(seconds=60)]

    def _reply(self, number: int, reply: Reply) -> Reply:
        self._asked += 1
        if self.moment.locks and self.moment.at_request == number and self._lock is None:
            self._lock = self._held()
        return reply

    def _held(self) -> Held:
        return Held(self._url, self.moment.locks, self.user_id, *self.moment.lock_arguments)


@dataclass(frozen=True)
class Aftermath:
    """The runs at every moment, after one kill."""

    runs: dict[str, Interrupted]
    asked: dict[str, list[list[dict[str, Any]]]]
    survivor: str
    seconds: dict[str, float]
    """How many seconds after the kill each run was continued."""


@pytest.fixture(scope="module")
def aftermath(replicas: Replicas, model: ScriptedModel, superuser_url: str) -> Iterator[Aftermath]:
    """All moments at once in one process, which is killed while another one lives."""
    victim, survivor = replicas.alive(2)
    with ExitStack() as stack:
        runs = {}
        for moment in MOMENTS:
            guest = stack.enter_context(signed_in_guest(victim.url))
            runs[moment.name] = Interrupted(moment, guest, superuser_url)
        played = Played({name: run.replies for name, run in runs.items()})
        model.follow(played)
        # If the machine delays the victim for longer than a lease, the survivor must not take its runs too early.
        with paused(survivor):
            # A locked row is waited for at most five seconds, so the slow moments begin first.
            for is_quick in (False, True):
                begun = [run for run in runs.values() if bool(run.moment.locks) is is_quick]
                for run in begun:
                    run.begin()
                for run in begun:
                    wait_until(run.is_there, seconds=20)
            assert [run for run in runs.values() if not run.is_there()] == []
            victim.kill()
            killed = time.time()
        for run in runs.values():
            run.let_go()
            run.resume(survivor.url)
        for run in runs.values():
            run.after.ended(seconds=60)
        seconds = {
            name: query(
                superuser_url,
                "select min(created_at) from run_events where run_id = %s and kind = 'run' and seq > 1",
                run.before.run_id,
            )[0][0].timestamp()
            - killed
            for name, run in runs.items()
        }
        yield Aftermath(runs, played.asked, survivor.url, seconds)


@pytest.mark.spec("RUN-29")
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_run_whose_process_was_killed_is_finished_by_another_and_nothing_is_done_twice(
    moment: Moment, aftermath: Aftermath, superuser_url: str
) -> None:
    run = aftermath.runs[moment.name]
    run_id = run.before.run_id
    done = run.events[-1][2]

    assert (done["status"], done["response"]) == ("completed", moment.answer)
    with httpx.Client(base_url=aftermath.survivor, headers=run.guest.headers, timeout=30) as client:
        tasks = client.get("/api/tasks").json()["tasks"]
        conversation = client.get(f"/api/conversations/{done['conversation_id']}").json()
    assert [(task["title"], task["completed"]) for task in tasks] == list(moment.tasks)
    assert [task["version"] for task in tasks] == [2 if task["completed"] else 1 for task in tasks]
    assert [message["content"] for message in conversation["messages"]] == [moment.name, moment.answer]
    calls_made = [data["call_id"] for _, kind, data in run.events if kind == "tool_call"]
    results = [data["call_id"] for _, kind, data in run.events if kind == "tool_result"]
    operations = query(superuser_url, "select call_id, outcome from operations where run_id = %s order by id", run_id)
    assert operations == [(call_id, "ok") for call_id in calls_made]
    assert results == calls_made
    responses = query(superuser_url, "select number from run_responses where run_id = %s order by number", run_id)
    assert [number for (number,) in responses] == list(range(1, len(responses) + 1))
    assert done["usage"]["requests"] == len(responses)


@pytest.mark.spec("RUN-29")
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_model_is_asked_again_only_for_what_was_not_committed(moment: Moment, aftermath: Aftermath) -> None:
    asked = aftermath.asked[moment.name]

    assert len(asked) == moment.asked
    for messages in asked:
        assert_acceptable(messages)
    # The repeated request is exactly the one that was cut off.
    assert len([number for number in range(1, len(asked)) if asked[number] == asked[number - 1]]) == (
        moment.asked - aftermath.runs[moment.name].events[-1][2]["usage"]["requests"]
    )


@pytest.mark.spec("RUN-30")
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_reader_of_a_killed_process_resumes_at_another_and_sees_the_uncut_stream(
    moment: Moment, aftermath: Aftermath
) -> None:
    run = aftermath.runs[moment.name]

    assert_gapless(run.events)
    assert text_of(run.events) == run.events[-1][2]["response"]
    resets = [data["offset"] for _, kind, data in run.after.events if kind == "reset"]
    assert len(resets) == 1
    assert (len(text_of(run.before.events)) > resets[0]) == moment.voids
    assert [(data["run_id"], data["status"]) for _, kind, data in run.events if kind == "run"] == [
        (run.before.run_id, "running")
    ] * 2


@pytest.mark.spec("RUN-31")
def test_a_run_is_taken_up_soon_after_its_process_died(aftermath: Aftermath) -> None:
    assert max(aftermath.seconds.values()) < CLAIM_SECONDS, aftermath.seconds


@pytest.mark.spec("RUN-29")
def test_conversations_of_a_killed_process_go_on(aftermath: Aftermath, model: ScriptedModel) -> None:
    for run in aftermath.runs.values():
        model.follow([says("Here I am.")])
        with httpx.Client(base_url=aftermath.survivor, headers=run.guest.headers, timeout=30) as client:
            reply = say(client, "And now?", run.events[-1][2]["conversation_id"]).raise_for_status().json()
        assert reply["response"] == "Here I am."
        assert_acceptable(model.requests[0]["messages"])


@pytest.mark.spec("RUN-21")
def test_a_process_that_slept_longer_than_its_lease_writes_nothing_and_lives_on(
    replicas: Replicas, model: ScriptedModel, superuser_url: str
) -> None:
    zombie, other = replicas.alive(2)
    moment = Moment(
        name="Do it",
        replies=(says("I add it.", calls=(ADD,)), LONG, DONE),
        asked=3,
        tasks=(),
        answer=f"I add it.\n\n{DONE.text}",
    )
    played = Played({moment.name: moment.replies, "Are you there?": [says("Here I am.")]})
    model.follow(played)
    with signed_in_guest(zombie.url) as guest:
        here = Reader(guest, f"{zombie.url}/api/chat", say={"message": moment.name})
        wait_until(partial(speaks, here), seconds=20)
        with paused(zombie):
            there = Reader(guest, f"{other.url}/api/runs/{here.run_id}/events")
            told_there = there.ended(seconds=15)
            rows = (
                "select r::text from runs r where id = %s union all select e::text from run_events e where run_id = %s"
            )
            before = query(superuser_url, rows, here.run_id, here.run_id)
        told_here = here.ended(seconds=10)
        let_go = wait_until(
            lambda: [event for event in zombie.events if event["event"] == "run_let_go"], seconds=LEASE_SECONDS * 2
        )
        # By a new connection: the service closes those that were at rest for seconds, as the guest's was.
        with httpx.Client(base_url=zombie.url, headers=guest.headers, timeout=30) as awake:
            reply = say(awake, "Are you there?", told_here[0][2]["conversation_id"]).raise_for_status().json()
        tasks = guest.get("/api/tasks").json()["tasks"]

    assert_gapless(told_there)
    assert text_of(told_there) == text_of(told_here) == told_there[-1][2]["response"] == moment.answer
    assert [event for event in told_here if event[0] is not None] == [
        event for event in told_there if event[0] is not None
    ]
    assert {event["run_id"] for event in let_go} >= {here.run_id}
    assert query(superuser_url, rows, here.run_id, here.run_id) == before
    assert [task["title"] for task in tasks] == ["Milk"]
    assert query(superuser_url, "select outcome from operations where run_id = %s", here.run_id) == [("ok",)]
    assert len(played.asked[moment.name]) == moment.asked
    assert reply["response"] == "Here I am."
    assert [event for event in zombie.events if event.get("level") in ("error", "critical")] == []


@pytest.mark.spec("RUN-22")
def test_a_process_that_slept_alone_goes_on_with_its_own_runs(
    replicas: Replicas, model: ScriptedModel, superuser_url: str
) -> None:
    (alone,) = replicas.only(1)
    model.follow(Played({"Do it": [calls(ADD), LONG, DONE]}))
    with signed_in_guest(alone.url) as guest:
        reader = Reader(guest, f"{alone.url}/api/chat", say={"message": "Do it"})
        wait_until(partial(speaks, reader), seconds=20)
        with paused(alone):
            ran_out = "select 1 from runs where id = %s and lease_until < now() - interval '1 second'"
            wait_until(lambda: query(superuser_url, ran_out, reader.run_id), seconds=20)
        events = reader.ended(seconds=60)
        url = f"{alone.url}/api/runs/{reader.run_id}/events"
        again = Reader(guest, url).ended()
        tasks = guest.get("/api/tasks").json()["tasks"]

    for told in (events, again):
        assert_gapless(told)
        assert text_of(told) == told[-1][2]["response"]
        assert told[-1][2]["status"] == "completed"
    assert [task["title"] for task in tasks] == ["Milk"]
    assert alone.popen.poll() is None
    assert "Traceback" not in alone.err
    assert [event for event in alone.events if event.get("level") in ("error", "critical")] == []


def stopped_in_order(process: Process) -> tuple[int, list[int]]:
    """Stop a process in order; return its exit status, and the statuses of /ready meanwhile."""
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=process.url, timeout=5) as client:
            while not ended.is_set():
                try:
                    statuses.append(client.get("/ready").status_code)
                except httpx.TransportError:
                    return
                ended.wait(0.02)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    wait_until(lambda: statuses)
    status = process.stop()
    ended.set()
    asking.join(5)
    return status, statuses


@pytest.mark.spec("PROC-2")
@pytest.mark.parametrize("others", [1, 0], ids=["beside another", "alone"])
def test_a_stop_in_mid_answer_hands_the_runs_over_and_takes_seconds(
    others: int, replicas: Replicas, model: ScriptedModel, superuser_url: str
) -> None:
    first, *other = replicas.only(1 + others)
    people = 3
    played = Played({f"Do it {number}": [calls(ADD), LONG, DONE] for number in range(people)})
    model.follow(played)
    with ExitStack() as stack:
        guests = [stack.enter_context(signed_in_guest(first.url)) for _ in range(people)]
        before = [
            Reader(guest, f"{first.url}/api/chat", say={"message": f"Do it {number}"})
            for number, guest in enumerate(guests)
        ]
        for reader in before:
            wait_until(partial(speaks, reader), seconds=20)
        status, ready = stopped_in_order(first)
        cut_off = [reader.ended() for reader in before]
        stopped = time.time()
        if not others:
            statement = "select status, lease_owner, fruitless from runs where id = any(%s)"
            rows = query(superuser_url, statement, [reader.run_id for reader in before])
            assert rows == [("queued", None, 0)] * people
        (next_one,) = other or replicas.alive(1)
        after = [
            Reader(guest, f"{next_one.url}/api/runs/{reader.run_id}/events", after=reader.last_id)
            for guest, reader in zip(guests, before, strict=True)
        ]
        rest = [reader.ended(seconds=30) for reader in after]
        if others:
            began = query(
                superuser_url,
                "select max(created_at) from run_events where run_id = any(%s) and kind = 'run'",
                [reader.run_id for reader in before],
            )[0][0].timestamp()
            assert began - stopped < LEASE_SECONDS, "A run that was handed back is not waited for."

    assert status == 0
    assert ready[0] == 200
    assert 503 in ready
    assert "Traceback" not in first.err
    assert [event for event in first.events if event.get("level") in ("error", "critical")] == []
    for here, there in zip(cut_off, rest, strict=True):
        assert here[-1][:2] == (None, "reconnect")
        events = [*here[:-1], *there]
        assert_gapless(events)
        assert (events[-1][2]["status"], text_of(events)) == ("completed", DONE.text)
        assert events[-1][2]["response"] == DONE.text
    assert [len(asked) for asked in played.asked.values() if len(asked) > 1] == [3] * people


@pytest.mark.spec("RUN-32")
def test_a_worker_by_itself_finishes_the_run_of_a_service_that_was_killed(
    replicas: Replicas, model: ScriptedModel, superuser_url: str
) -> None:
    (service,) = replicas.only(1)
    played = Played({"Do it": [calls(ADD), Silence(60), DONE]})
    model.follow(played)
    with signed_in_guest(service.url) as guest:
        reader = Reader(guest, f"{service.url}/api/chat", say={"message": "Do it"})
        wait_until(lambda: len(played.asked.get("Do it", [])) == 2, seconds=20)
        service.kill()
        run_id = reader.run_id
    worker = replicas.start(sys.executable, "-m", "backend.cli", "worker")
    ended = "select status from runs where id = %s and ended_at is not null"
    rows = wait_until(lambda: query(superuser_url, ended, run_id), seconds=60)
    status = worker.stop()

    assert rows == [("completed",)]
    kinds = [
        kind for (kind,) in query(superuser_url, "select kind from run_events where run_id = %s order by seq", run_id)
    ]
    assert [kind for kind in kinds if kind != "text"] == ["run", "tool_call", "tool_result", "run", "reset", "done"]
    assert query(superuser_url, "select outcome from operations where run_id = %s", run_id) == [("ok",)]
    assert len(played.asked["Do it"]) == 3
    assert (status, worker.err) == (0, "")
