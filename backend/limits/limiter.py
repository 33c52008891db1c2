"""Limit how many callers work at once for one key, such as a user or an address. Further callers wait their turn."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from anyio import Semaphore, fail_after

from backend.errors import TooManyRequests

MOST_WAITING = 32
"""How many callers may wait for one key's slots. Each waiting caller holds memory and a connection."""
RETRY_AFTER_SECONDS = 2


class TooBusy(TooManyRequests):
    """All slots of this key are in use, and no slot became free in time."""

    code = "too_busy"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, retry_after=RETRY_AFTER_SECONDS)


class Limiter:
    """Gives each key the same number of slots, first come, first served. All callers must run on one event loop."""

    def __init__(self, at_once: int, *, sentence: str, most_waiting: int = MOST_WAITING) -> None:
        """Set the number of slots for each key.

        Args:
            at_once: How many callers may work for one key at once.
            sentence: The error message for a person whose request gets no slot.
            most_waiting: How many callers may wait for one key's slots. Further callers are refused at once, unless
                they wait without a limit.
        """
        self._at_once = at_once
        self._sentence = sentence
        self._most_waiting = most_waiting
        self._lines: dict[Hashable, _Line] = {}

    @property
    def keys_in_use(self) -> int:
        """How many keys have working or waiting callers."""
        return len(self._lines)

    @asynccontextmanager
    async def slot(self, key: Hashable, *, wait: float | None = None) -> AsyncIterator[None]:
        """Hold one of the key's slots inside the block.

        Args:
            key: The key whose slot it is.
            wait: The most seconds to wait for a slot. 0 does not wait; None waits without a limit and is never refused.

        Raises:
            TooBusy: No slot became free in time, or too many callers are already waiting.
        """
        line = self._lines.setdefault(key, _Line(self._at_once))
        # If there are fewer callers than slots, no caller is waiting.
        is_free = line.present < self._at_once
        is_full = line.present >= self._at_once + self._most_waiting
        if wait is not None and not is_free and (wait == 0 or is_full):
            raise TooBusy(self._sentence)
        line.present += 1
        try:
            try:
                with fail_after(None if is_free else wait):
                    await line.slots.acquire()
            except TimeoutError:
                raise TooBusy(self._sentence) from None
            try:
                yield
            finally:
                line.slots.release()
        finally:
            line.present -= 1
            if not line.present:
                del self._lines[key]


class _Line:
    """One key's slots, and how many callers hold a slot or wait for a slot."""

    def __init__(self, at_once: int) -> None:
        self.slots = Semaphore(at_once, fast_acquire=True)
        self.present = 0
