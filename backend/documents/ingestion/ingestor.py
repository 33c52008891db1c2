"""One document's ingestion: its bytes become pages, its pages passages, each batch in a transaction of its own.

What is committed is never done again.
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
        """Take the parts."""
        self._database = database
        self._pages = PageReader(database, limits=limits)
        self._indexer = PageIndexer(database, embeddings)
        self._keeps_originals = keeps_originals

    def ingest(self, work: Attempt, is_stopped: Stopped, is_other_waiting: IsOtherWaiting = lambda: False) -> str:
        """Go on with a document until it is ready or failed, and return which.

        Raises:
            LeaseLost: Somebody else works on it now, or it is gone.
            Paused: Another user's document comes first; `is_other_waiting` is asked after each slice of passages.
            Unavailable: It cannot be finished now.
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
        """Mark a document as failed by a defect of ours."""
        self._end(
            work,
            status="failed",
            reason="Something went wrong on our side while reading it. Upload it again, or in another format.",
        )

    def _spare(self, lease: Lease) -> None:
        """Do not let an attempt that failed through the embedding model lead to giving the document up."""
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
            # The row decides, so that bytes and row agree: the upload may have come under another rule than today's.
            session.execute(
                text(
                    "delete from document_bytes where user_id = :user_id and document_id = :id and not "
                    "(select is_original_kept from documents where user_id = :user_id and id = :id)"
                ),
                {"user_id": work.lease.user_id, "id": work.lease.id},
            )
