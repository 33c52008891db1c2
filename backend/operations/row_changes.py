"""The values that rows had before and after operations changed them.

They are kept for a time, so that changes can be undone.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlmodel import col

from backend.operations.models import Operation, RowChange
from backend.postgres.repository import UserRepository

PRUNE = "prune_row_changes"
"""The database function that removes old rows."""


class RowChanges(UserRepository[RowChange]):
    """The changes of the user's rows. A trigger records them, and the app's role can neither change nor delete them."""

    model = RowChange

    def of(self, operations: Sequence[Operation]) -> list[RowChange]:
        """Return all changes that the given operations made, in the order in which they were made."""
        mine = self._mine().where(col(RowChange.change_id).in_([operation.change_id for operation in operations]))
        return list(self._session.exec(mine.order_by(col(RowChange.id))))

    def forget(self, kind: str, row_id: int) -> None:
        """Delete all changes of a row that is removed for good."""
        forgotten = self._session.execute(
            text("select forget_changes_of(:kind, :row_id)"), {"kind": kind, "row_id": row_id}
        )
        self._written("forgotten", kind=kind, row_id=row_id, rows=int(forgotten.scalar_one()))

    def forget_document(self, document_id: int, operations: Iterable[Operation]) -> None:
        """Delete the changes that may contain a document's text.

        These are the changes of the document, of the tasks created from it, and by the given operations.
        """
        forgotten = self._session.execute(
            text("select forget_row_changes(:document_id, cast(:change_ids as uuid[]))"),
            {
                "document_id": document_id,
                "change_ids": [str(operation.change_id) for operation in operations if operation.change_id],
            },
        )
        self._written("forgotten", document_id=document_id, rows=int(forgotten.scalar_one()))
