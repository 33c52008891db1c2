"""Limit each user's concurrent calls in a process, so that one user's load does not delay other users."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from anyio.to_thread import run_sync

from backend.limits.limiter import Limiter

MOST_AT_WORK = 4
"""The most concurrent calls by one user in one process. Each call holds a thread and, mostly, also a connection."""
WAIT_SECONDS = 5.0
"""The most seconds that a call waits for a free slot. After that the call is refused."""

Result = TypeVar("Result")


class FairShare:
    """Gives each user the same number of slots for calls. All code that uses it must run on one event loop."""

    def __init__(self) -> None:
        self._limiter = Limiter(
            MOST_AT_WORK,
            sentence=f"{MOST_AT_WORK} of your requests are being handled, which is the limit. Try again in a few "
            "seconds.",
        )

    @asynccontextmanager
    async def slot(self, user_id: str, *, is_patient: bool = False) -> AsyncIterator[None]:
        """Hold one of the user's slots inside the block. Waiting uses no thread and no connection.

        Args:
            user_id: The user whose slot it is.
            is_patient: Whether to wait as long as necessary and never refuse.

        Raises:
            TooBusy: No slot became free in time.
        """
        async with self._limiter.slot(user_id, wait=None if is_patient else WAIT_SECONDS):
            yield

    async def run(self, user_id: str, work: Callable[[], Result], *, is_patient: bool = False) -> Result:
        """Run blocking work on a worker thread, in one of the user's slots; raises as `slot` does."""
        async with self.slot(user_id, is_patient=is_patient):
            return await run_sync(work)
