"""Purge runs that ended long ago, and remove conversations that were deleted long ago."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from backend.conversations.models import Conversation
from backend.conversations.repository import ConversationRepository, deleted_conversations
from backend.errors import NotFound
from backend.jobs.housekeeping import remove_each
from backend.operations.ledger import Ledger
from backend.operations.row_changes import RowChanges
from backend.postgres.database import GIVE_WAY_SECONDS, UTC, Database, Scope
from backend.runs.repository import RunRepository, purgeable_runs

FOUND_AT_ONCE = 100

Key = tuple[str, str]
"""A run's user id and run id."""
Numbered = tuple[str, int]
"""A conversation's user id and its number."""


def purge_old_runs(database: Database, *, keep: timedelta) -> Iterator[int]:
    """Purge runs that ended longer than `keep` ago, the oldest first; yields 1 for each run.

    The runs' messages and operations stay.
    """

    def find(but_not: Sequence[Key]) -> list[Key]:
        with database.transaction(None) as session:
            return purgeable_runs(
                session,
                ended_before=database.now() - keep,
                most=FOUND_AT_ONCE,
                but_not=[run_id for _, run_id in but_not],
            )

    def remove(key: Key) -> Iterator[int]:
        user_id, run_id = key
        try:
            with database.scope(user_id, UTC) as scope:
                RunRepository(scope).purge(run_id)
        except NotFound:
            return
        yield 1

    return remove_each(find, remove)


def remove_deleted_conversations(database: Database, *, keep: timedelta) -> Iterator[int]:
    """Remove conversations that were deleted longer than `keep` ago, with their runs; yields 1 for each transaction."""

    def find(but_not: Sequence[Numbered]) -> list[Numbered]:
        with database.transaction(None) as session:
            return deleted_conversations(
                session,
                deleted_before=database.now() - keep,
                most=FOUND_AT_ONCE,
                but_not=[f"{user_id} {number}" for user_id, number in but_not],
            )

    def remove(key: Numbered) -> Iterator[int]:
        user_id, conversation_id = key
        with database.scope(user_id, UTC) as scope:
            run_ids = [run.id for run in RunRepository(scope).of_conversation(conversation_id)]
        # A run may have many events, so each run is emptied in a transaction of its own.
        for run_id in run_ids:
            with database.scope(user_id, UTC) as scope:
                RunRepository(scope).purge(run_id)
            yield 1
        with database.scope(user_id, UTC, lock_seconds=GIVE_WAY_SECONDS) as scope:
            conversation = ConversationRepository(scope).find(conversation_id, lock=True)
            if conversation is None or conversation.deleted_at is None:
                return
            remove_for_good(conversation, scope)
        yield 1

    return remove_each(find, remove)


def remove_for_good(conversation: Conversation, scope: Scope) -> None:
    """Remove a conversation, and its titles from the ledger and the row changes."""
    ledger = Ledger(scope)
    ledger.wait_for_other_records()
    ledger.forget_text(ledger.of_conversation(conversation.id), why="The conversation was removed.")
    RowChanges(scope).forget("conversation", conversation.id)
    ConversationRepository(scope).remove(conversation)
