"""Run long work in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

Result = TypeVar("Result")


async def in_own_thread(work: Callable[[], Result]) -> Result:
    """Run a function in a new thread, and return what it returns or raise what it raises.

    The pool of threads that serves requests is not used. The process can exit even if the function is waiting for a
    provider.
    """
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  The error is raised where the result is awaited.
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="job", daemon=True).start()
    return await asyncio.wrap_future(done)
