"""The worker for runs. It accepts messages, and executes their runs and any other runs that no process works on."""

from collections.abc import Callable

from anyio.to_thread import run_sync
from sqlmodel import Session

from backend.errors import DocuTalkError
from backend.identity.caller import Caller
from backend.jobs.leases import Lease, Leases
from backend.jobs.worker import LeasedWorker
from backend.postgres.database import Database
from backend.runs.attempt import Assistant, Claimed
from backend.runs.ending import RunCancelled
from backend.runs.execution import Execution
from backend.runs.journal import Journal, unbroken
from backend.runs.live import Live
from backend.runs.models import Run
from backend.runs.turns import Turn, Turns


class RunWorker(LeasedWorker[Claimed]):
    """Executes at most `max_concurrent` runs at once, independently of the requests that started the runs."""

    def __init__(
        self,
        database: Database,
        turns: Turns,
        leases: Leases,
        assistant: Assistant,
        live: Live,
        *,
        max_concurrent: int,
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up the worker. `on_work` is called whenever there is an unfinished run."""
        super().__init__(leases, slots=max_concurrent, on_work=on_work)
        self._database = database
        self._turns = turns
        self._assistant = assistant
        self._live = live

    @property
    def _may_claim(self) -> bool:
        """Whether the model is ready. Until it is, this process leaves waiting runs to other processes."""
        return self._assistant.is_ready

    async def accept(
        self, caller: Caller, message: str, *, conversation_id: int | None, idempotency_key: str | None = None
    ) -> Turn:
        """Accept a message. Start its run in this process if there is a free slot and no earlier run must end first.

        Raises the same errors as `Turns.accept`.
        """
        return await unbroken(self._accept(caller, message, conversation_id, idempotency_key))

    async def cancel(self, caller: Caller, run_id: str) -> Run:
        """Stop one of the caller's runs, in whichever process it runs. Raises the same errors as `Turns.cancel`."""
        run = await run_sync(self._turns.cancel, caller, run_id)
        self.notified("cancel" if run.ended_at is None else "work", run_id)
        return run

    def notified(self, kind: str, run_id: str) -> None:
        """Handle a notification that a run has new events, can be claimed, or should stop."""
        self._live.wake(run_id)
        if kind == "cancel":
            # Check the row, because anybody with a database connection can send a notification.
            self.check_cancel(run_id)
        if kind == "work":
            self.look_now()
        else:
            self.look_soon()

    async def _accept(
        self, caller: Caller, message: str, conversation_id: int | None, idempotency_key: str | None
    ) -> Turn:
        has_slot = self._assistant.is_loaded and self.take_slot()
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
                self.free_slot()
        if claimed is not None:
            self.start(claimed)
        elif turn.is_new:
            # The run that the new run waits for may have ended while the new run was accepted.
            self._finder.look_again()
        self.look_soon()
        return turn

    def _begin(self, session: Session, lease: Lease) -> Claimed:
        return self._turns.attempts.begin(session, lease)

    def _cancelled(self) -> DocuTalkError:
        return RunCancelled()

    def _job(self, begun: Claimed) -> Execution:
        journal = Journal(
            self._database,
            self._live,
            caller=begun.caller,
            conversation_id=begun.conversation_id,
            lease=begun.lease,
            still_there=self._turns.still_there,
            transcript=begun.transcript,
            stored=begun.stored,
        )
        return Execution(self._assistant, begun, journal)
