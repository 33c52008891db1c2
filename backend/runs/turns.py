"""Accept a message: the message and the run that will answer it, in one transaction."""

import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import StringConstraints
from sqlalchemy.exc import IntegrityError

from backend.conversations.models import Message
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.database import Database, Scope
from backend.errors import TooManyRequests
from backend.idempotency import KeyUsedForSomethingElse, hash_of
from backend.identity.accounts import UsageRepository
from backend.identity.caller import Caller
from backend.plain_text import PLAIN
from backend.runs.journal import Journal
from backend.runs.models import Run
from backend.runs.repository import Event, RunRepository

MessageText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000), PLAIN]
"""What a user says: 1 to 16,000 characters."""


MOST_UNFINISHED_RUNS = 32
"""Messages of a user that may wait for their answers at once."""


class Assistant(Protocol):
    """Whoever answers; the worker gets one from the composition root."""

    def model_for(self, caller: Caller) -> str:
        """Return the name of the model that answers this caller."""

    def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
        """Return what a run works on, whatever happens meanwhile, as JSON."""

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        """Answer, and write every step into the journal up to its end."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that was accepted, and what its worker needs to know."""

    caller: Caller
    run_id: str
    conversation_id: int
    message_id: int
    model: str
    is_new: bool = True
    """Whether this request began it; otherwise one with the same key did."""
    fixed_input: dict[str, Any] | None = None
    """What the run works on, unless it waits for an earlier one of its conversation."""


class Turns:
    """Accepts messages and fixes what their runs work on."""

    def __init__(
        self,
        database: Database,
        assistant: Assistant,
        *,
        guest_turns_per_day: int,
        history_messages: int,
    ) -> None:
        self._database = database
        self._assistant = assistant
        self._guest_turns_per_day = guest_turns_per_day
        self._history_messages = history_messages

    def accept(
        self, caller: Caller, message: str, *, conversation_id: int | None, idempotency_key: str | None = None
    ) -> Turn:
        """Record the user's message and the run that will answer it.

        Raises:
            ConversationNotFound: The caller has no such conversation.
            KeyUsedForSomethingElse: The idempotency key came with another message before.
            TooManyRequests: A guest has used up the day's turns.
        """
        try:
            return self._accepted(caller, message, conversation_id, idempotency_key)
        except IntegrityError:
            if idempotency_key is None:
                raise
            # An equal request committed first; now its run can be found.
            return self._accepted(caller, message, conversation_id, idempotency_key)

    def begin(self, turn: Turn) -> dict[str, Any]:
        """Note that a run that waited begins, and return what it works on, fixed from now on."""
        with self._database.scope(turn.caller.user_id, turn.caller.zone) as scope:
            runs = RunRepository(scope)
            fixed = self._fixed_input(scope, turn.caller, turn.conversation_id, turn.message_id)
            run = runs.get(turn.run_id, lock=True)
            runs.change(run, status="running", attempt=1, input=fixed, started_at=scope.now)
            runs.append(run.id, [_run_event(run)])
            return fixed

    def _accepted(self, caller: Caller, message: str, conversation_id: int | None, key: str | None) -> Turn:
        request_hash = hash_of({"message": message, "conversation_id": conversation_id}) if key else None
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            if key and (earlier := runs.find_key(key)) is not None:
                if earlier.request_hash != request_hash:
                    raise KeyUsedForSomethingElse
                return _turn(earlier, caller, is_new=False)
            conversations = ConversationRepository(scope)
            # The conversation's row is locked first, so that two messages at once are accepted one after the other.
            # Then come usage and numbers, in the order in which the end of a run locks them: no deadlock.
            conversation = None if conversation_id is None else conversations.get(conversation_id, lock=True)
            if runs.count_unfinished() >= MOST_UNFINISHED_RUNS:
                raise TooManyRequests(
                    f"{MOST_UNFINISHED_RUNS} of your messages are still being answered. Wait for one of them.",
                    retry_after=10,
                )
            self._count(scope, caller)
            if conversation is None:
                conversation = conversations.add(first_message=message)
            else:
                conversations.touch(conversation)
            waits = runs.is_busy(conversation.id)
            run_id = secrets.token_hex(16)
            said = MessageRepository(scope).add(
                conversation_id=conversation.id, role="user", content=message, run_id=run_id
            )
            run = runs.add(
                Run(
                    user_id=caller.user_id,
                    id=run_id,
                    conversation_id=conversation.id,
                    message_id=said.id,
                    status="queued" if waits else "running",
                    attempt=0 if waits else 1,
                    model=self._assistant.model_for(caller),
                    door="chat",
                    client=caller.client,
                    scopes=sorted(caller.scopes),
                    input=None if waits else self._fixed_input(scope, caller, conversation.id, said.id),
                    idempotency_key=key,
                    request_hash=request_hash,
                    created_at=scope.now,
                    started_at=None if waits else scope.now,
                )
            )
            runs.append(run_id, [_run_event(run)])
            return _turn(run, caller)

    def _count(self, scope: Scope, caller: Caller) -> None:
        turns_today = UsageRepository(scope).count_turn()
        if caller.kind == "guest" and 0 < self._guest_turns_per_day < turns_today:
            raise TooManyRequests(
                f"A guest may send {self._guest_turns_per_day} messages a day. Go on tomorrow (UTC).",
                retry_after=86_400 - (scope.now.hour * 60 + scope.now.minute) * 60 - scope.now.second,
            )

    def _fixed_input(self, scope: Scope, caller: Caller, conversation_id: int, message_id: int) -> dict[str, Any]:
        messages = MessageRepository(scope).all(conversation_id, last=self._history_messages + 1, up_to=message_id)
        return self._assistant.fixed_input(messages, caller)


def _run_event(run: Run) -> Event:
    return Event(
        "run",
        {
            "run_id": run.id,
            "conversation_id": run.conversation_id,
            "message_id": run.message_id,
            "status": run.status,
            "model": run.model,
        },
    )


def _turn(run: Run, caller: Caller, *, is_new: bool = True) -> Turn:
    return Turn(caller, run.id, run.conversation_id, run.message_id, run.model, is_new, run.input)
