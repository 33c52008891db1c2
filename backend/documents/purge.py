"""Deleted documents are purged: their rows go, and their text wherever else some was kept."""

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import text

from backend.documents.repository import DocumentRepository
from backend.postgres.database import UTC, Database, Scope

PURGED_AT_ONCE = 20


class Purge:
    """Removes documents for good, on the thread of whoever calls."""

    def __init__(self, database: Database, *, keep_deleted: timedelta, forget: Callable[[Scope, int], bool]) -> None:
        """Take the parts; `forget` blanks a deleted document's text wherever else it is kept, or says not yet."""
        self._database = database
        self._keep_deleted = keep_deleted
        self._forget = forget
        self.is_put_off = False
        """Whether a purge that was asked for has to wait for the end of a run."""

    def some(self) -> bool:
        """Remove some documents that were deleted long ago, and tell whether there may be more."""
        self.is_put_off = False
        before = self._database.now() - self._keep_deleted
        with self._database.transaction(None) as session:
            found = session.execute(
                text("select user_id, id from purgeable_documents(:before, :most)"),
                {"before": before, "most": PURGED_AT_ONCE},
            ).all()
        purged = [self.one(row.user_id, int(row.id)) for row in found]
        return len(found) == PURGED_AT_ONCE and any(purged)

    def one(self, user_id: str, document_id: int) -> bool:
        """Remove a deleted document and blank its text wherever some was kept; return whether that could be done.

        While a run still works with it, it stays, and is the first that `some` removes later.
        """
        with self._database.scope(user_id, UTC) as scope:
            documents = DocumentRepository(scope)
            if documents.find_deleted(document_id) is None:
                return False
            if not self._forget(scope, document_id):
                self.is_put_off = True
                documents.delete(document_id, purge=True)
                return False
            documents.purge(document_id)
        return True
