"""The worker: executes accepted runs beside the requests that brought them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from weakref import WeakValueDictionary

import structlog
from anyio.to_thread import run_sync

from backend.database import Database
from backend.errors import DocuTalkError, NotFound, Unavailable
from backend.identity.caller import Caller, acting_as
from backend.runs.journal import Journal
from backend.runs.live import Live
from backend.runs.repository import RunEnded
from backend.runs.turns import Assistant, Turn, Turns

log = structlog.get_logger()


MOST_RUNS_OF_A_USER = 4
"""Runs of one user that are executed at once, so that nobody takes every slot."""


class RunInterrupted(Unavailable):
    """The process went down while it executed the run."""

    code = "run_interrupted"

    def __init__(self) -> None:
        super().__init__(
            "The server restarted before this answer was complete. What was done stays; send the message again.",
            retry_after=5,
        )


class RunCrashed(DocuTalkError):
    """The run met a defect of ours; the log has it under the run's id."""

    code = "run_crashed"

    def __init__(self) -> None:
        super().__init__(
            "Something went wrong on our side while answering. What was done stays; send the message again."
        )


class Worker:
    """Executes at most `max_concurrent` runs at once, those of one conversation one after the other."""

    def __init__(
        self, database: Database, turns: Turns, assistant: Assistant, live: Live, *, max_concurrent: int
    ) -> None:
        self._database = database
        self._turns = turns
        self._assistant = assistant
        self._live = live
        self._slots = asyncio.Semaphore(max_concurrent)
        # They are weak: each lives as long as somebody holds it or waits for it.
        self._users: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._accepting: WeakValueDictionary[tuple[str, int], asyncio.Lock] = WeakValueDictionary()
        self._executing: WeakValueDictionary[tuple[str, int], asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(
        self, caller: Caller, message: str, *, conversation_id: int | None, idempotency_key: str | None = None
    ) -> Turn:
        """Accept a message and execute its run as soon as there is a slot and the conversation's earlier runs ended.

        Raises as `Turns.accept` does.
        """

        def accept() -> Turn:
            return self._turns.accept(caller, message, conversation_id=conversation_id, idempotency_key=idempotency_key)

        # Runs of one conversation are submitted in the order in which their messages were committed.
        async with _lock(self._accepting, (caller.user_id, conversation_id or 0)):
            turn = await run_sync(accept)
            if turn.is_new:
                self._submit(turn)
        return turn

    def _submit(self, turn: Turn) -> None:
        self._live.open(turn.run_id)
        task = asyncio.create_task(self._execute(turn), name=f"run {turn.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, *, seconds: float) -> None:
        """Let the runs go on for `seconds`; then interrupt those that have not ended, and note it in their rows."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _execute(self, turn: Turn) -> None:
        caller = replace(turn.caller, door="chat")
        journal = Journal(
            self._database,
            self._live,
            caller=caller,
            run_id=turn.run_id,
            conversation_id=turn.conversation_id,
            attempt=1,
            model=turn.model,
        )
        structlog.contextvars.bind_contextvars(
            user_id=caller.user_id, conversation_id=turn.conversation_id, run_id=turn.run_id
        )
        started = asyncio.get_running_loop().time()
        status = "failed"
        try:
            async with self._turn_of(turn):
                fixed_input = turn.fixed_input
                if fixed_input is None:
                    fixed_input = await run_sync(self._turns.begin, turn)
                    journal.tell()
                with acting_as(caller):
                    await self._assistant.answer(fixed_input, model=turn.model, journal=journal)
                status = "completed"
        except asyncio.CancelledError:
            await _fail(journal, RunInterrupted())
        except DocuTalkError as error:
            await _fail(journal, error)
        except Exception:
            log.exception("run_crashed")
            await _fail(journal, RunCrashed())
        finally:
            journal.close()
            seconds = asyncio.get_running_loop().time() - started
            log.info("run_finished", status=status, model=turn.model, latency_ms=round(seconds * 1000))

    @asynccontextmanager
    async def _turn_of(self, turn: Turn) -> AsyncIterator[None]:
        user_id = turn.caller.user_id
        of_user = self._users.get(user_id) or self._users.setdefault(user_id, asyncio.Semaphore(MOST_RUNS_OF_A_USER))
        # The shared slot comes last, so that nobody holds one while they wait for their own.
        async with _lock(self._executing, (user_id, turn.conversation_id)), of_user, self._slots:
            yield


def _lock(locks: WeakValueDictionary[tuple[str, int], asyncio.Lock], key: tuple[str, int]) -> asyncio.Lock:
    return locks.get(key) or locks.setdefault(key, asyncio.Lock())


async def _fail(journal: Journal, error: DocuTalkError) -> None:
    log.warning("run_failed", code=error.code)
    try:
        await journal.fail(error)
    except NotFound:
        log.info("run_deleted")
    except RunEnded:
        log.info("run_had_ended")
    except Unavailable as away:
        log.error("run_end_not_written", code=away.code)
