"""Look for rows that no process works on, without querying the database while the service is idle."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from backend.errors import Unavailable

log = structlog.get_logger()

LOOK_SECONDS = 2.0
"""Seconds between two searches for rows to take over, while there are unfinished rows."""


class Finder:
    """Looks for work at the start, on request, and every `LOOK_SECONDS` while any process has work.

    While no process has work, it looks every `idle_seconds`, or only on request if `idle_seconds` is None.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[bool]],
        *,
        on_work: Callable[[], None] = lambda: None,
        idle_seconds: float | None = None,
    ) -> None:
        """Set the functions to call.

        Args:
            look: Looks for work and starts it. Returns whether any process has work.
            on_work: Called after each look, if any process has work.
            idle_seconds: How often to look while no process has work, in seconds. If None, look only on request.
        """
        self._look = look
        self._idle_seconds = idle_seconds
        self._on_work = on_work
        self._wanted = asyncio.Event()
        self._is_work_left = True

    async def run(self) -> None:
        """Look for work until cancelled."""
        while True:
            self._wanted.clear()
            # `look_soon` and `look_now` set this again if they are called during the look, which may have missed the
            # new work.
            self._is_work_left = False
            try:
                is_any_left = await self._look()
            except Unavailable:
                is_any_left = True
            except Exception:
                # A bug must not end this loop, or this process would never again take over another process's rows.
                log.exception("look_failed")
                is_any_left = True
            if is_any_left:
                self._is_work_left = True
                self._on_work()
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._is_work_left else self._idle_seconds):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    def look_soon(self) -> None:
        """Look for work in `LOOK_SECONDS`, because another process may have work."""
        if not self._is_work_left:
            self._is_work_left = True
            self._on_work()
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._wanted.set)

    def look_now(self) -> None:
        """Look for work at once, because there is work that no process has started."""
        self._is_work_left = True
        self._wanted.set()

    def look_again(self) -> None:
        """Look for work at once, because this process may be free for more work."""
        self._wanted.set()
