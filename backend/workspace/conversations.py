"""The tools that change conversations. Only REST uses them. Deleting a conversation also ends its runs."""

from pydantic import BaseModel

from backend.conversations.repository import ConversationNotFound, ConversationRepository
from backend.conversations.schemas import ConversationId, ConversationSeen, ConversationTitle
from backend.documents.repository import DocumentRepository
from backend.operations.ledger import Ledger
from backend.operations.tool import tool
from backend.postgres.database import Scope
from backend.postgres.notifications import notify
from backend.runs.ending import RunCancelled, cancel_now
from backend.runs.purge import remove_for_good
from backend.runs.repository import RunRepository


class ConversationDeleted(BaseModel):
    """A conversation that was deleted."""

    conversation_id: int


@tool(title="Rename a conversation", writes=True, published=False)
def rename_conversation(conversation_id: ConversationId, title: ConversationTitle, scope: Scope) -> ConversationSeen:
    """Give a conversation another title, for REST's PATCH."""
    return ConversationSeen.of(ConversationRepository(scope).rename(conversation_id, title))


@tool(title="Delete a conversation", writes=True, destructive=True, published=False)
def delete_conversation(conversation_id: ConversationId, scope: Scope, purge: bool = False) -> ConversationDeleted:
    """Hide a conversation everywhere. With `purge`, remove it for good, even if it is already hidden."""
    conversations = ConversationRepository(scope)
    conversation = conversations.find(conversation_id, lock=True)
    if conversation is None or (conversation.deleted_at is not None and not purge):
        raise ConversationNotFound(conversation_id)
    if purge:
        for run in RunRepository(scope).of_conversation(conversation_id):
            if run.ended_at is None:
                notify(scope.session, "cancel", run.id)
        remove_for_good(conversation, scope)
    else:
        hide(conversation_id, scope)
    return ConversationDeleted(conversation_id=conversation_id)


def hide(conversation_id: int, scope: Scope) -> None:
    """Delete a conversation in such a way that it can come back, and end its runs."""
    conversations, runs = ConversationRepository(scope), RunRepository(scope)
    conversation = conversations.get(conversation_id, lock=True)
    Ledger(scope).wait_for_other_records()
    why = RunCancelled("This answer stopped because you deleted its conversation.")
    for run in runs.unended(conversation_id):
        cancel_now(
            scope,
            conversation,
            run,
            still_there=lambda scope, ids: DocumentRepository(scope).still_there(ids),
            why=why,
        )
        # A process that works on the run finds its lease gone, and stops.
        notify(scope.session, "cancel", run.id)
    # A repeated message must not get the answer of a run that is gone.
    for run in runs.of_conversation(conversation_id):
        if run.idempotency_key is not None:
            runs.change(run, idempotency_key=None)
    conversations.hide(conversation)
