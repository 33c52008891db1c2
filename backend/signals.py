"""Shut down in order on a signal, and by force if that takes too long."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog

LAST_SECONDS = 9.5
"""The process ends by force this long after a signal."""
UNREADY_SECONDS = 1.0
"""Seconds that a process still answers after a signal, so that load balancers see that it is not ready."""


def give_up() -> None:
    """End the process even if a thread still waits, for example for a hanging database. Its leases expire later."""
    structlog.get_logger().error("stop_overdue")
    os._exit(1)


@contextmanager
def go_down_on_signal(go_down: Callable[[], None]) -> Iterator[None]:
    """Shut down in order on a signal: first `/ready` turns clients away, then the server stops.

    Before the server stops, `/ready` reports 503 for a moment, and streams end with `reconnect`. If streams did not
    end, the server would wait for them, because a client that follows a run keeps its request open. A second signal is
    ignored: stopping at once would leave the embedded database running, and an orderly stop takes only seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            # The timer runs on its own thread, because the event loop itself may hang.
            overdue = threading.Timer(LAST_SECONDS, give_up)
            overdue.daemon = True
            overdue.start()
            loop.call_soon_threadsafe(begin, number, frame)

    def begin(number: int, frame: FrameType | None) -> None:
        go_down()
        handler = before[signal.Signals(number)]
        if callable(handler):
            loop.call_later(UNREADY_SECONDS, handler, number, frame)

    for name in (signal.SIGTERM, signal.SIGINT):
        before[name] = signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
