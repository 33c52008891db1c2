"""Undo: give rows back the values that they had before an operation, or before all operations of a turn."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from backend.conversations.models import Conversation
from backend.conversations.repository import ConversationRepository
from backend.documents.models import Document
from backend.documents.repository import DocumentRepository
from backend.errors import Conflict, InvalidInput
from backend.operations.ledger import Ledger
from backend.operations.models import Operation, RowChange
from backend.operations.row_changes import RowChanges
from backend.operations.tool import tool
from backend.plain_text import NUMBER, ONE_LINE
from backend.postgres.database import Scope
from backend.postgres.repository import LARGEST_ID
from backend.runs.repository import RunRepository
from backend.tasks.models import Task
from backend.tasks.repository import TaskRepository, content_of
from backend.workspace.conversations import hide

LONGEST_VALUE = 80
"""How many characters of a value are shown in an error message."""

OperationId = Annotated[
    int, Field(ge=1, le=LARGEST_ID, description="The operation_id that a change returned; by default the last."), NUMBER
]
RunId = Annotated[
    str,
    Field(max_length=64, description="A run, to undo all changes of its turn."),
    ONE_LINE,
]
DryRun = Annotated[bool, Field(description="Only report what would be undone.")]

Kind = Literal["task", "document", "conversation"]
Content = dict[str, Any]
"""The part of a row that a user sees. If two versions of a row have equal content, they count as the same."""


class RowUndone(BaseModel):
    """One row, and what undoing does to it."""

    kind: Kind
    id: int
    title: str | None = Field(description="The title of the task or conversation; null for a document.")
    change: Literal["restored", "changed back", "removed"]


class Undone(BaseModel):
    """What was undone."""

    status: Literal["undone", "dry_run"]
    undone: list[int] = Field(description="The numbers of the operations.")
    rows: list[RowUndone]


class NothingToUndo(Conflict):
    """No change can be undone."""

    code = "nothing_to_undo"


class AlreadyUndone(Conflict):
    """The operation is already undone."""

    code = "already_undone"

    def __init__(self) -> None:
        super().__init__("That was undone before.", hint="To bring the change back, undo the operation that undid it.")


class ChangedSince(Conflict):
    """A row was changed again after the operation. Undoing the operation would lose the later change."""

    code = "changed_since"


@dataclass(frozen=True, slots=True)
class Change:
    """What the undone operations did to one row: its values before the first of them, and after the last."""

    kind: Kind
    id: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@tool(title="Undo a change", writes=True, destructive=True, idempotent=False)
def undo(
    scope: Scope, operation_id: OperationId | None = None, run_id: RunId | None = None, dry_run: DryRun = False
) -> Undone:
    """Undo a change: what was added goes, what was changed gets its former values, what was deleted comes back.

    Use it when the user wants something undone or brought back. Without arguments it undoes the user's last change, by
    any client; pass the operation_id of an earlier change. An undo can be undone itself.
    """
    if operation_id is not None and run_id is not None:
        raise InvalidInput("Say one change or one turn, not both.", hint="Give operation_id or run_id.")
    ledger = Ledger(scope)
    ledger.wait_for_other_undos()
    operations = [_undoable(ledger.get(operation_id))] if operation_id else ledger.undoable(run_id=run_id)
    if run_id is not None and not operations:
        RunRepository(scope).get(run_id)
    changes = _together(RowChanges(scope).of(operations))
    if not changes:
        raise NothingToUndo(
            "There is nothing to undo.", hint="Only changes of tasks, documents and conversations can be undone."
        )
    rows = [_undo(change, scope, dry_run=dry_run) for change in reversed(changes)]
    if not dry_run:
        ledger.mark_undone(operations)
    return Undone(
        status="dry_run" if dry_run else "undone", undone=[operation.id for operation in operations], rows=rows
    )


def _undoable(operation: Operation) -> Operation:
    if operation.undone_by is not None:
        raise AlreadyUndone
    return operation


def _together(changes: Iterable[RowChange]) -> list[Change]:
    """Combine the changes of each row into one, and return them in the order of the rows' last changes.

    Raises:
        ChangedSince: Between two of the given changes of a row, another operation changed the row.
    """
    rows: dict[tuple[str, int], Change] = {}
    for change in changes:
        key = (change.kind, change.row_id)
        earlier = rows.pop(key, None)
        if earlier is not None:
            _require_equal(earlier, _CONTENT[change.kind](change.before))
        before = change.before if earlier is None else earlier.before
        rows[key] = Change(change.kind, change.row_id, before, change.after)  # type: ignore[arg-type]
    return list(rows.values())


def _undo(change: Change, scope: Scope, *, dry_run: bool) -> RowUndone:
    """Give one row its former values. With `dry_run`, only check that this is possible."""
    content = _CONTENT[change.kind]
    _require_equal(change, _NOW[change.kind](scope, change.id))
    before, after = content(change.before), content(change.after)
    if not dry_run and before != after:
        _set(change, scope, is_there=before is not None)
    return RowUndone(
        kind=change.kind,
        id=change.id,
        title=(before or after or {}).get("title"),
        change="removed" if before is None else "restored" if after is None else "changed back",
    )


def _set(change: Change, scope: Scope, *, is_there: bool) -> None:
    match change.kind, is_there:
        case "task", True:
            TaskRepository(scope).restore(Task.model_validate(change.before))
        case "task", False:
            TaskRepository(scope).delete(change.id)
        case "document", True:
            DocumentRepository(scope).restore(change.id)
        case "document", False:
            DocumentRepository(scope).delete(change.id)
        case "conversation", True:
            former = Conversation.model_validate(change.before)
            ConversationRepository(scope).restore(change.id, title=former.title)
        case "conversation", False:
            hide(change.id, scope)


def _require_equal(change: Change, now: Content | None) -> None:
    """Raise ChangedSince, with both versions, if a row's content differs from the content after the change."""
    then = _CONTENT[change.kind](change.after)
    if then == now:
        return
    name = f"{change.kind.capitalize()} {change.id}"
    if then is None or now is None:
        raise ChangedSince(f"{name} was {'deleted' if now is None else 'added again'} since, so nothing was undone.")
    differing = [field for field in then if then[field] != now[field]]
    raise ChangedSince(
        f"{name} has changed since, so nothing was undone. It had {_told(then, differing)}; now it has "
        f"{_told(now, differing)}."
    )


def _told(content: Content, fields: list[str]) -> str:
    return ", ".join(f"{field.replace('_', ' ')} “{str(content[field])[:LONGEST_VALUE]}”" for field in fields)


def _task_content(image: dict[str, Any] | None) -> Content | None:
    return None if image is None else content_of(Task.model_validate(image))


def _document_content(image: dict[str, Any] | None) -> Content | None:
    """Return the part of a document that never changes, or None if the document is deleted."""
    return None if image is None else _shown(Document.model_validate(image))


def _conversation_content(image: dict[str, Any] | None) -> Content | None:
    """Return a conversation's title; a deleted conversation counts as gone."""
    return None if image is None else _titled(Conversation.model_validate(image))


def _task_now(scope: Scope, task_id: int) -> Content | None:
    task = TaskRepository(scope).find(task_id)
    return None if task is None else content_of(task)


def _document_now(scope: Scope, document_id: int) -> Content | None:
    document = DocumentRepository(scope).find(document_id)
    return None if document is None else _shown(document)


def _conversation_now(scope: Scope, conversation_id: int) -> Content | None:
    conversation = ConversationRepository(scope).find(conversation_id, lock=True)
    return None if conversation is None else _titled(conversation)


def _titled(conversation: Conversation) -> Content | None:
    return None if conversation.deleted_at is not None else {"title": conversation.title}


def _shown(document: Document) -> Content | None:
    return None if document.deleted_at is not None else {"sha256": document.sha256}


_CONTENT: dict[str, Callable[[dict[str, Any] | None], Content | None]] = {
    "task": _task_content,
    "document": _document_content,
    "conversation": _conversation_content,
}
"""For each kind of row, the function that reads the content from a recorded value."""
_NOW: dict[str, Callable[[Scope, int], Content | None]] = {
    "task": _task_now,
    "document": _document_now,
    "conversation": _conversation_now,
}
"""For each kind of row, the function that reads the current content and locks the row."""
