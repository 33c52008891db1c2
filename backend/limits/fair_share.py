"""A user's share of a process: so many calls at work at once, so that one user's load is not everybody's wait."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from anyio.to_thread import run_sync

from backend.limits.limiter import Limiter

MOST_AT_WORK = 4
"""Calls of one user that work at once in one process; each holds a thread and, for most of its time, a connection."""
WAIT_SECONDS = 5.0
"""How long a further call waits before it is refused."""

Result = TypeVar("Result")


class FairShare:
    """Gives each user the same number of slots to work in; all who use it run on one event loop."""

    def __init__(self) -> None:
        self._limiter = Limiter(
            MOST_AT_WORK,
            sentence=f"{MOST_AT_WORK} of your requests are being worked on, which is the limit. Try again in a few "
            "seconds.",
        )

    @asynccontextmanager
    async def slot(self, user_id: str, *, is_patient: bool = False) -> AsyncIterator[None]:
        """Hold one of the user's slots inside the block. Waiting holds no thread and no connection.

        Args:
            user_id: Whose slot.
            is_patient: Whether it waits for as long as it takes, and is never refused.

        Raises:
            TooBusy: There is no slot, and none came free in time.
        """
        async with self._limiter.slot(user_id, wait=None if is_patient else WAIT_SECONDS):
            yield

    async def run(self, user_id: str, work: Callable[[], Result], *, is_patient: bool = False) -> Result:
        """Do blocking work on a worker thread, in one of the user's slots; raises as `slot` does."""
        async with self.slot(user_id, is_patient=is_patient):
            return await run_sync(work)
