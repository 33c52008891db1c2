"""Committed events and unstored text, in memory for followers in this process, so that they rarely read the database.

This module only makes followers faster. Without it, they would get the same events up to a second later.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from backend.runs.repository import Event

MOST_KEPT = 8
"""How many committed events a channel holds at most. A follower who needs earlier events reads the database."""


class Channel:
    """The live events and text of one run that this process executes."""

    def __init__(self, stored: Sequence[Event] = (), *, text_start: int = 0) -> None:
        """Open a channel.

        `stored` are the run's last committed events. `text_start` is the position in the answer where the stored text
        ends.
        """
        self.stored_seq = 1
        """The number of the last event known to be committed."""
        self.text_start = text_start
        """The position in the answer where `text` begins."""
        self.text = ""
        """The part of the answer that no stored event contains yet."""
        self._kept: list[Event] = []
        self._news = asyncio.Event()
        self.store(stored)

    def store(self, events: Sequence[Event]) -> None:
        """Add committed events, in their order."""
        for event in events:
            if event.seq is None or (self._kept and event.seq <= self.stored_seq):
                continue
            if event.seq != self.stored_seq + 1:
                self._kept = []
            self._kept = [*self._kept[1 - MOST_KEPT :], event]
            self.stored_seq = event.seq

    def after(self, seq: int) -> list[Event] | None:
        """Return the committed events after number `seq`, or None if the channel does not have all of them."""
        missing = max(self.stored_seq - seq, 0)
        return self._kept[len(self._kept) - missing :] if missing <= len(self._kept) else None

    def tell(self) -> None:
        """Wake all waiting followers. Call this on the event loop's thread."""
        self._news.set()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Return an asyncio event that the next `tell` sets. Get it before reading, so that no change is missed."""
        return self._news


class Live:
    """The channels of the runs in this process, and asyncio events that wake followers of runs in other processes."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        # The references are weak, so each event lives only as long as a follower waits for it.
        self._elsewhere: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def open(self, run_id: str, stored: Sequence[Event] = (), *, text_start: int = 0) -> Channel:
        """Open the channel of a run that this process is about to execute."""
        channel = self._channels[run_id] = Channel(stored, text_start=text_start)
        self.wake(run_id)
        return channel

    def find(self, run_id: str) -> Channel | None:
        """Return a run's channel, or None if this process does not execute the run."""
        return self._channels.get(run_id)

    def close(self, run_id: str, mine: Channel) -> None:
        """Close the channel of a run that this process no longer executes, and wake the run's followers."""
        if self._channels.get(run_id) is mine:
            del self._channels[run_id]
        mine.tell()

    def elsewhere(self, run_id: str) -> asyncio.Event:
        """Return an asyncio event that is set when a run in another process may have news."""
        return self._elsewhere.get(run_id) or self._elsewhere.setdefault(run_id, asyncio.Event())

    def wake(self, run_id: str) -> None:
        """Wake the followers who wait for a run in another process."""
        waiting = self._elsewhere.pop(run_id, None)
        if waiting is not None:
            waiting.set()

    def tell_all(self) -> None:
        """Wake every follower, so that each can check whether the process is shutting down."""
        for channel in self._channels.values():
            channel.tell()
        for run_id in list(self._elsewhere):
            self.wake(run_id)
