"""One attempt at a run: the assistant answers, and the journal records the end."""

import asyncio
from typing import Any

import structlog

from backend.errors import DocuTalkError, NotFound, Unavailable
from backend.identity.caller import acting_as
from backend.jobs.leases import Lease
from backend.runs.attempt import Assistant, Claimed
from backend.runs.ending import RunCancelled, RunCrashed
from backend.runs.journal import Journal
from backend.runs.repository import RunEnded

log = structlog.get_logger()


class Execution:
    """A run that this process executes."""

    def __init__(self, assistant: Assistant, claimed: Claimed, journal: Journal) -> None:
        self._assistant = assistant
        self._claimed = claimed
        self._journal = journal
        self._answering: asyncio.Task[None] | None = None

    @property
    def lease(self) -> Lease:
        """The lease of this attempt."""
        return self._claimed.lease

    @property
    def log_fields(self) -> dict[str, Any]:
        """The name of the model that answers."""
        return {"model": self._claimed.model}

    @property
    def is_work_left(self) -> bool:
        """Whether another run of the same user was waiting for this run to end."""
        return self._journal.is_work_left

    def stop(self, why: DocuTalkError) -> None:
        """Stop at once. If a step is being written, stop after that step."""
        is_first = self._journal.interrupted is None
        self._journal.interrupt(why)
        if is_first and self._answering is not None:
            self._answering.cancel()

    async def work(self) -> str:
        """Answer the run, and return the outcome for the log.

        Record the run's end, except if another attempt must continue.

        Raises:
            Unavailable: This process cannot finish the run now.
        """
        structlog.contextvars.bind_contextvars(conversation_id=self._claimed.conversation_id)
        if self.lease.attempt > 1:
            log.info("run_claimed_again", attempt=self.lease.attempt)
        self._answering = asyncio.create_task(self._answer())
        if self._journal.interrupted is not None:
            self._answering.cancel()
        try:
            await asyncio.wait([self._answering])
            return await self._conclude(self._answering)
        except (RunEnded, NotFound) as gone:
            # There is no run to give back: it ended elsewhere, or its conversation was deleted.
            log.info("run_let_go", code=gone.code)
            return "let go"
        finally:
            self._journal.close()

    async def _answer(self) -> None:
        claimed = self._claimed
        if claimed.refused is not None:
            raise claimed.refused
        with acting_as(claimed.caller):
            await self._assistant.answer(claimed.fixed_input, model=claimed.model, journal=self._journal)

    async def _conclude(self, answering: asyncio.Task[None]) -> str:
        journal = self._journal
        if journal.ended is not None:
            return journal.ended
        # If a library cancelled the task, the run counts as crashed. If it were given back, it would restart forever.
        error = RunCrashed() if answering.cancelled() else answering.exception()
        why = error if isinstance(error, Unavailable) else journal.interrupted or error
        match why:
            case RunCancelled():
                await journal.cancel()
                return "cancelled"
            case Unavailable() | RunEnded() | NotFound():
                raise why
            case DocuTalkError():
                log.warning("run_failed", code=why.code)
                await journal.fail(why)
            case _:
                log.error("run_crashed", exc_info=why)
                await journal.fail(RunCrashed())
        return "failed"
