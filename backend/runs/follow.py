"""Follow a run: its stored events in order, the text in between as it comes, from any process."""

import asyncio
import time
from collections.abc import AsyncIterator

from anyio.to_thread import run_sync

from backend.database import Database
from backend.identity.caller import Caller
from backend.runs.live import Channel, Live
from backend.runs.repository import Event, RunRepository

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 1.0

HEARTBEAT = Event("heartbeat", {})
RECONNECT = Event("reconnect", {"detail": "The server restarts. Connect again with Last-Event-ID."})


class Follower:
    """Tells runs to whoever follows; never in the way of the worker that executes them."""

    def __init__(self, database: Database, live: Live) -> None:
        self._database = database
        self._live = live
        self._stopping = False

    def stop(self) -> None:
        """End every stream with `reconnect`, because the process is going down."""
        self._stopping = True
        self._live.tell_all()

    async def events(self, caller: Caller, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after number `after` until `done`; heartbeats while nothing happens.

        Raises:
            RunNotFound: The caller has no such run.
        """
        seq, told = after, -1
        spoke = time.monotonic()
        while True:
            channel = self._live.find(run_id)
            news = channel.news() if channel else None
            if channel is None or channel.stored_seq > seq or told < 0:
                told = max(told, 0)
                for event in await run_sync(self._read, caller, run_id, seq):
                    yield event
                    seq, spoke = event.seq or seq, time.monotonic()
                    if event.kind == "text":
                        told = event.data["offset"] + len(event.data["delta"])
                    elif event.kind == "reset":
                        told = event.data["offset"]
                    elif event.kind == "done":
                        return
            if channel is not None and (fresh := _untold(channel, told)):
                yield Event("text", {"delta": fresh, "offset": told})
                told, spoke = told + len(fresh), time.monotonic()
            if self._stopping:
                yield RECONNECT
                return
            if news is None:
                await asyncio.sleep(POLL_SECONDS)
            else:
                await _wait(news, HEARTBEAT_SECONDS)
            if time.monotonic() - spoke >= HEARTBEAT_SECONDS:
                yield HEARTBEAT
                spoke = time.monotonic()

    def _read(self, caller: Caller, run_id: str, after: int) -> list[Event]:
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            events = runs.events(run_id, after=after)
            if not events:
                runs.get(run_id)
            return events


def _untold(channel: Channel, told: int) -> str:
    """Return the live text from `told` on; nothing when stored text in between has not been read yet."""
    return channel.text[told - channel.text_start :] if told >= channel.text_start else ""


async def _wait(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return
