"""What undo knows of each kind of row: which part of a row a user sees, and how to restore and remove a row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from backend.conversations.models import Conversation
from backend.conversations.repository import ConversationRepository
from backend.documents.models import Document
from backend.documents.repository import DocumentRepository
from backend.postgres.database import Scope
from backend.postgres.repository import Owned
from backend.tasks.models import Task
from backend.tasks.repository import TaskRepository, content_of
from backend.workspace.conversations import hide

Kind = Literal["task", "document", "conversation"]
Content = dict[str, Any]
"""The part of a row that a user sees. If two versions of a row have equal content, they count as the same."""
Row = TypeVar("Row", bound=Owned)


@dataclass(frozen=True, slots=True)
class Undoable(Generic[Row]):
    """One kind of row."""

    model: type[Row]
    content: Callable[[Row], Content | None]
    """Returns a row's content, or None if the row is deleted, although it is still in its table."""
    find: Callable[[Scope, int], Row | None]
    """Returns a row by its number, locked until the transaction ends, or None if it is not in its table."""
    restore: Callable[[Scope, Row], object]
    """Gives a row the values that it had; a deleted row comes back."""
    remove: Callable[[Scope, int], object]
    """Deletes a row, in the way in which a user deletes it."""

    def recorded(self, values: dict[str, Any] | None) -> Content | None:
        """Return the content of a row whose values were recorded; None if there was no row."""
        return None if values is None else self.content(self.model.model_validate(values))

    def now(self, scope: Scope, number: int) -> Content | None:
        """Return a row's current content, and lock the row; None if the row is deleted."""
        row = self.find(scope, number)
        return None if row is None else self.content(row)

    def set(self, scope: Scope, number: int, values: dict[str, Any] | None) -> None:
        """Give a row its recorded values; delete it if there was no row or only a deleted one."""
        if values is None or self.recorded(values) is None:
            self.remove(scope, number)
        else:
            self.restore(scope, self.model.model_validate(values))


UNDOABLE: dict[Kind, Undoable[Any]] = {
    "task": Undoable(
        Task,
        content=content_of,
        find=lambda scope, number: TaskRepository(scope).find(number),
        restore=lambda scope, former: TaskRepository(scope).restore(former),
        remove=lambda scope, number: TaskRepository(scope).delete(number),
    ),
    # A user cannot change a document, only add and delete it.
    "document": Undoable(
        Document,
        content=lambda row: None if row.deleted_at is not None else {"sha256": row.sha256},
        find=lambda scope, number: DocumentRepository(scope).find(number),
        restore=lambda scope, former: DocumentRepository(scope).restore(former.id),
        remove=lambda scope, number: DocumentRepository(scope).delete(number),
    ),
    "conversation": Undoable(
        Conversation,
        content=lambda row: None if row.deleted_at is not None else {"title": row.title},
        find=lambda scope, number: ConversationRepository(scope).find(number, lock=True),
        restore=lambda scope, former: ConversationRepository(scope).restore(former.id, title=former.title),
        remove=lambda scope, number: hide(number, scope),
    ),
}
"""Everything that can be undone, by the kind that the trigger records."""
