"""The JSON forms of conversations."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from backend.conversations.models import Conversation, Message
from backend.errors import InvalidInput
from backend.plain_text import NUMBER, ONE_LINE
from backend.postgres.repository import LARGEST_ID

ConversationId = Annotated[int, Field(ge=1, le=LARGEST_ID), NUMBER]
ConversationTitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), ONE_LINE]


class ToolCallSeen(BaseModel):
    """A tool call by the assistant."""

    name: str | None
    arguments: dict[str, Any] | None
    result: Any
    is_error: bool | None
    operation_id: int | None


class MessageSeen(BaseModel):
    """A message."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    run_id: str | None
    model: str | None = Field(description="Which model wrote an answer; null for what the user said.")
    tool_calls: list[ToolCallSeen]
    citations: list[dict[str, Any]]
    created_at: datetime

    @classmethod
    def of(cls, message: Message, *, model: str | None) -> "MessageSeen":
        """Return a message as clients see it. `model` is the model that answered in the message's run."""
        calls = [{name: call.get(name) for name in ToolCallSeen.model_fields} for call in message.tool_calls]
        wrote = model if message.role == "assistant" else None
        return cls.model_validate({**message.model_dump(), "model": wrote, "tool_calls": calls}, extra="ignore")


class ConversationSeen(BaseModel):
    """A conversation."""

    id: int
    title: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, conversation: Conversation) -> "ConversationSeen":
        """Return a conversation as clients see it."""
        return cls.model_validate(conversation.model_dump(), extra="ignore")


class ConversationWithMessages(ConversationSeen):
    """A conversation with its last messages, oldest first."""

    messages: list[MessageSeen]


class ConversationsListed(BaseModel):
    """One page of conversations, last changed first."""

    conversations: list[ConversationSeen]
    next_cursor: str | None


class ConversationChange(BaseModel):
    """The changes to a conversation."""

    model_config = ConfigDict(extra="forbid")

    title: ConversationTitle


def cursor_after(conversation: Conversation) -> str:
    """Return the cursor for the page that starts after this conversation."""
    return base64.urlsafe_b64encode(f"{conversation.updated_at.isoformat()} {conversation.id}".encode()).decode()


def place_of(cursor: str | None) -> tuple[datetime, int] | None:
    """Return the place in the list that a cursor encodes, or None if there is no cursor.

    Raises:
        InvalidInput: The cursor is malformed.
    """
    if cursor is None:
        return None
    try:
        moment, number = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").rsplit(" ", 1)
        written = datetime.fromisoformat(moment)
        place = (written.astimezone(UTC), int(number)) if written.tzinfo else None
    except (ValueError, OverflowError, binascii.Error):
        place = None
    if place is None or not 1970 <= place[0].year <= 2200 or not 0 < place[1] <= LARGEST_ID:
        raise InvalidInput(
            "This list cannot be continued from there. Load it again.",
            hint="cursor: Use next_cursor of the page before as it is.",
        )
    return place
