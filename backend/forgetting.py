"""Erase a deleted document's text from everything that copied it, so that no later answer can quote the document."""

from backend.conversations.repository import MessageRepository
from backend.operations.ledger import Ledger
from backend.operations.row_changes import RowChanges
from backend.postgres.database import Scope
from backend.runs.repository import RunRepository
from backend.tasks.repository import TaskRepository


def forget_document(scope: Scope, document_id: int) -> bool:
    """Erase all copies of a document's text and return True. If a run may use the text, only return False."""
    ledger, runs = Ledger(scope), RunRepository(scope)
    done = ledger.of_document(document_id)
    run_ids = runs.in_conversations_of({operation.run_id for operation in done if operation.run_id})
    if not runs.are_ended(run_ids):
        return False
    for run_id in run_ids:
        runs.purge(run_id)
    MessageRepository(scope).forget_document(
        document_id, run_ids=run_ids, operation_ids={operation.id for operation in done}
    )
    TaskRepository(scope).forget_document(document_id)
    ledger.forget_text(done)
    RowChanges(scope).forget_document(document_id, done)
    return True
