"""Undo: give rows back the values that they had before an operation, or before all operations of a turn."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from backend.errors import Conflict, InvalidInput
from backend.operations.ledger import Ledger
from backend.operations.models import Operation, RowChange
from backend.operations.row_changes import RowChanges
from backend.operations.tool import tool
from backend.plain_text import NUMBER, ONE_LINE
from backend.postgres.database import Scope
from backend.postgres.repository import LARGEST_ID
from backend.runs.repository import RunRepository
from backend.tasks.dates import in_words
from backend.workspace.undoable import UNDOABLE, Content, Kind

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
AndLater = Annotated[bool, Field(description="Also undo what the same client changed after operation_id.")]
DryRun = Annotated[bool, Field(description="Only report what would be undone.")]


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
    scope: Scope,
    operation_id: OperationId | None = None,
    run_id: RunId | None = None,
    and_later: AndLater = False,
    dry_run: DryRun = False,
) -> Undone:
    """Undo a change: what was added goes, what was changed gets its former values, what was deleted comes back.

    Use it when the user wants something undone or brought back. Without arguments it undoes the user's last change, by
    any client; pass the operation_id of an earlier change. An undo can be undone itself.
    """
    if operation_id is not None and run_id is not None:
        raise InvalidInput("Choose one change or one answer to undo, not both.", hint="Give operation_id or run_id.")
    ledger = Ledger(scope)
    ledger.wait_for_other_undos()
    operations = _chosen(scope, operation_id, run_id, and_later=and_later)
    changes = _together(RowChanges(scope).of(operations), scope.zone)
    if not changes:
        raise NothingToUndo(
            "There is nothing to undo.", hint="Only changes of tasks, documents and conversations can be undone."
        )
    # To avoid deadlocks, all rows are locked before the first one is changed: a change also locks the user's place in a
    # queue, and an ingestion that ends locks its document first.
    for change in sorted(changes, key=lambda change: (change.kind, change.id)):
        _require_equal(change, UNDOABLE[change.kind].now(scope, change.id), scope.zone)
    rows = [_undo(change, scope, dry_run=dry_run) for change in reversed(changes)]
    if not dry_run:
        ledger.mark_undone(operations)
    return Undone(
        status="dry_run" if dry_run else "undone", undone=[operation.id for operation in operations], rows=rows
    )


def _chosen(scope: Scope, operation_id: int | None, run_id: str | None, *, and_later: bool) -> list[Operation]:
    """Return the operations to undo, oldest first.

    Raises:
        OperationNotFound: The user has no such operation.
        RunNotFound: The user has no such run.
        AlreadyUndone: The operation is already undone.
    """
    ledger = Ledger(scope)
    if operation_id is not None:
        operation = ledger.get(operation_id)
        if operation.undone_by is not None:
            raise AlreadyUndone
        return ledger.undoable_since(operation) if and_later else [operation]
    if run_id is None:
        return ledger.last_undoable()
    operations = ledger.undoable_of_run(run_id)
    if not operations:
        # Tell a run that changed nothing from a run that does not exist.
        RunRepository(scope).get(run_id)
    return operations


def _together(changes: Iterable[RowChange], zone: ZoneInfo) -> list[Change]:
    """Combine the changes of each row into one, and return them in the order of the rows' last changes.

    Raises:
        ChangedSince: Between two of the given changes of a row, another operation changed the row.
    """
    rows: dict[tuple[str, int], Change] = {}
    for change in changes:
        key = (change.kind, change.row_id)
        earlier = rows.pop(key, None)
        if earlier is not None:
            _require_equal(earlier, UNDOABLE[earlier.kind].recorded(change.before), zone)
        before = change.before if earlier is None else earlier.before
        rows[key] = Change(change.kind, change.row_id, before, change.after)  # type: ignore[arg-type]
    return list(rows.values())


def _undo(change: Change, scope: Scope, *, dry_run: bool) -> RowUndone:
    """Give one row its former values, and return what that does to it. With `dry_run`, change nothing."""
    rows = UNDOABLE[change.kind]
    before, after = rows.recorded(change.before), rows.recorded(change.after)
    if not dry_run and before != after:
        rows.set(scope, change.id, change.before)
    return RowUndone(
        kind=change.kind,
        id=change.id,
        title=(before or after or {}).get("title"),
        change="removed" if before is None else "restored" if after is None else "changed back",
    )


def _require_equal(change: Change, now: Content | None, zone: ZoneInfo) -> None:
    """Raise ChangedSince, with both versions, if a row's content differs from the content after the change."""
    then = UNDOABLE[change.kind].recorded(change.after)
    if then == now:
        return
    name = f"{change.kind.capitalize()} {change.id}"
    if then is None or now is None:
        raise ChangedSince(f"{name} {'was deleted' if now is None else 'came back'} since, so nothing was undone.")
    raise ChangedSince(
        f"{name} has changed since, so nothing was undone. Then: {_differing(then, now, zone)}. "
        f"Now: {_differing(now, then, zone)}."
    )


def _differing(content: Content, other: Content, zone: ZoneInfo) -> str:
    """Return the fields in which a content differs from another one, as words."""
    fields = [name for name in content if content[name] != other[name]]
    # The time of completion says nothing more than that the task is completed.
    told = [name for name in fields if name != "completed_at"] or fields
    return ", ".join(_in_words(name, content[name], zone) for name in told)


def _in_words(name: str, value: Any, zone: ZoneInfo) -> str:
    """Return a field and its value as words, such as “no due date”."""
    if name == "completed":
        return "completed" if value else "not completed"
    noun = _NOUNS.get(name) or name.replace("_", " ")
    if value in (None, "", []) or (name, value) == ("priority", "none"):
        return f"no {noun}"
    match value:
        case datetime():
            return f"{noun} {in_words(value, zone)}"
        case list():
            return f"{noun} “{', '.join(value)[:LONGEST_VALUE]}”"
    return f"{noun} “{str(value)[:LONGEST_VALUE]}”"


_NOUNS = {"due": "due date", "document_id": "document"}
"""The words for fields whose names are not words for people."""
