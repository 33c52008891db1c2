"""Several services on one database, followers of their runs, and ways to stop both at chosen moments."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg2
from sqlalchemy import make_url

from bench.scripted_model import Reply, Request, says
from tests.agent.talk import KEY, Event, events_in
from tests.conftest import query, signed_in_guest, wait_until
from tests.process import Process, started

LEASE_SECONDS = 3
STREAM = {"Accept": "text/event-stream"}


@dataclass
class Replicas:
    """Processes of the service that share a database, a secret and a scripted model; any of them may be killed."""

    directory: Path
    settings: dict[str, Any]
    processes: list[Process] = field(default_factory=list)
    _left: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    @contextmanager
    def over(cls, directory: Path, *, model: str, database_url: str, **settings: Any) -> "Iterator[Replicas]":
        """Yield replicas that are not started yet, and kill all processes at the end."""
        given = {
            "DATABASE_URL": database_url,
            "MODEL": "openai/any",
            "OPENAI_BASE_URL": model,
            "OPENAI_API_KEY": KEY,
            "LEASE_SECONDS": LEASE_SECONDS,
            "GUEST_TURNS_PER_DAY": 0,
            "MIGRATE_ON_START": "false",
        }
        replicas = cls(directory, given | settings)
        with replicas._left:
            yield replicas

    def alive(self, wanted: int) -> list[Process]:
        """Return this many running services, starting the missing ones at the same time."""
        self.processes = [process for process in self.processes if process.popen.poll() is None]
        new = [self.start() for _ in range(wanted - len(self.processes))]
        for process in new:
            process.wait_serving()
            # Loading a provider's library at its first use is not part of the test.
            with signed_in_guest(process.url) as guest:
                guest.post("/api/chat", json={"message": "hello"}).raise_for_status()
        self.processes += new
        return self.processes[:wanted]

    def only(self, wanted: int) -> list[Process]:
        """Return this many running services, and stop all others."""
        kept = self.alive(wanted)
        for process in self.processes[wanted:]:
            process.kill()
        self.processes = kept
        return kept

    def start(self, *command: str) -> Process:
        """Start a process, `docutalk serve` by default, and return it before it is ready."""
        name = f"service{next(self._numbers)}"
        return self._left.enter_context(started(self.directory, *command, name=name, loaded=True, **self.settings))


class Reader(threading.Thread):
    """Reads a run's events as they arrive, like the page, until the stream ends or breaks."""

    def __init__(
        self, client: httpx.Client, url: str, *, say: dict[str, Any] | None = None, after: int | None = None
    ) -> None:
        """Post the message `say`, or follow the run from event `after`."""
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self.came: list[float] = []
        """When each event arrived, in seconds of the monotonic clock."""
        self._url = url
        self._say = say
        self._headers = {"Authorization": client.headers["Authorization"], **STREAM}
        if after is not None:
            self._headers["Last-Event-ID"] = str(after)
        self.start()

    def run(self) -> None:
        """Read the stream."""
        method = "POST" if self._say is not None else "GET"
        with (
            suppress(httpx.TransportError),
            httpx.stream(method, self._url, json=self._say, headers=self._headers, timeout=60) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            block: list[str] = []
            for line in answer.iter_lines():
                if line:
                    block.append(line)
                    continue
                for event in events_in("\n".join(block)):
                    self.events.append(event)
                    self.came.append(time.time())
                block.clear()

    @property
    def last_id(self) -> int:
        """The number of the last stored event received."""
        return max((number for number, _, _ in self.events if number is not None), default=0)

    @property
    def run_id(self) -> str:
        """The run's id, once its first event arrived."""
        first: Event = wait_until(lambda: self.events[:1], seconds=20)[0]
        return str(first[2]["run_id"])

    def kinds(self) -> list[str]:
        """Return the kinds of the events so far."""
        return [kind for _, kind, _ in self.events]

    def ended(self, *, seconds: float = 30) -> list[Event]:
        """Return all events once the stream has ended or broken."""
        self.join(seconds)
        assert not self.is_alive(), f"The stream is still open after {seconds} seconds."
        return self.events


class Played:
    """Replies that depend on the user's last message, in order, the last one repeated; otherwise a greeting."""

    def __init__(self, replies: Mapping[str, Sequence[Reply | Callable[[], Reply]]]) -> None:
        self.asked: dict[str, list[list[dict[str, Any]]]] = {}
        """What the model was sent for each message, in the order of the requests."""
        self._replies = replies

    def __call__(self, request: Request) -> Reply:
        said = [message["content"] for message in request["messages"] if message["role"] == "user"][-1]
        asked = self.asked.setdefault(said, [])
        asked.append(request["messages"])
        replies = self._replies.get(said, [says("Hello.")])
        reply = replies[min(len(asked), len(replies)) - 1]
        return reply() if callable(reply) else reply


class Held:
    """A row that the test's own connection keeps locked, so that others must wait for it."""

    def __init__(self, url: str, statement: str, *arguments: Any) -> None:
        """Lock the rows that the statement selects `for update`, as superuser."""
        self._url = url
        parsed = make_url(url)
        self._connection = psycopg2.connect(
            dbname=parsed.database, user=parsed.username, host=parsed.query["host"], port=parsed.query["port"]
        )
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments)
            assert cursor.fetchall(), "There is no such row."

    def waiting(self, *, for_what: str = "") -> list[int]:
        """Return the server processes that wait for the row with a statement containing these words."""
        statement = (
            "select pid from pg_stat_activity where %s = any(pg_blocking_pids(pid)) and strpos(query, %s) > 0 "
            "and strpos(query, 'set lease_until') = 0"
        )
        return [pid for (pid,) in query(self._url, statement, self._connection.info.backend_pid, for_what)]

    def release(self) -> None:
        """Unlock the row."""
        self._connection.close()


@contextmanager
def held(url: str, statement: str, *arguments: Any) -> Iterator[Held]:
    """Keep a row locked until the block ends."""
    lock = Held(url, statement, *arguments)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def paused(process: Process) -> Iterator[None]:
    """Pause a process, and continue it after the block."""
    os.kill(process.popen.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.popen.pid, signal.SIGCONT)
