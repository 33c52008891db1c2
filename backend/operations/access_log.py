"""The access log: which reads outside MCP clients made, and which documents they read. It holds no document text."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from backend.operations.models import Access, CallOutcome
from backend.postgres.database import Database
from backend.postgres.repository import AccountGone, UserRepository

REMOVED_AT_ONCE = 5_000
"""The most rows that one transaction removes."""


class AccessLog(UserRepository[Access]):
    """The reads of the user's data by outside clients."""

    model = Access

    def add(
        self, *, client: str | None, tool: str, outcome: CallOutcome, milliseconds: int, document_ids: Sequence[int]
    ) -> None:
        """Record a read. It gets no number from the user's counters, so no read waits for another call.

        Raises:
            AccountGone: The user was deleted meanwhile.
        """
        self._session.add(
            Access(
                user_id=self._scope.user_id,
                client=client,
                tool=tool,
                outcome=outcome,
                milliseconds=milliseconds,
                document_ids=sorted(set(document_ids)),
            )
        )
        try:
            self._session.flush()
        except IntegrityError as error:
            raise AccountGone from error
        self._written("added")


def remove_old_accesses(database: Database, *, keep: timedelta) -> Iterator[int]:
    """Remove all users' rows older than `keep`, oldest first; yield how many rows each transaction removed."""
    removed = REMOVED_AT_ONCE
    while removed == REMOVED_AT_ONCE:
        removed = prune(database, older_than=database.now() - keep, most=REMOVED_AT_ONCE)
        yield removed


def prune(database: Database, *, older_than: datetime, most: int) -> int:
    """Remove the oldest rows from before `older_than`, for all users, at most `most`; return how many were removed."""
    with database.transaction(None) as session:
        found = session.execute(
            text("select prune_access_log(:older_than, :most)"), {"older_than": older_than, "most": most}
        )
        return int(found.scalar_one())
