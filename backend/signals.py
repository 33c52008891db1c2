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
"""Seconds after a stop signal at which the process is ended by force if it is still running."""
UNREADY_SECONDS = 1.0
"""How many seconds a process keeps answering after a stop signal. In this time, load balancers see that it is not
ready."""


def give_up() -> None:
    """End the process, even if a thread still waits, for example for a hanging database. Its leases will expire."""
    structlog.get_logger().error("stop_overdue")
    os._exit(1)


@contextmanager
def go_down_on_signal(go_down: Callable[[], None]) -> Iterator[None]:
    """Shut down in order on a signal: `/ready` reports 503 and streams end with `reconnect`; then the server stops.

    A short pause before the stop lets load balancers see the 503. The streams must end because the server waits for
    open requests, and a client that follows a run keeps its request open. A second signal is ignored: stopping at once
    would leave the embedded database running, and an orderly stop takes only seconds.
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
