"""The repository of operations. An operation is a write, or a read by a run, with its door and outcome."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, text
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from backend.errors import NotFound
from backend.idempotency import KEY_LIFETIME, KeyUsedForSomethingElse
from backend.operations.models import CallOutcome, Operation, RowChange
from backend.plain_text import storable_json
from backend.postgres.repository import UserRepository
from backend.redaction import without_text

MOST_ARGUMENT_BYTES = 256 * 1024
MOST_REFUSED_BYTES = 2 * 1024
"""The most bytes of arguments that are stored for a call that was refused or failed. The limit is low because a client
can repeat such calls without end."""


UNDO = "undo"
"""The name of the tool that undoes operations."""


class OperationNotFound(NotFound):
    """The user has no such operation."""

    def __init__(self, operation_id: int) -> None:
        super().__init__(
            f"Change {operation_id} does not exist.",
            hint="Give the operation_id that the change returned, or none to undo the last change.",
        )


class Ledger(UserRepository[Operation]):
    """The user's operations."""

    model = Operation

    def find_call(self, run_id: str, call_id: str) -> Operation | None:
        """Return the operation recorded for a call of a run, or None."""
        return self._session.exec(
            self._mine().where(Operation.run_id == run_id, Operation.call_id == call_id)
        ).one_or_none()

    def find_key(self, tool: str, key: str, request_hash: str) -> Operation | None:
        """Return the operation recorded for an idempotency key within the last 24 hours, or None.

        Raises:
            KeyUsedForSomethingElse: The recorded call with this key had other arguments.
        """
        found = self._session.exec(
            self._mine().where(Operation.tool == tool, Operation.idempotency_key == key)
        ).one_or_none()
        if found is None:
            return None
        if self._scope.now - found.created_at > KEY_LIFETIME:
            found.idempotency_key = None
            self._session.add(found)
            self._session.flush()
            return None
        if found.request_hash != request_hash:
            raise KeyUsedForSomethingElse
        return found

    def get(self, operation_id: int) -> Operation:
        """Return an operation, or raise OperationNotFound if the user has no operation with this number."""
        found = self._session.exec(self._mine().where(Operation.id == operation_id)).one_or_none()
        if found is None:
            raise OperationNotFound(operation_id)
        return found

    def last_undoable(self) -> list[Operation]:
        """Return the user's last operation that changed something and is not undone; an empty list if there is none.

        An operation that undid another one does not count. So a user who undoes repeatedly goes back step by step.
        """
        last = self._changing().where(col(Operation.undone_by).is_(None), Operation.tool != UNDO)
        return list(self._session.exec(last.order_by(col(Operation.id).desc()).limit(1)))

    def undoable_of_run(self, run_id: str) -> list[Operation]:
        """Return a run's operations that changed something and are not undone by a later turn, oldest first."""
        return self._not_undone_elsewhere(self._changing().where(Operation.run_id == run_id))

    def undoable_since(self, first: Operation) -> list[Operation]:
        """Return an operation, and what the same client did after it through the same door, oldest first."""
        by_same = (Operation.door == first.door, col(Operation.client).is_not_distinct_from(first.client))
        return self._not_undone_elsewhere(self._changing().where(Operation.id >= first.id, *by_same))

    def _changing(self) -> SelectOfScalar[Operation]:
        changed = select(RowChange).where(
            RowChange.user_id == Operation.user_id, RowChange.change_id == Operation.change_id
        )
        return self._mine().where(changed.exists())

    def _not_undone_elsewhere(self, wanted: SelectOfScalar[Operation]) -> list[Operation]:
        """Return the operations except those that an operation outside of them undid.

        If one of them undid another one, both must be undone together: the change of the one cancels the other's.
        """
        found = list(self._session.exec(wanted.order_by(col(Operation.id))))
        together = {operation.change_id for operation in found} | {None}
        return [operation for operation in found if operation.undone_by in together]

    def wait_for_other_undos(self) -> None:
        """Wait until no other undo of this user is in progress, and block others until this transaction ends.

        A deleted row cannot be locked. Without this wait, two simultaneous undos could both restore the row.
        """
        self._session.execute(
            text("select pg_advisory_xact_lock(hashtextextended('undo ' || :user_id, 0))"),
            {"user_id": self._scope.user_id},
        )

    def wait_for_other_records(self) -> None:
        """Wait until no other operation of this user is being recorded, and block others until this transaction ends.

        A run's call locks the ledger's counter and then the run's row. An operation that locks a run's row must
        therefore lock the counter first. Otherwise each of the two could wait for the other.
        """
        self._hold("operation")

    def mark_undone(self, operations: Sequence[Operation]) -> None:
        """Record that this transaction undoes the given operations.

        If one of the given operations was itself an undo, the operations that it had undone count as done again.
        """
        values = {"user_id": self._scope.user_id, "ids": [operation.id for operation in operations]}
        self._session.execute(_DONE_AGAIN, values)
        self._session.execute(_UNDONE, values)

    def is_tainted(self, run_id: str) -> bool:
        """Return whether a run has received document text and its user's setting `tainted_writes` is not `allow`."""
        found = self._session.execute(
            text(
                "select exists (select from operations where user_id = :user_id and run_id = :run_id "
                "and document_ids <> '{}') and exists (select from users where user_id = :user_id "
                "and tainted_writes <> 'allow')"
            ),
            {"user_id": self._scope.user_id, "run_id": run_id},
        )
        return bool(found.scalar_one())

    def of_document(self, document_id: int) -> list[Operation]:
        """List every operation that may hold a document's text.

        These are the calls that returned the text, the call that added the document, the calls on tasks that were
        created from the document (such as their deletion, or an undo), and all other calls by runs that received the
        text. The other calls count because the model may have copied the document's words into their arguments.
        """
        filed = (col(Operation.tool) == "add_document") & (
            func.json_extract_path_text(Operation.result, "id") == str(document_id)
        )
        read = col(Operation.document_ids).contains([document_id])
        named = func.json_extract_path_text(Operation.result, "document_id") == str(document_id)
        number = str(document_id)
        of_task = or_(
            col(RowChange.before)["document_id"].astext == number, col(RowChange.after)["document_id"].astext == number
        )
        changes = select(RowChange.change_id).where(RowChange.user_id == self._scope.user_id, of_task)
        changed = col(Operation.change_id).in_(changes)
        beside = col(Operation.run_id).in_(self._mine().where(read).with_only_columns(col(Operation.run_id)))
        return [*self._session.exec(self._mine().where(read | filed | named | changed | beside))]

    def of_conversation(self, conversation_id: int) -> list[Operation]:
        """List every operation that has a title of a conversation: its renamings, and undos of its changes."""
        renamed = (col(Operation.tool) == "rename_conversation") & (
            func.json_extract_path_text(Operation.arguments, "conversation_id") == str(conversation_id)
        )
        changes = select(RowChange.change_id).where(
            RowChange.user_id == self._scope.user_id,
            RowChange.kind == "conversation",
            RowChange.row_id == conversation_id,
        )
        return [*self._session.exec(self._mine().where(renamed | col(Operation.change_id).in_(changes)))]

    def forget_text(self, operations: Iterable[Operation], *, why: str = "The document was purged.") -> None:
        """Remove all text from these operations. The rows stay, as a record that the calls were made."""
        for operation in operations:
            operation.arguments = {"left_out": why}
            operation.result = without_text(operation.result)
            self._session.add(operation)
            self._written("forgotten", operation_id=operation.id)
        self._session.flush()

    def add(
        self,
        *,
        door: str,
        client: str | None,
        tool: str,
        arguments: dict[str, Any],
        result: dict[str, Any],
        outcome: CallOutcome,
        milliseconds: int,
        change_id: UUID | None = None,
        run_id: str | None,
        call_id: str | None,
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        document_ids: Sequence[int] = (),
    ) -> int:
        """Record an operation and return its number. For a write, the number is also in the recorded result."""
        operation_id = self._next("operation")
        if change_id is not None:
            result = {**result, "operation_id": operation_id}
        most = MOST_ARGUMENT_BYTES if outcome == "ok" else MOST_REFUSED_BYTES
        self._session.add(
            Operation(
                user_id=self._scope.user_id,
                id=operation_id,
                door=door,
                client=client,
                run_id=run_id,
                call_id=call_id,
                idempotency_key=idempotency_key,
                request_hash=request_hash,
                tool=tool,
                arguments=_bounded(storable_json(arguments), most),
                result=storable_json(result),
                outcome=outcome,
                milliseconds=milliseconds,
                change_id=change_id,
                document_ids=sorted(set(document_ids)),
            )
        )
        self._session.flush()
        self._written("added", operation_id=operation_id)
        return operation_id


_DONE_AGAIN = text(
    "update operations set undone_by = null where user_id = :user_id and undone_by in "
    "(select change_id from operations where user_id = :user_id and id = any (:ids))"
)
_UNDONE = text(
    "update operations set undone_by = current_setting('app.change_id')::uuid "
    "where user_id = :user_id and id = any (:ids)"
)


def outline(result: Any) -> Any:
    """Return the part of a read's result that the ledger stores: ids and counts, no content."""
    match result:
        case dict():
            return {key: outline(value) for key, value in result.items() if not isinstance(value, str)}
        case list():
            ids = [item["id"] for item in result if isinstance(item, dict) and "id" in item]
            return {"count": len(result), "ids": ids}
        case _:
            return result


def _bounded(arguments: dict[str, Any], most: int) -> dict[str, Any]:
    if len(json.dumps(arguments)) > most:
        return {"left_out": "The arguments were too large to keep.", "names": [name[:50] for name in arguments][:20]}
    return arguments
