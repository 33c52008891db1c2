"""Work that takes its time, in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

Result = TypeVar("Result")


async def in_own_thread(work: Callable[[], Result]) -> Result:
    """Return what a function returns, or raise what it raises.

    It takes none of the threads that requests wait for, and the process can end while it still waits for a provider.
    """
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  It is raised where the result is awaited.
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="job", daemon=True).start()
    return await asyncio.wrap_future(done)
