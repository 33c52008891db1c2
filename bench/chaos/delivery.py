"""The delivery of one message: a client sends it and follows its run to the end, over as many connections as needed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.chaos.following import Telling, events_of
from bench.chaos.script import Wish
from bench.chaos.services import Service
from bench.chaos.watch import Stream, Watch

PATIENCE_SECONDS = 180.0
"""The most seconds that a client tries to get an answer."""
LONGEST_PAUSE = 5.0
"""The most seconds that a client waits when the service asks it to come back later."""
AWAY = (429, 502, 503, 504)
"""Status codes after which a well-behaved client retries."""


@dataclass(frozen=True)
class Person:
    """A user of the services, and the token that identifies this user."""

    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of all the user's requests."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Conversation:
    """A conversation as its user sees it."""

    person: Person
    id: int | None = None
    messages: list["Message"] = field(default_factory=list)
    """The messages, in the order in which they were sent."""


@dataclass
class Message:
    """A message, sent several times at once with one key, and what its sender knows of its run."""

    wish: Wish
    conversation: Conversation
    after: "Message | None" = None
    """The last message of the conversation known to be accepted before this one was sent."""
    run_ids: set[str] = field(default_factory=set)
    conversation_ids: set[int] = field(default_factory=set)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    tellings: list[Telling] = field(default_factory=list)
    cancelled_at: float | None = None
    """When the service accepted a cancel, in seconds since the epoch."""

    @property
    def key(self) -> str:
        """The message's Idempotency-Key."""
        return f"key of {self.wish.nonce}"

    def acknowledge(self, run_id: str, conversation_id: int) -> None:
        """Record that the service accepted the message."""
        self.run_ids.add(run_id)
        self.conversation_ids.add(conversation_id)
        self.conversation.id = self.conversation.id or conversation_id
        self.accepted.set()


class Network:
    """What all clients share: the services' addresses, and what the clients noticed."""

    def __init__(self, services: Sequence[Service], watch: Watch) -> None:
        self.services = services
        self.watch = watch
        self.surprises: list[str] = []
        """What clients observed although it must never happen."""
        self.counts: Counter[str] = Counter()
        # Each request has its own connection, because one kept from before a restart would break through no fault of
        # ours.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), limits=limits)

    def service(self, place: int) -> Service:
        """Return a service by its number, modulo the number of services."""
        return self.services[place % len(self.services)]

    @contextmanager
    def tolerating(self, service: Service, what: str) -> Iterator[None]:
        """Tolerate broken connections, but report one if the process at the other end was not killed."""
        pid = service.pid
        try:
            yield
        except httpx.TransportError as error:
            if service.is_ready and service.pid == pid:
                self.surprises.append(f"{what}: the connection to living service {service.name} broke: {error!r}")


class Copy:
    """One of the copies of a message that are sent at once."""

    def __init__(
        self,
        network: Network,
        message: Message,
        telling: Telling,
        *,
        place: int,
        drop_after: int | None,
    ) -> None:
        """Start with service `place`. If `drop_after` is not None, hang up once, after that many events of a stream."""
        self._network = network
        self._message = message
        self._telling = telling
        self._place = place
        self._drop_after = drop_after
        self._given_up = False

    async def deliver(self) -> None:
        """Send the message and follow its run until the run has ended or `PATIENCE_SECONDS` are over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._telling.has_ended and not self._given_up and time.monotonic() < deadline:
            service = self._network.service(self._place)
            self._place += 1
            pause = 0.2
            with self._network.tolerating(service, self._message.wish.nonce):
                pause = await self._connect(service)
            if not self._telling.has_ended:
                await asyncio.sleep(pause * random.uniform(1, 1.5))
        if not self._telling.has_ended:
            self._network.surprises.append(f"{self._message.wish.nonce}: no answer, run {self._telling.run_id!r}.")

    async def _connect(self, service: Service) -> float:
        """Send the message, or continue following its run; return the seconds to wait before the next connection."""
        headers = dict(self._message.conversation.person.headers)
        if self._telling.run_id:
            self._telling.resumes += 1
            headers["Last-Event-ID"] = str(self._telling.last_id)
            request = self._network.http.stream(
                "GET", f"{service.url}/api/runs/{self._telling.run_id}/events", headers=headers
            )
        else:
            headers["Idempotency-Key"] = self._message.key
            if self._telling.streamed:
                headers["Accept"] = "text/event-stream"
            body = {"message": str(self._message.wish), "conversation_id": self._message.conversation.id}
            if self._message.after is None:
                # The first message of a conversation has no id, so that its copies stay equal even after one of them
                # was answered.
                body["conversation_id"] = None
            request = self._network.http.stream("POST", f"{service.url}/api/chat", json=body, headers=headers)
        async with request as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                await self._follow(answer, Stream(service, service.pid))
                return 0.05
            await answer.aread()
            return self._take(answer)

    async def _follow(self, answer: httpx.Response, stream: Stream) -> None:
        telling, watch = self._telling, self._network.watch
        watch.streams.append(stream)
        stream.ended = "broken"
        try:
            async with aclosing(events_of(answer)) as events:
                async for number, kind, data in events:
                    if kind == "reconnect":
                        stream.ended = kind
                        return
                    telling.run_id = telling.run_id or data["run_id"]
                    watch.saw(stream, telling.run_id, kind, stored=number is not None)
                    telling.take((number, kind, data))
                    if kind == "run":
                        self._message.acknowledge(data["run_id"], data["conversation_id"])
                    elif kind == "done":
                        stream.ended = kind
                        return
                    if stream.heard == self._drop_after:
                        stream.ended, self._drop_after = "dropped", None
                        self._network.counts["drops"] += 1
                        return
            stream.ended = "closed"
            self._network.surprises.append(f"run {telling.run_id}: a stream ended without done or reconnect.")
        finally:
            watch.streams.remove(stream)

    def _take(self, answer: httpx.Response) -> float:
        """Process an answer that is not a stream; return the seconds to wait before the next attempt."""
        told = _object(answer)
        if "run_id" in told:
            self._message.acknowledge(told["run_id"], told["conversation_id"])
            if answer.status_code == 202:
                self._network.counts["accepted, to be followed"] += 1
                self._telling.run_id = told["run_id"]
            else:
                self._telling.take_whole(told)
            return 0.0
        self._network.counts[f"answers {answer.status_code}"] += 1
        if answer.status_code in AWAY and "retry-after" in answer.headers:
            return min(float(answer.headers["retry-after"]), LONGEST_PAUSE)
        self._network.surprises.append(
            f"{self._message.wish.nonce}: {answer.status_code} without sense: {answer.text[:500]}"
        )
        self._given_up = answer.status_code not in AWAY
        return 1.0


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
