"""Repositories of conversations and messages."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text, tuple_
from sqlmodel import Session, col

from backend.conversations.models import Conversation, Message
from backend.errors import NotFound
from backend.postgres.repository import UserRepository
from backend.redaction import without_document, without_text

TITLE_LENGTH = 80


class ConversationNotFound(NotFound):
    """The user has no such conversation."""

    def __init__(self, conversation_id: int) -> None:
        super().__init__(
            f"Conversation {conversation_id} does not exist.", hint="Leave conversation_id out to start a new one."
        )


class ConversationRepository(UserRepository[Conversation]):
    """The user's conversations."""

    model = Conversation

    def get(self, conversation_id: int, *, lock: bool = False) -> Conversation:
        """Return a conversation. With `lock`, lock its row until the transaction ends, so that it can be changed."""
        found = self.find(conversation_id, lock=lock)
        if found is None or found.deleted_at is not None:
            raise ConversationNotFound(conversation_id)
        return found

    def find(self, conversation_id: int, *, lock: bool = False) -> Conversation | None:
        """Return a conversation, even a deleted one, or None if it does not exist or was removed for good."""
        statement = self._mine().where(Conversation.id == conversation_id)
        if lock:
            statement = statement.with_for_update().execution_options(populate_existing=True)
        return self._session.exec(statement).one_or_none()

    def all(self, *, query: str | None, before: tuple[datetime, int] | None, limit: int) -> list[Conversation]:
        """Return at most `limit` conversations, last changed first.

        `before` is the (updated_at, id) of the last conversation on the previous page.
        """
        statement = self._mine().where(col(Conversation.deleted_at).is_(None))
        if query:
            statement = statement.where(col(Conversation.title).icontains(query, autoescape=True))
        place = tuple_(col(Conversation.updated_at), col(Conversation.id))
        if before is not None:
            statement = statement.where(place < before)
        ordered = statement.order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
        return list(self._session.exec(ordered.limit(limit)))

    def add(self, *, first_message: str) -> Conversation:
        """Create a conversation, titled with the beginning of its first message."""
        words = " ".join(first_message.split())
        title = words if len(words) <= TITLE_LENGTH else words[: TITLE_LENGTH - 1].rstrip() + "…"
        now = self._scope.now
        conversation = Conversation(
            user_id=self._scope.user_id, id=self._next("conversation"), title=title, created_at=now, updated_at=now
        )
        return self._keep(conversation, "added")

    def touch(self, conversation: Conversation) -> None:
        """Mark a conversation as changed now."""
        conversation.updated_at = self._scope.now
        self._session.add(conversation)
        self._written("touched", conversation_id=conversation.id)

    def rename(self, conversation_id: int, title: str) -> Conversation:
        """Give a conversation another title."""
        conversation = self.get(conversation_id, lock=True)
        conversation.title = title
        return self._keep(conversation, "updated")

    def hide(self, conversation: Conversation) -> None:
        """Delete a conversation in such a way that it can come back. Its runs must have ended."""
        conversation.deleted_at = self._scope.now
        self._keep(conversation, "deleted")

    def restore(self, conversation_id: int, *, title: str) -> None:
        """Give a conversation its former title; a deleted conversation comes back."""
        conversation = self.find(conversation_id, lock=True)
        if conversation is None:
            raise ConversationNotFound(conversation_id)
        conversation.title, conversation.deleted_at = title, None
        self._keep(conversation, "restored")

    def remove(self, conversation: Conversation) -> None:
        """Remove a conversation with its messages and runs for good."""
        self._session.delete(conversation)
        self._session.flush()
        self._written("removed", conversation_id=conversation.id)

    def _keep(self, conversation: Conversation, outcome: str) -> Conversation:
        self._session.add(conversation)
        self._session.flush()
        self._written(outcome, conversation_id=conversation.id)
        return conversation


class MessageRepository(UserRepository[Message]):
    """The messages of the user's conversations."""

    model = Message

    def add(
        self,
        *,
        conversation_id: int,
        role: Literal["user", "assistant"],
        content: str,
        run_id: str,
        tool_calls: list[dict[str, Any]] | None = None,
        citations: list[dict[str, Any]] | None = None,
    ) -> Message:
        """Store a message under the user's next number."""
        message = Message(
            user_id=self._scope.user_id,
            id=self._next("message"),
            conversation_id=conversation_id,
            role=role,
            content=content,
            run_id=run_id,
            tool_calls=tool_calls or [],
            citations=citations or [],
            created_at=self._scope.now,
        )
        self._session.add(message)
        self._session.flush()
        self._written("added", conversation_id=conversation_id, message_id=message.id)
        return message

    def find(self, message_id: int) -> Message | None:
        """Return a message, or None."""
        return self._session.exec(self._mine().where(Message.id == message_id)).one_or_none()

    def forget_document(self, document_id: int, *, run_ids: Collection[str], operation_ids: Collection[int]) -> None:
        """Delete what the given runs copied from a document into messages, except the text of the answers."""

        def blanked(call: dict[str, Any]) -> dict[str, Any]:
            if call.get("operation_id") not in operation_ids:
                return call
            result = without_text(call["result"]) if isinstance(call.get("result"), dict) else None
            return {**call, "arguments": {}, "result": result}

        for message in self._session.exec(self._mine().where(col(Message.run_id).in_(run_ids))):
            message.tool_calls = [blanked(call) for call in message.tool_calls]
            message.citations = without_document(message.citations, document_id)
            self._session.add(message)
        self._session.flush()
        self._written("forgotten", document_id=document_id)

    def all(self, conversation_id: int, *, last: int, up_to: int | None = None) -> list[Message]:
        """Return the last messages of a conversation, oldest first, each answer right after its question.

        Messages are ordered by run and not by number, because an answer has a higher number than messages that were
        sent while it was being written. With `up_to`, the user's messages with higher numbers are left out.
        """
        statement = self._mine().where(Message.conversation_id == conversation_id)
        if up_to is not None:
            statement = statement.where((col(Message.id) <= up_to) | (col(Message.role) == "assistant"))
        newest = self._session.exec(statement.order_by(col(Message.id).desc()).limit(last))
        messages = sorted(newest, key=lambda message: message.id)
        first: dict[str | None, int] = {}
        for message in messages:
            first.setdefault(message.run_id, message.id)
        return sorted(messages, key=lambda message: (first[message.run_id], message.id))


def deleted_conversations(
    session: Session, *, deleted_before: datetime, most: int, but_not: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Return (user_id, id) for at most `most` conversations deleted before a time, the longest deleted first.

    `but_not` has conversations to leave out, as "user_id id".
    """
    rows = session.execute(
        text("select user_id, id from due_conversations(:deleted_before, :most, :but_not)"),
        {"deleted_before": deleted_before, "most": most, "but_not": list(but_not)},
    )
    return [(row.user_id, int(row.id)) for row in rows]
