"""Ingest one document: read its bytes into pages, and cut its pages into passages. Each batch is one transaction.

Committed work is never repeated.
"""

from sqlalchemy import text

from backend.documents.embedding.current import Embeddings
from backend.documents.embedding.embedder import EmbeddingFailed
from backend.documents.ingestion.attempt import FENCE, Attempt, IsOtherWaiting, Stopped, step
from backend.documents.ingestion.index_pages import ModelSwapped, PageIndexer
from backend.documents.ingestion.read_pages import PageReader
from backend.documents.reading.reader import Limits, Unreadable
from backend.errors import DocuTalkError, Unavailable
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS, Lease
from backend.postgres.database import Database


class Ingestor:
    """Ingests documents, on the caller's thread."""

    def __init__(self, database: Database, embeddings: Embeddings, *, limits: Limits, keeps_originals: bool) -> None:
        """Limit reading by `limits`. Without `keeps_originals`, delete a file's bytes when its ingestion ends."""
        self._database = database
        self._pages = PageReader(database, limits=limits)
        self._indexer = PageIndexer(database, embeddings)
        self._keeps_originals = keeps_originals

    def ingest(self, work: Attempt, is_stopped: Stopped, is_other_waiting: IsOtherWaiting = lambda: False) -> str:
        """Continue a document until it is ready or failed, and return `ready` or `failed`.

        After each slice of passages, `is_other_waiting` is called.

        Raises:
            LeaseLost: Another process works on the document now, or the document is gone.
            Paused: `is_other_waiting` returned true, so another user's document comes first.
            Unavailable: The document cannot be finished now.
        """
        try:
            if work.lease.is_hopeless:
                raise Unreadable(
                    f"It could not be read: {MOST_FRUITLESS_ATTEMPTS} attempts came to nothing. "
                    "Upload it again, or in another format."
                )
            if not work.is_read:
                work = self._pages.read(work, is_stopped)
            self._indexer.index(work, is_stopped, is_other_waiting)
        except (EmbeddingFailed, ModelSwapped):
            self._spare(work.lease)
            raise
        except Unavailable:
            raise
        except DocuTalkError as error:
            self._end(work, status="failed", reason=str(error))
            return "failed"
        self._end(work, status="ready", reason=None)
        return "ready"

    def crashed(self, work: Attempt) -> None:
        """Mark a document as failed because of a defect in the service."""
        self._end(
            work,
            status="failed",
            reason="Something went wrong on our side while reading it. Upload it again, or in another format.",
        )

    def _spare(self, lease: Lease) -> None:
        """Lower the count of fruitless attempts so that a failing embedding model never makes the document fail."""
        with self._database.transaction(lease.user_id) as session:
            session.execute(
                text(f"update documents set fruitless = least(fruitless, :most) where {FENCE}"),  # noqa: S608
                {
                    "user_id": lease.user_id,
                    "id": lease.id,
                    "attempt": lease.attempt,
                    "most": MOST_FRUITLESS_ATTEMPTS - 1,
                },
            )

    def _end(self, work: Attempt, *, status: str, reason: str | None) -> None:
        with self._database.transaction(work.lease.user_id) as session:
            step(
                session,
                work.lease,
                "status = :status, reason = :reason, ended_at = now(), lease_owner = null, lease_until = null, "
                "is_original_kept = is_original_kept and :keeps_originals, "
                "pages_cut = case when :status = 'ready' then pages_read else pages_cut end",
                status=status,
                reason=reason,
                keeps_originals=self._keeps_originals,
            )
            # The row decides, so that the bytes and the row agree: the rule may have changed since the upload.
            session.execute(
                text(
                    "delete from document_bytes where user_id = :user_id and document_id = :id and not "
                    "(select is_original_kept from documents where user_id = :user_id and id = :id)"
                ),
                {"user_id": work.lease.user_id, "id": work.lease.id},
            )
