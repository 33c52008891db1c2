"""Going down in order when a signal comes, and at all costs when that takes too long."""

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
"""After how long a process that was told to go down ends whatever happens."""
UNREADY_SECONDS = 1.0
"""How long a process that was told to go down still answers, so that balancers see that it is not ready."""


def give_up() -> None:
    """End the process although a thread still waits, for a database that hangs, say; leases run out by themselves."""
    structlog.get_logger().error("stop_overdue")
    os._exit(1)


@contextmanager
def go_down_on_signal(go_down: Callable[[], None]) -> Iterator[None]:
    """Stop in order on a signal: first `/ready` turns clients away, then the server stops.

    Between the two `/ready` says so for a moment, and streams end with `reconnect`: the server waits for open requests
    before it ends the lifespan, and a followed run keeps its request open. An impatient second signal changes nothing:
    it would leave the embedded database behind, and the stop takes seconds.
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
            # From here, and not from the loop, which may be what hangs.
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
