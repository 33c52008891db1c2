"""One attempt at a document, on its own thread."""

import threading
from collections.abc import Callable
from typing import Any

import structlog
from anyio.to_thread import run_sync

from backend.documents.ingestion.attempt import Attempt
from backend.documents.ingestion.ingestor import Ingestor
from backend.errors import DocuTalkError, Unavailable
from backend.jobs.leases import Lease
from backend.jobs.threads import in_own_thread

log = structlog.get_logger()


class DocumentJob:
    """A document that this process ingests."""

    is_work_left = True
    """Whether the user's next document can be claimed."""

    def __init__(self, ingestor: Ingestor, work: Attempt, claim_other: Callable[["DocumentJob"], bool]) -> None:
        """`claim_other` claims another user's waiting document for this job's slot, and returns whether it did."""
        self._ingestor = ingestor
        self._work = work
        self._claim_other = claim_other
        self._stopped = threading.Event()
        self._why: DocuTalkError | None = None

    @property
    def lease(self) -> Lease:
        """The lease that this attempt works under."""
        return self._work.lease

    @property
    def log_fields(self) -> dict[str, Any]:
        """No additional fields, because only the outcome is logged."""
        return {}

    def stop(self, why: DocuTalkError) -> None:
        """Stop after the page that is being read, or the few passages that are being embedded."""
        if self._why is None:
            self._why = why
            self._stopped.set()

    async def work(self) -> str:
        """Ingest the document, and return `ready`, `failed` or `crashed`.

        Raises:
            Unavailable: The document cannot be finished in this process now.
        """
        try:
            return await in_own_thread(self._ingest)
        except Unavailable as away:
            raise self._why or away from None
        except Exception:
            # A defect or a library may raise anything. The document is marked as failed, and the service goes on.
            log.exception("ingestion_crashed")
            await run_sync(self._ingestor.crashed, self._work)
            return "crashed"

    def _ingest(self) -> str:
        if self._why is not None:
            raise self._why
        return self._ingestor.ingest(self._work, self._stopped.is_set, self._is_other_claimed)

    def _is_other_claimed(self) -> bool:
        return not self._stopped.is_set() and self._claim_other(self)
