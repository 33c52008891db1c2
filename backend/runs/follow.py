"""Follow a run from any process: yield its stored events in order and, in between, its live text as it arrives."""

import asyncio
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from backend.conversations.repository import MessageRepository
from backend.errors import TooManyRequests, Unavailable
from backend.identity.caller import Caller
from backend.postgres.database import Database
from backend.runs.ending import done
from backend.runs.live import Channel, Live
from backend.runs.repository import Event, RunNotFound, RunRepository

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 0.5
"""Seconds between a follower's checks of a run in another process, while no notifications arrive from other processes.
"""
SELDOM_SECONDS = 5.0
"""Seconds between a follower's checks of a run in another process, while notifications arrive."""
MOST_FOLLOWED = 64
"""How many streams one user may have open at once in one process."""
MOST_READING = 8
"""The most followers that may read the database at once. The other threads and connections are left for the runs."""

HEARTBEAT = Event("heartbeat", {})
RECONNECT = Event("reconnect", {"detail": "The server restarts. Connect again with Last-Event-ID."})


class Follower:
    """Streams the events of runs to followers, without delaying the worker that executes the runs."""

    def __init__(
        self,
        database: Database,
        live: Live,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        is_listening: Callable[[], bool] = lambda: False,
        on_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up a follower.

        Args:
            database: The database that stores the events.
            live: The events and text that this process has in memory.
            heartbeat_seconds: The seconds without events after which a stream gets a heartbeat.
            is_listening: Returns whether notifications from other processes currently arrive.
            on_waiting: Called whenever a follower waits for a run that this process does not execute.
        """
        self._database = database
        self._live = live
        self._heartbeat_seconds = heartbeat_seconds
        self._is_listening = is_listening
        self._on_waiting = on_waiting
        self._stopping = False
        self._reading = CapacityLimiter(MOST_READING)
        self._followed: Counter[str] = Counter()

    def stop(self) -> None:
        """End every stream with `reconnect`, because the process is shutting down."""
        self._stopping = True
        self._live.tell_all()

    def admit(self, caller: Caller) -> None:
        """Raise TooManyRequests if the caller already has as many open streams as allowed."""
        if self._followed[caller.user_id] >= MOST_FOLLOWED:
            raise TooManyRequests(
                f"You have {MOST_FOLLOWED} streams open, which is the limit. Close some of them.",
                retry_after=5,
            )

    def events(self, caller: Caller, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the run's events after number `after`, up to `done`. While there are no events, yield heartbeats.

        If the run is deleted, the stream ends. If the database does not answer, the stream ends with `reconnect`.
        """
        events = self._told(caller, run_id, after)
        self._followed[caller.user_id] += 1
        # A finalizer counts down the user's open streams, even if this stream is never read.
        weakref.finalize(events, self._leave, caller.user_id)
        return events

    def _leave(self, user_id: str) -> None:
        self._followed[user_id] -= 1
        if not self._followed[user_id]:
            del self._followed[user_id]

    async def _told(self, caller: Caller, run_id: str, after: int) -> AsyncIterator[Event]:
        try:
            async for event in self._events(caller, run_id, after):
                yield event
        except Unavailable:
            yield RECONNECT
        except RunNotFound as error:
            why = {"code": error.code, "detail": str(error), "status": error.status, "retry_after": None}
            yield Event("error", why)
            yield Event("done", {"run_id": run_id, "status": "cancelled", "error": why})

    async def _events(self, caller: Caller, run_id: str, after: int) -> AsyncIterator[Event]:
        # Read all events, even if the follower already has some, because the position in the answer depends on every
        # event.
        seq, told = 0, 0
        spoke = time.monotonic()
        while True:
            # Get `news` before reading, or an event committed in between would be missed.
            channel = self._live.find(run_id)
            news = channel.news() if channel else self._live.elsewhere(run_id)
            if channel is None or channel.stored_seq > seq or seq == 0:
                # The first read goes to the database, to check that the run belongs to the caller.
                events = channel.after(seq) if channel is not None and seq > 0 else None
                if events is None:
                    events = await run_sync(self._read, caller, run_id, seq, limiter=self._reading)
                for event in events:
                    seq = event.seq or seq
                    if seq > after:
                        yield event
                        spoke = time.monotonic()
                    if event.kind == "text":
                        told = event.data["offset"] + len(event.data["delta"])
                    elif event.kind == "reset":
                        told = event.data["offset"]
                    elif event.kind == "done":
                        return
            # If stored events are newer than the channel, the channel's attempt has lost its lease. Ignore its text,
            # because it does not continue what the next attempt wrote.
            if channel is not None and seq <= channel.stored_seq and (fresh := _untold(channel, told)):
                yield Event("text", {"delta": fresh, "offset": told})
                told, spoke = told + len(fresh), time.monotonic()
            if self._stopping:
                yield RECONNECT
                return
            seconds = self._heartbeat_seconds
            if channel is None:
                self._on_waiting()
                seconds = min(seconds, SELDOM_SECONDS if self._is_listening() else POLL_SECONDS)
            await _wait(news, seconds)
            if time.monotonic() - spoke >= self._heartbeat_seconds:
                yield HEARTBEAT
                spoke = time.monotonic()

    def _read(self, caller: Caller, run_id: str, after: int) -> list[Event]:
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            events = runs.events(run_id, after=after)
            if not events:
                run = runs.get(run_id)
                if run.purged_at is not None and after < run.last_seq:
                    answer = None if run.answer_id is None else MessageRepository(scope).find(run.answer_id)
                    return [replace(done(run, answer), seq=run.last_seq)]
            return events


def _untold(channel: Channel, told: int) -> str:
    """Return the live text from position `told` on, or "" if earlier text is stored but was not read yet."""
    return channel.text[told - channel.text_start :] if told >= channel.text_start else ""


async def _wait(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return
