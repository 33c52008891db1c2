"""The ingestion of documents, each leased by its row, beside all other work; and the purge of deleted ones."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

import structlog
from anyio.to_thread import run_sync

from backend.documents.embedding.embedder import EmbeddingFailed
from backend.documents.ingestion.attempt import Attempt, Paused, begin
from backend.documents.ingestion.index_pages import ModelSwapped
from backend.documents.ingestion.job import Ingestor
from backend.documents.purge import Purge
from backend.errors import DocuTalkError, NotFound, Unavailable
from backend.jobs.finder import Finder
from backend.jobs.leases import Lease, LeaseLost, Leases

log = structlog.get_logger()

MOST_DOCUMENTS_OF_A_USER = 1
"""Documents of one user that are ingested at once, so that nobody's upload of many holds up the others'."""
BEATS_OF_A_LEASE = 3
STOP_SECONDS = 3.0
"""How long a process that goes down waits for the batch that is being embedded, or for the page that is being read."""
PURGE_SECONDS = 3600.0
"""How often, at most, deleted documents are purged; only beside other work, so that an idle database can sleep."""


class StoppedHere(Unavailable):
    """This process ends its part of the work; another one goes on."""

    code = "ingestion_stopped"

    def __init__(self) -> None:
        super().__init__("The server goes down. Another process goes on with the document.", retry_after=1)


@dataclass
class _Job:
    work: Attempt
    stopped: threading.Event = field(default_factory=threading.Event)
    why: DocuTalkError | None = None
    successor: Attempt | None = None
    """Another user's document, claimed to be worked on in this one's place."""

    def stop(self, why: DocuTalkError) -> None:
        if self.why is None:
            self.why = why
            self.stopped.set()


class Ingestion:
    """Ingests at most `max_concurrent` documents at once; which ones, the rows and their leases say."""

    def __init__(
        self,
        ingestor: Ingestor,
        purge: Purge,
        leases: Leases,
        *,
        max_concurrent: int,
        on_work: Callable[[], None] = lambda: None,
        on_grown: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; `on_work` is called whenever there is work, `on_grown` after each document."""
        self._ingestor = ingestor
        self._purge = purge
        self._leases = leases
        self._on_grown = on_grown
        self._slots = self._free_slots = max_concurrent
        self._jobs: dict[str, _Job] = {}
        self._tasks: dict[asyncio.Task[None], _Job] = {}
        self._claiming = asyncio.Lock()
        self._finder = Finder(self._look, on_work=on_work)
        self._is_stopping = False
        self._purged_at = float("-inf")

    async def run(self) -> None:
        """Look for documents that nobody works on, until cancelled: at the start, when told to, while any is left."""
        await self._finder.run()

    def heard(self, kind: str, _subject: str) -> None:
        """Take in what any process told."""
        # With any news a run may have ended that a purge waits for.
        if kind == "document" or self._purge.is_put_off:
            self._finder.now()

    def notice(self) -> None:
        """Say that there is a new document."""
        self._finder.now()

    def stop_claiming(self) -> None:
        """Begin no further document here."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Begin nothing more, and hand back what is under way, for another process to go on with."""
        self.stop_claiming()
        async with self._claiming:
            # Whatever was just being claimed is among the jobs now.
            jobs = {task: job for task, job in self._tasks.items() if not task.done()}
        for job in jobs.values():
            job.stop(StoppedHere())
        if not jobs:
            return
        _, late = await asyncio.wait(jobs, timeout=STOP_SECONDS)
        for task in late:
            # It waits for a provider, say, and is no more waited for; what it still writes is fenced as ever.
            task.cancel()
            await self._put_off(jobs[task].work.lease, StoppedHere())

    async def _look(self) -> bool:
        async with self._claiming:
            await self._claim_what_is_there()
        # Where none is ingested, none is looked for either: the process that does so keeps looking.
        is_any_left = bool(self._jobs) or (self._slots > 0 and await run_sync(self._ingestor.are_left))
        return await self._purge_some() or is_any_left

    async def _claim_what_is_there(self) -> None:
        while self._free_slots > 0 and not self._is_stopping:
            self._free_slots -= 1
            work = None
            try:
                busy: Sequence[str] = tuple(self._jobs)
                work = await run_sync(partial(self._leases.claim, begin, but_not=busy))
            finally:
                if work is None:
                    self._free_slots += 1
            if work is None:
                return
            self._start(work)

    def _start(self, work: Attempt) -> None:
        job = self._jobs[work.name] = _Job(work)
        task = asyncio.create_task(self._execute(job), name=f"document {work.name}")
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)

    async def _execute(self, job: _Job) -> None:
        lease = job.work.lease
        structlog.contextvars.bind_contextvars(user_id=lease.user_id, document_id=lease.id)
        started = asyncio.get_running_loop().time()
        beating = asyncio.create_task(self._beat(job))
        outcome = "crashed"
        try:
            outcome = await self._done(job)
        finally:
            beating.cancel()
            self._jobs.pop(job.work.name, None)
            self._free_slots += 1
            if job.successor is not None:
                await self._follow_with(job.successor)
            self._finder.again()
            seconds = asyncio.get_running_loop().time() - started
            log.info("document_ingested", outcome=outcome, attempt=lease.attempt, latency_ms=round(seconds * 1000))
            self._on_grown()

    async def _done(self, job: _Job) -> str:
        try:
            other = partial(self._claim_in_place_of, job)
            return await _in_thread(partial(self._ingestor.ingest, job.work, job.stopped.is_set, other))
        except (LeaseLost, NotFound) as lost:
            return await self._put_off(job.work.lease, lost)
        except Unavailable as away:
            return await self._put_off(job.work.lease, job.why or away)
        except Exception:
            # Whatever a defect or a library raised: the document says that it failed, and the service goes on.
            log.exception("ingestion_crashed")
            with suppress(DocuTalkError):
                await run_sync(self._ingestor.crashed, job.work)
            return "crashed"

    def _claim_in_place_of(self, job: _Job) -> bool:
        """Claim another user's document, if one waits and no slot is free for it. Called on the thread of the job.

        The job's own user has as many at work as one may until the job is paused, so the claim finds other users' only.
        """
        if self._free_slots > 0 or self._is_stopping or job.stopped.is_set():
            return False
        job.successor = self._leases.claim(begin, but_not=tuple(self._jobs))
        return job.successor is not None

    async def _follow_with(self, work: Attempt) -> None:
        if self._is_stopping:
            await self._put_off(work.lease, StoppedHere())
        else:
            self._free_slots -= 1
            self._start(work)

    async def _put_off(self, lease: Lease, why: DocuTalkError) -> str:
        try:
            if isinstance(why, LeaseLost | NotFound | StoppedHere | Paused):
                # A deleted document is not claimed again, and the user's next one can be; a lost lease stays as it is.
                await run_sync(self._leases.give_back, lease)
                return "let go" if isinstance(why, LeaseLost | NotFound) else "handed back"
            log.warning("ingestion_put_off", code=why.code)
            if isinstance(why, EmbeddingFailed | ModelSwapped):
                await run_sync(self._ingestor.spare, lease)
            await run_sync(self._leases.put_off, lease)
        except Unavailable:
            # The lease runs out, and whoever looks then goes on.
            log.warning("ingestion_left", code=why.code)
        return "put off"

    async def _beat(self, job: _Job) -> None:
        """Keep the lease while the document is worked on, and stop when it is lost or the document was deleted."""
        while True:
            await asyncio.sleep(self._leases.seconds / BEATS_OF_A_LEASE)
            try:
                if await run_sync(self._leases.renew, job.work.lease):
                    job.stop(LeaseLost())
            except LeaseLost as lost:
                job.stop(lost)
            except Unavailable:
                log.warning("lease_not_renewed")
            except Exception:
                # A defect here must not let the lease run out.
                log.exception("lease_not_renewed")

    async def _purge_some(self) -> bool:
        """Purge some documents if that is due, and tell whether there may be more."""
        now = asyncio.get_running_loop().time()
        is_due = self._purge.is_put_off or now - self._purged_at >= PURGE_SECONDS
        if not is_due or self._is_stopping:
            return False
        try:
            is_more = await run_sync(self._purge.some)
        except Unavailable:
            raise
        except Exception:
            # A defect here must not keep documents from being ingested.
            log.exception("purge_failed")
            is_more = False
        if not is_more:
            self._purged_at = now
        return is_more or self._purge.is_put_off


async def _in_thread(work: Callable[[], str]) -> str:
    """Return what a function returns that takes its time, in a thread of its own.

    Those of requests must not wait for it; and the process can end while it still waits for a provider.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(result: str | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result or "")

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  It is raised where the result is awaited.
            failure = error
        with suppress(RuntimeError):
            # Of a loop that was closed meanwhile.
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=copy_context().run, args=(run,), name="ingestion", daemon=True).start()
    return await done
