"""Remove deleted documents for good, with every copy of their text."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from sqlalchemy import text

from backend.documents.repository import DocumentRepository
from backend.jobs.housekeeping import StillInUse, remove_each
from backend.postgres.database import GIVE_WAY_SECONDS, LOCK_SECONDS, UTC, Database, Scope

FOUND_AT_ONCE = 20
ROWS_AT_ONCE = 1000
"""The most rows that one transaction removes. For passages with their vectors, that takes about half a second."""

Key = tuple[str, int]
"""A document's user and number."""


class Purge:
    """Removes documents for good, on the caller's thread."""

    def __init__(self, database: Database, *, keep_deleted: timedelta, forget: Callable[[Scope, int], bool]) -> None:
        """`forget` erases every copy of a document's text. It returns False while a run uses the document."""
        self._database = database
        self._keep_deleted = keep_deleted
        self._forget = forget
        self.is_put_off = False
        """Whether a purge is waiting for a run to end."""

    def all_due(self) -> Iterator[int]:
        """Remove documents deleted at least `keep_deleted` ago, oldest first, and documents marked for an early purge.

        Yields the number of rows that each transaction removed.
        """
        self.is_put_off = False
        return remove_each(self._find, self._remove)

    def one(self, user_id: str, document_id: int) -> bool:
        """Remove a deleted document now, and return whether it was removed.

        A document that a run uses is not removed until that run has ended.
        """
        try:
            rows = list(self._remove((user_id, document_id), lock_seconds=LOCK_SECONDS))
        except StillInUse:
            return False
        return bool(rows)

    def _find(self, but_not: Sequence[Key]) -> list[Key]:
        with self._database.transaction(None) as session:
            found = session.execute(
                text("select user_id, id from due_documents(:before, :most, :but_not)"),
                {
                    "before": self._database.now() - self._keep_deleted,
                    "most": FOUND_AT_ONCE,
                    "but_not": [f"{user_id} {document_id}" for user_id, document_id in but_not],
                },
            )
            return [(row.user_id, int(row.id)) for row in found]

    def _remove(self, key: Key, *, lock_seconds: float = GIVE_WAY_SECONDS) -> Iterator[int]:
        user_id, document_id = key
        with self._database.scope(user_id, UTC, lock_seconds=lock_seconds) as scope:
            documents = DocumentRepository(scope)
            if documents.find_deleted(document_id) is None:
                return
            is_forgotten = self._forget(scope, document_id)
            # `purge_wanted` is committed first, so that any process can finish a purge that has begun.
            documents.delete(document_id, purge=True)
        if not is_forgotten:
            self.is_put_off = True
            raise StillInUse
        while True:
            with self._database.scope(user_id, UTC, lock_seconds=lock_seconds) as scope:
                count = DocumentRepository(scope).purge_some(document_id, most=ROWS_AT_ONCE)
            if not count:
                return
            yield count
