"""The ingestion worker: claims documents and ingests them, in parallel with all other work."""

from collections.abc import Callable

from sqlmodel import Session

from backend.documents.ingestion.attempt import Attempt, begin
from backend.documents.ingestion.ingestor import Ingestor
from backend.documents.ingestion.job import DocumentJob
from backend.errors import DocuTalkError, NotFound
from backend.jobs.leases import Lease, Leases
from backend.jobs.worker import LeasedWorker


class IngestionWorker(LeasedWorker[Attempt]):
    """Ingests at most `max_concurrent` documents at once."""

    def __init__(
        self,
        ingestor: Ingestor,
        leases: Leases,
        *,
        max_concurrent: int,
        on_work: Callable[[], None] = lambda: None,
        on_grown: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_work` is called whenever there is a document to ingest; `on_grown` is called after each document."""
        super().__init__(leases, slots=max_concurrent, on_work=on_work, on_ended=on_grown)
        self._ingestor = ingestor

    def _begin(self, session: Session, lease: Lease) -> Attempt:
        return begin(session, lease)

    def _job(self, begun: Attempt) -> DocumentJob:
        return DocumentJob(self._ingestor, begun, self._claim_for_slot_of)

    def _cancelled(self) -> DocuTalkError:
        return NotFound("The document was deleted.")
