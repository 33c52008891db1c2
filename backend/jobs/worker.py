"""Claim rows of a leased table, work on them, renew their leases, and give back unfinished rows."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol

import structlog
from anyio.to_thread import run_sync
from sqlmodel import Session

from backend.errors import DocuTalkError, NotFound, Unavailable
from backend.jobs.finder import Finder
from backend.jobs.leases import Begun, Lease, LeaseLost, Leases

log = structlog.get_logger()

BEATS_OF_A_LEASE = 3
"""A lease is renewed this many times in the period for which it is valid."""
LAST_STEP_SECONDS = 2.0
"""How many seconds a process that is shutting down waits for the current steps to end."""
HAND_BACK_SECONDS = 1.0
"""How many seconds a process that is shutting down then waits to give back its remaining rows. The wait is limited
because the database may hang."""


class HandedBack(Unavailable):
    """This process stops working on the row.

    Any process may claim the row, and the attempt does not count as fruitless.
    """

    code = "handed_back"

    def __init__(self, why: str = "This server goes down. Another one continues the work.") -> None:
        super().__init__(why, retry_after=1)


class Job(Protocol):
    """One attempt at the work on a row."""

    @property
    def lease(self) -> Lease:
        """The lease of this attempt."""

    @property
    def log_fields(self) -> dict[str, Any]:
        """Fields to add to the log line for the job's end."""

    @property
    def is_work_left(self) -> bool:
        """Whether the end of this attempt makes another row of the same user claimable."""

    async def work(self) -> str:
        """Do the work, and return how it ended, for the log.

        Raises:
            Unavailable: The row cannot be finished now. After `HandedBack` or `LeaseLost`, it can be claimed at once;
                after any other error, only after a pause.
            NotFound: The row is gone, or is about to be deleted.
        """

    def stop(self, why: DocuTalkError) -> None:
        """Stop after the current step. `work` then raises `why`, or an error from that step."""


@dataclass(eq=False)
class _Held(Generic[Begun]):
    """A row that this process works on."""

    job: Job
    check_now: asyncio.Event = field(default_factory=asyncio.Event)
    """Set this event to check at once, before the next renewal, whether the work should stop."""
    successor: Begun | None = None
    """The next row for this job's slot, if it was already claimed. Work on it starts when this job ends."""


class LeasedWorker(ABC, Generic[Begun]):
    """Works on up to `slots` rows of one table at once. The database decides which process gets which row."""

    def __init__(
        self,
        leases: Leases,
        *,
        slots: int,
        on_work: Callable[[], None] = lambda: None,
        on_ended: Callable[[], None] = lambda: None,
        idle_seconds: float | None = None,
    ) -> None:
        """Set up a worker.

        Args:
            leases: The leases on the table's rows.
            slots: The most rows to work on at once.
            on_work: Called when any process has a row to work on.
            on_ended: Called after each job.
            idle_seconds: How often to look for rows while there is no work, in seconds. If None, look only on request.
        """
        self._leases = leases
        self._noun = leases.table.noun
        self._slots = self._free_slots = slots
        self._on_ended = on_ended
        self._is_more_waiting = False
        """Whether there may be a row that waits only for a free slot in this process."""
        self._held: dict[str, _Held[Begun]] = {}
        self._tasks: dict[asyncio.Task[None], _Held[Begun]] = {}
        self._claiming = asyncio.Lock()
        self._is_stopping = False
        self._finder = Finder(self._look, on_work=on_work, idle_seconds=idle_seconds)

    @abstractmethod
    def _begin(self, session: Session, lease: Lease) -> Begun:
        """Begin an attempt at a row, in the transaction that claims the row. Return the data for `_job`."""

    @abstractmethod
    def _job(self, begun: Begun) -> Job:
        """Return the job for an attempt, from the data that `_begin` returned."""

    @property
    def _may_claim(self) -> bool:
        """Whether this process can currently work on a row."""
        return True

    def _cancelled(self) -> DocuTalkError:
        """Return the error with which a job is stopped after its row was cancelled."""
        return HandedBack()

    async def run(self) -> None:
        """Look for rows that no process works on, until cancelled."""
        await self._finder.run()

    def look_now(self) -> None:
        """Look for rows at once, because a row is waiting and no process works on it."""
        self._finder.look_now()

    def look_soon(self) -> None:
        """Look for rows in a few seconds, because there may be an unfinished row."""
        self._finder.look_soon()

    def check_cancel(self, name: str) -> None:
        """Check at once whether the work on a row should stop, if this process works on that row."""
        if (held := self._held.get(name)) is not None:
            held.check_now.set()

    def take_slot(self) -> bool:
        """Take a free slot for a row that this process is about to lease; return False if no slot is free."""
        if self._is_stopping or self._free_slots == 0:
            self._is_more_waiting = True
            return False
        self._free_slots -= 1
        return True

    def free_slot(self, *, is_work_left: bool = False) -> None:
        """Free a slot, and look for another row if one may be waiting."""
        self._free_slots += 1
        if is_work_left or self._is_more_waiting:
            self._finder.look_again()

    def start(self, begun: Begun) -> None:
        """Start working on a row. The row must be leased to this process, and a slot must have been taken for it."""
        job = self._job(begun)
        name = self._leases.name_of(job.lease)
        if (earlier := self._held.get(name)) is not None:
            # This process was delayed until its own lease had run out, and has now claimed the row a second time.
            earlier.job.stop(LeaseLost())
        held = self._held[name] = _Held(job)
        if self._is_stopping:
            # The row was claimed just as the process began to shut down.
            job.stop(HandedBack())
        task = asyncio.create_task(self._execute(name, held), name=f"{self._noun} {name}")
        self._tasks[task] = held
        task.add_done_callback(self._tasks.pop)

    def stop_claiming(self) -> None:
        """Claim no more rows."""
        self._is_stopping = True

    async def stop(self, *, seconds: float = 0.0) -> None:
        """Wait up to `seconds` for the jobs to end; then stop the remaining jobs and give back their rows."""
        self.stop_claiming()
        await self._ended(seconds)
        for held in list(self._held.values()):
            held.job.stop(HandedBack())
        await self._ended(LAST_STEP_SECONDS)
        late = []
        for task, held in list(self._tasks.items()):
            # The job may be waiting for a provider. A late write does no harm, because every write checks the attempt's
            # number. A late removal by a chore does no harm, because the rows were due anyway.
            task.cancel()
            late.append(asyncio.create_task(self._let_go(held.job.lease, HandedBack())))
        if late:
            await asyncio.wait(late, timeout=HAND_BACK_SECONDS)

    def _claim_for_slot_of(self, job: Job) -> bool:
        """Claim another row for a job's slot, and return whether a row was claimed.

        Work on the new row starts when the job ends. If any slot is free, nothing is claimed. Call this on the job's
        own thread.
        """
        held = self._held.get(self._leases.name_of(job.lease))
        if held is None or held.job is not job or self._free_slots > 0 or self._is_stopping:
            return False
        held.successor = self._leases.claim(self._begin, but_not=tuple(self._held))
        return held.successor is not None

    async def _ended(self, seconds: float) -> None:
        """Wait at most `seconds` for the current claim and the current jobs to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._claiming:
                # If a row was being claimed, its task is in `_tasks` by now.
                if self._tasks:
                    await asyncio.wait(self._tasks)

    async def _look(self) -> bool:
        if self._slots == 0:
            # This process has no slots, so it does not look for rows.
            return False
        async with self._claiming:
            await self._claim_what_is_there()
        return bool(self._held) or await run_sync(self._leases.are_any_left)

    async def _claim_what_is_there(self) -> None:
        while self._may_claim and self.take_slot():
            begun = None
            try:
                begun = await run_sync(partial(self._leases.claim, self._begin, but_not=tuple(self._held)))
            finally:
                if begun is None:
                    self._free_slots += 1
            if begun is None:
                self._is_more_waiting = False
                return
            self.start(begun)

    async def _execute(self, name: str, held: _Held[Begun]) -> None:
        job, lease = held.job, held.job.lease
        structlog.contextvars.bind_contextvars(
            **{"user_id": lease.user_id} if lease.user_id else {}, **{f"{self._noun}_id": lease.id}
        )
        if lease.attempt > 1:
            log.info(f"{self._noun}_claimed_again", attempt=lease.attempt)
        started = asyncio.get_running_loop().time()
        beating = asyncio.create_task(self._beat(held))
        outcome = "left"
        try:
            outcome = await self._outcome(job)
        finally:
            beating.cancel()
            if self._held.get(name) is held:
                del self._held[name]
            if held.successor is None:
                self.free_slot(is_work_left=job.is_work_left)
            else:
                self.start(held.successor)
                self._finder.look_again()
            seconds = asyncio.get_running_loop().time() - started
            log.info(
                f"{self._noun}_finished",
                outcome=outcome,
                attempt=lease.attempt,
                latency_ms=round(seconds * 1000),
                **job.log_fields,
            )
            self._on_ended()

    async def _outcome(self, job: Job) -> str:
        try:
            return await job.work()
        except (Unavailable, NotFound) as why:
            return await self._let_go(job.lease, why)
        except Exception:
            # A bug in one job must neither leave the job's row leased nor end the other jobs.
            log.exception(f"{self._noun}_crashed")
            await self._let_go(job.lease, Unavailable("Something went wrong on our side.", retry_after=1))
            return "crashed"

    async def _let_go(self, lease: Lease, why: DocuTalkError) -> str:
        """Give the row back. If the attempt itself failed, the row must wait before the next attempt."""
        try:
            if isinstance(why, HandedBack | LeaseLost | NotFound):
                # After a lost lease this changes nothing, because the attempt's number no longer matches. After a
                # document was deleted, it lets the same user's next document be claimed.
                await run_sync(self._leases.give_back, lease)
                if isinstance(why, HandedBack):
                    return "handed back"
                log.info(f"{self._noun}_let_go", code=why.code)
                return "let go"
            log.warning(f"{self._noun}_put_off", code=why.code)
            await run_sync(self._leases.put_off, lease)
        except Unavailable:
            # Nothing could be written. The lease will run out, and another process will claim the row.
            log.warning(f"{self._noun}_left", code=why.code)
        return "put off"

    async def _beat(self, held: _Held[Begun]) -> None:
        """Renew the lease until cancelled; stop the job if the lease is lost or the row was cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._leases.seconds / BEATS_OF_A_LEASE):
                    await held.check_now.wait()
            held.check_now.clear()
            try:
                if await run_sync(self._leases.renew, held.job.lease):
                    held.job.stop(self._cancelled())
            except LeaseLost as lost:
                held.job.stop(lost)
            except Unavailable:
                log.warning("lease_not_renewed")
            except Exception:
                # A bug must not end the renewals: the lease would run out, and this process does not claim rows that it
                # already works on.
                log.exception("lease_not_renewed")
