"""The access log: the reads by outside MCP clients, and which documents they read. It holds no document text."""

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError

from backend.operations.models import Access, CallOutcome
from backend.postgres.repository import AccountGone, UserRepository

PRUNE = "prune_access_log"
"""The database function that removes old rows."""


class AccessLog(UserRepository[Access]):
    """The user's rows in the access log."""

    model = Access

    def add(
        self, *, client: str | None, tool: str, outcome: CallOutcome, milliseconds: int, document_ids: Sequence[int]
    ) -> None:
        """Record a read.

        Its id does not come from the user's counters, on which concurrent reads would wait for each other.

        Raises:
            AccountGone: The user was deleted in the meantime.
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
