"""What followers in this process need not read from the database: that there is news, and text not stored yet.

Nothing here is the truth: without it followers see the same, up to a second later.
"""

import asyncio
from dataclasses import dataclass, field
from weakref import WeakValueDictionary


@dataclass
class Channel:
    """The live end of one run that this process executes."""

    stored_seq: int = 1
    """The number of the last event that is known to be committed."""
    text_start: int = 0
    """Where in the answer `text` begins."""
    text: str = ""
    """The part of the answer that no stored event has yet."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wake everybody who waits; called on the event loop's thread."""
        self._news.set()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Return an event that is set at the next `tell`; take it before reading, so as to miss nothing."""
        return self._news


class Live:
    """The channels of the runs that this process executes, and who waits for news of runs of others."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        # They are weak: each lives as long as somebody waits for it.
        self._elsewhere: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def open(self, run_id: str, *, stored_seq: int = 1, text_start: int = 0) -> Channel:
        """Open the channel of a run that is about to be executed here."""
        channel = self._channels[run_id] = Channel(stored_seq, text_start)
        self.heard(run_id)
        return channel

    def find(self, run_id: str) -> Channel | None:
        """Return a run's channel when it is executed here."""
        return self._channels.get(run_id)

    def close(self, run_id: str, mine: Channel) -> None:
        """Close the channel of a run that is executed here no longer, and wake its followers."""
        if self._channels.get(run_id) is mine:
            del self._channels[run_id]
        mine.tell()

    def elsewhere(self, run_id: str) -> asyncio.Event:
        """Return an event that is set at the next news of a run that this process does not execute."""
        return self._elsewhere.get(run_id) or self._elsewhere.setdefault(run_id, asyncio.Event())

    def heard(self, run_id: str) -> None:
        """Wake those who wait for news of a run of another process."""
        waiting = self._elsewhere.pop(run_id, None)
        if waiting is not None:
            waiting.set()

    def tell_all(self) -> None:
        """Wake every follower, to look whether the process is going down."""
        for channel in self._channels.values():
            channel.tell()
        for run_id in list(self._elsewhere):
            self.heard(run_id)
