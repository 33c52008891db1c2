"""The worker: executes runs beside the requests that brought them, its own and those that nobody else works on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from anyio.to_thread import run_sync

from backend.errors import DocuTalkError, NotFound, Unavailable
from backend.identity.caller import Caller, acting_as
from backend.jobs.finder import Finder
from backend.jobs.leases import Lease, LeaseLost, Leases
from backend.postgres.database import Database
from backend.runs.ending import RunCancelled, RunCrashed
from backend.runs.journal import Journal, unbroken
from backend.runs.live import Live
from backend.runs.models import Run
from backend.runs.repository import RunEnded
from backend.runs.turns import PURGED_AT_ONCE, Assistant, Claimed, Turn, Turns

log = structlog.get_logger()


MOST_RUNS_OF_A_USER = 4
"""Runs of one user that are executed at once, so that nobody takes every slot."""
PURGE_SECONDS = 3600.0
"""How often, at most, old events are purged; only beside other work, so that an idle database can sleep."""
HAND_BACK_SECONDS = 2.0
"""How long a process that goes down takes at most to hand its runs back."""
BEATS_OF_A_LEASE = 3
"""How often a lease is renewed before it would run out."""


class HandedBack(Unavailable):
    """The process goes down, and another one goes on with the run."""

    code = "run_handed_back"

    def __init__(self) -> None:
        super().__init__("The server goes down. The run goes on in another process.", retry_after=1)


@dataclass
class Execution:
    """A run that is being executed here."""

    claimed: Claimed
    journal: Journal
    answering: asyncio.Task[None] | None = None
    is_asked_about: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to have the row looked at now, for a wish to stop."""

    def stop(self, why: DocuTalkError) -> None:
        """Stop at once, or after the step that is being written."""
        is_first = self.journal.interrupted is None
        self.journal.interrupt(why)
        if is_first and self.answering is not None:
            self.answering.cancel()


class Worker:
    """Executes at most `max_concurrent` runs at once; which ones, the rows and their leases say."""

    def __init__(
        self,
        database: Database,
        turns: Turns,
        leases: Leases,
        assistant: Assistant,
        live: Live,
        *,
        max_concurrent: int,
        keep_events: timedelta = timedelta(days=30),
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; `on_work` is called whenever there is a run that has not ended."""
        self._database = database
        self._turns = turns
        self._leases = leases
        self._assistant = assistant
        self._live = live
        self._free_slots = max_concurrent
        self._is_more_waiting = False
        """Whether a run may wait for nothing but a free slot here."""
        self._keep_events = keep_events
        self._executions: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming = asyncio.Lock()
        self._finder = Finder(self._look, on_work=on_work)
        self._is_stopping = False
        self._purged_at = float("-inf")

    async def accept(
        self, caller: Caller, message: str, *, conversation_id: int | None, idempotency_key: str | None = None
    ) -> Turn:
        """Accept a message, and execute its run here at once if there is a free slot and its conversation is idle.

        Raises as `Turns.accept` does.
        """
        return await unbroken(self._accept(caller, message, conversation_id, idempotency_key))

    async def cancel(self, caller: Caller, run_id: str) -> Run:
        """Stop a run of the caller, wherever it is executed; raises as `Turns.cancel` does."""
        run = await run_sync(self._turns.cancel, caller, run_id)
        self.heard("cancel" if run.ended_at is None else "work", run_id)
        return run

    async def run(self) -> None:
        """Look for runs that nobody works on, until cancelled: at the start, when told to, and while any is left."""
        await self._finder.run()

    def notice(self) -> None:
        """Say that there may be a run that has not ended; it is looked for soon."""
        self._finder.notice()

    def heard(self, kind: str, run_id: str) -> None:
        """Take in what any process told of a run: news, work for whoever is free, or that it is to stop."""
        if kind == "document":
            return
        self._live.heard(run_id)
        if kind == "cancel" and (execution := self._executions.get(run_id)) is not None:
            # The row says whether it is true: anybody with a connection can send a notification.
            execution.is_asked_about.set()
        if kind == "work":
            self._finder.now()
        else:
            self._finder.notice()

    def stop_claiming(self) -> None:
        """Begin no further run here."""
        self._is_stopping = True

    async def stop(self, *, seconds: float) -> None:
        """Let the runs go on for `seconds`; then hand those that have not ended back, for another process."""
        self.stop_claiming()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._claiming:
                # Whatever was just being claimed is among the tasks now.
                if self._tasks:
                    await asyncio.wait(self._tasks)
        for execution in list(self._executions.values()):
            execution.stop(HandedBack())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HAND_BACK_SECONDS)

    async def _accept(
        self, caller: Caller, message: str, conversation_id: int | None, idempotency_key: str | None
    ) -> Turn:
        has_slot = self._take_slot()
        claimed = None

        def accept() -> Turn:
            return self._turns.accept(
                caller,
                message,
                conversation_id=conversation_id,
                idempotency_key=idempotency_key,
                has_slot=has_slot,
            )

        try:
            turn = await run_sync(accept)
            claimed = turn.claimed
        finally:
            if claimed is None and has_slot:
                self._free_slot()
        if claimed is not None:
            self._start(claimed)
        elif turn.is_new:
            # What it waits for may have ended while it was accepted.
            self._finder.again()
        self.notice()
        return turn

    async def _look(self) -> bool:
        async with self._claiming:
            await self._claim_what_is_there()
        is_any_left = bool(self._executions) or await run_sync(self._turns.are_left)
        await self._purge()
        return is_any_left

    async def _claim_what_is_there(self) -> None:
        # A process whose model could not be loaded leaves the runs of others to others.
        while self._assistant.is_ready and self._take_slot():
            claimed = None
            try:
                claimed = await run_sync(self._turns.claim, tuple(self._executions))
            finally:
                if claimed is None:
                    self._free_slots += 1
            if claimed is None:
                self._is_more_waiting = False
                return
            log.info("run_claimed", run_id=claimed.lease.id, attempt=claimed.lease.attempt)
            self._start(claimed)

    def _take_slot(self) -> bool:
        if self._is_stopping or not self._assistant.is_loaded or self._free_slots == 0:
            self._is_more_waiting = True
            return False
        self._free_slots -= 1
        return True

    def _free_slot(self, *, is_work_left: bool = False) -> None:
        self._free_slots += 1
        if is_work_left or self._is_more_waiting:
            self._finder.again()

    def _start(self, claimed: Claimed) -> None:
        journal = Journal(
            self._database,
            self._live,
            caller=claimed.caller,
            conversation_id=claimed.conversation_id,
            lease=claimed.lease,
            still_there=self._turns.still_there,
            transcript=claimed.transcript,
            stored=claimed.stored,
        )
        if (earlier := self._executions.get(claimed.lease.id)) is not None:
            # This process was held up for longer than its own lease.
            earlier.stop(LeaseLost())
        execution = self._executions[claimed.lease.id] = Execution(claimed, journal)
        if self._is_stopping:
            # It was accepted or claimed while the process began to go down.
            execution.stop(HandedBack())
        task = asyncio.create_task(self._execute(execution), name=f"run {claimed.lease.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, execution: Execution) -> None:
        claimed, journal = execution.claimed, execution.journal
        structlog.contextvars.bind_contextvars(
            user_id=claimed.lease.user_id, conversation_id=claimed.conversation_id, run_id=claimed.lease.id
        )
        started = asyncio.get_running_loop().time()
        execution.answering = asyncio.create_task(self._answer(claimed, journal))
        if journal.interrupted is not None:
            execution.answering.cancel()
        beating = asyncio.create_task(self._beat(execution))
        status = "crashed"
        try:
            await asyncio.wait([execution.answering])
            status = await self._conclude(execution, execution.answering)
        finally:
            beating.cancel()
            if self._executions.get(claimed.lease.id) is execution:
                del self._executions[claimed.lease.id]
            self._free_slot(is_work_left=journal.is_work_left)
            journal.close()
            seconds = asyncio.get_running_loop().time() - started
            log.info(
                "run_finished",
                status=status,
                model=claimed.model,
                attempt=claimed.lease.attempt,
                latency_ms=round(seconds * 1000),
            )

    async def _answer(self, claimed: Claimed, journal: Journal) -> None:
        if claimed.refused is not None:
            raise claimed.refused
        with acting_as(claimed.caller):
            await self._assistant.answer(claimed.fixed_input, model=claimed.model, journal=journal)

    async def _beat(self, execution: Execution) -> None:
        """Keep the lease while the run is executed, and stop it when the lease is lost or somebody asked for that."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._leases.seconds / BEATS_OF_A_LEASE):
                    await execution.is_asked_about.wait()
            execution.is_asked_about.clear()
            try:
                if await run_sync(self._leases.renew, execution.claimed.lease):
                    execution.stop(RunCancelled())
            except LeaseLost as lost:
                execution.stop(lost)
            except Unavailable:
                log.warning("lease_not_renewed")
            except Exception:
                # A defect here must not let the lease run out: this process does not take its own run over.
                log.exception("lease_not_renewed")

    async def _conclude(self, execution: Execution, answering: asyncio.Task[None]) -> str:
        """Write how the attempt ended, as far as that is this process's to write; return it for the log."""
        journal = execution.journal
        if journal.ended is not None:
            return journal.ended
        # Nobody but us may cancel it; a library that does so would otherwise have the run begun again for ever.
        error = RunCrashed() if answering.cancelled() else answering.exception()
        why = error if isinstance(error, Unavailable) else journal.interrupted or error
        try:
            match why:
                case RunCancelled():
                    await journal.cancel()
                    return "cancelled"
                case LeaseLost() | RunEnded() | NotFound():
                    log.info("run_let_go", code=why.code)
                    return "let go"
                case HandedBack():
                    await run_sync(self._leases.give_back, execution.claimed.lease)
                    return "handed back"
                case Unavailable():
                    return await self._put_off(execution.claimed.lease, why)
                case DocuTalkError():
                    log.warning("run_failed", code=why.code)
                    await journal.fail(why)
                case _:
                    log.error("run_crashed", exc_info=why)
                    await journal.fail(RunCrashed())
            return "failed"
        except (LeaseLost, RunEnded, NotFound) as gone:
            log.info("run_let_go", code=gone.code)
            return "let go"
        except Unavailable as away:
            return await self._put_off(execution.claimed.lease, away)

    async def _put_off(self, lease: Lease, why: Unavailable) -> str:
        log.warning("run_put_off", code=why.code)
        try:
            await run_sync(self._leases.put_off, lease)
        except Unavailable:
            # The lease runs out, and whoever looks then goes on.
            log.warning("run_left", code=why.code)
        return "put off"

    async def _purge(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._purged_at >= PURGE_SECONDS and not self._is_stopping:
            count = await run_sync(lambda: self._turns.purge(older_than=self._keep_events))
            if count < PURGED_AT_ONCE:
                self._purged_at = now
            if count:
                log.info("runs_purged", count=count)
