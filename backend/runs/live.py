"""News for followers in this process, which saves reading the database, and text that is not stored yet.

None of this is needed for correctness: without it followers see the same, up to a second later.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from backend.runs.repository import Event

MOST_KEPT = 8
"""Committed events that a channel keeps. Followers further behind read the database."""


class Channel:
    """The live events and text of one run that this process executes."""

    def __init__(self, stored: Sequence[Event] = (), *, text_start: int = 0) -> None:
        """Take the run's last committed events, and the position in the answer from which no event has the text yet."""
        self.stored_seq = 1
        """The number of the last event known to be committed."""
        self.text_start = text_start
        """The position in the answer where `text` begins."""
        self.text = ""
        """The part of the answer that is in no stored event yet."""
        self._kept: list[Event] = []
        self._news = asyncio.Event()
        self.store(stored)

    def store(self, events: Sequence[Event]) -> None:
        """Keep committed events, given in order."""
        for event in events:
            if event.seq is None or (self._kept and event.seq <= self.stored_seq):
                continue
            if event.seq != self.stored_seq + 1:
                self._kept = []
            self._kept = [*self._kept[1 - MOST_KEPT :], event]
            self.stored_seq = event.seq

    def after(self, seq: int) -> list[Event] | None:
        """Return the committed events after number `seq`, or None if the first of them are no longer kept."""
        missing = max(self.stored_seq - seq, 0)
        return self._kept[len(self._kept) - missing :] if missing <= len(self._kept) else None

    def tell(self) -> None:
        """Wake all waiting followers; call it on the event loop's thread."""
        self._news.set()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Return an event that the next `tell` sets. Get it before reading, or news in between is missed."""
        return self._news


class Live:
    """The channels of the runs that this process executes, and the followers of runs elsewhere."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        # Weak, so that each lives only as long as somebody waits for it.
        self._elsewhere: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def open(self, run_id: str, stored: Sequence[Event] = (), *, text_start: int = 0) -> Channel:
        """Open the channel of a run that will be executed here."""
        channel = self._channels[run_id] = Channel(stored, text_start=text_start)
        self.heard(run_id)
        return channel

    def find(self, run_id: str) -> Channel | None:
        """Return the channel of a run that is executed here, or None."""
        return self._channels.get(run_id)

    def close(self, run_id: str, mine: Channel) -> None:
        """Close the channel of a run that is no longer executed here, and wake its followers."""
        if self._channels.get(run_id) is mine:
            del self._channels[run_id]
        mine.tell()

    def elsewhere(self, run_id: str) -> asyncio.Event:
        """Return an event that is set at the next news of a run that this process does not execute."""
        return self._elsewhere.get(run_id) or self._elsewhere.setdefault(run_id, asyncio.Event())

    def heard(self, run_id: str) -> None:
        """Wake the followers who wait for news of a run of another process."""
        waiting = self._elsewhere.pop(run_id, None)
        if waiting is not None:
            waiting.set()

    def tell_all(self) -> None:
        """Wake every follower, to check whether the process is shutting down."""
        for channel in self._channels.values():
            channel.tell()
        for run_id in list(self._elsewhere):
            self.heard(run_id)
