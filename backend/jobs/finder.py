"""Looking for rows that nobody works on, without asking an idle database anything."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from backend.errors import Unavailable

log = structlog.get_logger()

LOOK_SECONDS = 2.0
"""How often a process looks for rows to take over, while there is any that has not ended."""


class Finder:
    """Looks at the start, on request, and every few seconds while work is left in any process.

    Otherwise it is silent, or looks every `idle_seconds`.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[bool]],
        *,
        on_work: Callable[[], None] = lambda: None,
        idle_seconds: float | None = None,
    ) -> None:
        """`look` takes up work and returns whether any is left; `on_work` is called whenever there is some."""
        self._look = look
        self._idle_seconds = idle_seconds
        self._on_work = on_work
        self._wanted = asyncio.Event()
        self._is_work_left = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._wanted.clear()
            # What is noticed from here on is looked for again.
            self._is_work_left = False
            try:
                is_any_left = await self._look()
            except Unavailable:
                is_any_left = True
            except Exception:
                # A defect must not end the looks: nobody would take over what others leave behind.
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
        """Look in a moment, since another process may have work."""
        if not self._is_work_left:
            self._is_work_left = True
            self._on_work()
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._wanted.set)

    def look_now(self) -> None:
        """Look at once, since there is work that no process has."""
        self._is_work_left = True
        self._wanted.set()

    def look_again(self) -> None:
        """Look at once, since this process may be free for more work."""
        self._wanted.set()
