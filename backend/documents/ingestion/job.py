"""One document's ingestion: its bytes become pages, its pages passages, each batch in a transaction of its own.

What is committed is never done again.
"""

from sqlalchemy import text

from backend.documents.embedding.current import Embeddings
from backend.documents.ingestion.attempt import FENCE, Attempt, IsOtherWaiting, Stopped, step
from backend.documents.ingestion.index_pages import Indexing
from backend.documents.ingestion.read_pages import Paging
from backend.documents.reading.reader import Limits, Unreadable
from backend.errors import DocuTalkError, Unavailable
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS, Lease, LeaseLost
from backend.postgres.database import Database


class Ingestor:
    """Does the work of ingestion, on the thread of whoever calls."""

    def __init__(self, database: Database, embeddings: Embeddings, *, limits: Limits, keeps_originals: bool) -> None:
        """Take the parts."""
        self._database = database
        self._paging = Paging(database, limits=limits)
        self._indexing = Indexing(database, embeddings)
        self._keeps_originals = keeps_originals

    def are_left(self) -> bool:
        """Tell whether any document of anybody is still to be ingested."""
        with self._database.transaction(None) as session:
            return bool(session.execute(text("select is_any_document_left()")).scalar_one())

    def ingest(self, work: Attempt, is_stopped: Stopped, is_other_waiting: IsOtherWaiting = lambda: False) -> str:
        """Go on with a document until it is ready or failed, and return which.

        Raises:
            LeaseLost: Somebody else works on it now, or it is gone.
            Paused: `is_other_waiting` said so, which is asked after each slice of passages.
            Unavailable: It cannot be finished now.
        """
        try:
            if work.lease.is_hopeless:
                raise Unreadable(
                    f"It could not be read: {MOST_FRUITLESS_ATTEMPTS} attempts came to nothing. "
                    "Upload it again, or in another format."
                )
            if not work.is_read:
                work = self._paging.read(work, is_stopped)
            self._indexing.index(work, is_stopped, is_other_waiting)
        except (LeaseLost, Unavailable):
            raise
        except DocuTalkError as error:
            self._end(work, status="failed", reason=str(error))
            return "failed"
        self._end(work, status="ready", reason=None)
        return "ready"

    def crashed(self, work: Attempt) -> None:
        """Say of a document that a defect of ours kept it from being read."""
        self._end(
            work,
            status="failed",
            reason="Something went wrong on our side while reading it. Upload it again, or in another format.",
        )

    def spare(self, lease: Lease) -> None:
        """Let an attempt that failed by no fault of the document's not lead to its being given up."""
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
