"""Accept messages and stop runs. Accepting stores a message and the run that will answer it in one transaction."""

import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import StringConstraints
from sqlalchemy.exc import IntegrityError

from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.errors import TooManyRequests
from backend.idempotency import KEY_LIFETIME, KeyUsedForSomethingElse, hash_of
from backend.identity.accounts import UsageRepository
from backend.identity.caller import Caller
from backend.identity.guest_budget import GuestBudget, ModelNotice
from backend.jobs.leases import Lease, Leases
from backend.plain_text import PLAIN
from backend.postgres.database import Database, Scope
from backend.postgres.notifications import notify
from backend.runs.attempt import Assistant, Attempts, Claimed, run_event
from backend.runs.ending import StillThere, cancel_now
from backend.runs.models import Run
from backend.runs.repository import RunRepository
from backend.runs.transcript import Transcript

MessageText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000), PLAIN]
"""The text of a user's message: 1 to 16,000 characters."""


MOST_UNFINISHED_RUNS = 32
"""The most messages of one user that may wait for answers."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An accepted message's run."""

    run_id: str
    conversation_id: int
    message_id: int
    model: str
    model_notice: dict[str, Any] | None = None
    is_new: bool = True
    """Whether this request created the run; False if an earlier request with the same key created it."""
    claimed: Claimed | None = None
    """The data with which this process executes the run now; None if the run waits in the queue."""


class Turns:
    """Accepts messages, and stops the runs that answer them."""

    def __init__(
        self,
        database: Database,
        assistant: Assistant,
        leases: Leases,
        *,
        guest_turns_per_day: int,
        guest_model_turns_per_day: int = 0,
        history_messages: int,
        still_there: StillThere = lambda _scope, ids: ids,
    ) -> None:
        """Set the objects that `Turns` uses, and the limits.

        Args:
            database: The database with the conversations and runs.
            assistant: Provides the models that may answer a caller, and each run's input.
            leases: This process's leases on runs.
            guest_turns_per_day: How many messages each guest may send per day; 0 means no limit.
            guest_model_turns_per_day: How many turns with the model all guests share per day; 0 means no limit.
            history_messages: How many earlier messages the model sees.
            still_there: Returns which documents the user still has, so that only these documents are cited.
        """
        self.still_there = still_there
        self._database = database
        self._assistant = assistant
        self._leases = leases
        self._guest_turns_per_day = guest_turns_per_day
        self._budget = GuestBudget(turns_per_day=guest_model_turns_per_day)
        self.attempts = Attempts(assistant, now=database.now, history_messages=history_messages)

    def accept(
        self,
        caller: Caller,
        message: str,
        *,
        conversation_id: int | None,
        idempotency_key: str | None = None,
        has_slot: bool = True,
    ) -> Turn:
        """Record the user's message and the run that will answer it.

        `has_slot` says whether this process has a free slot. If so, the run is leased to this process, except if it
        must wait for another run.

        Raises:
            ConversationNotFound: The caller has no such conversation.
            KeyUsedForSomethingElse: The idempotency key was already used with another message.
            TooManyRequests: The guest has used up the day's turns, or too many of the user's messages wait for answers.
        """
        try:
            return self._accepted(caller, message, conversation_id, idempotency_key, has_slot)
        except IntegrityError:
            if idempotency_key is None:
                raise
            # An equal request committed first. Its run can be found now.
            return self._accepted(caller, message, conversation_id, idempotency_key, has_slot)

    def model_notice(self, scope: Scope, caller: Caller) -> ModelNotice | None:
        """Return the notice that says why the caller would now get the second model, or None for the first model."""
        preferred, *fallbacks = self._assistant.models_for(caller)
        return self._budget.notice(scope, preferred) if fallbacks and self._budget.is_spent(scope) else None

    def cancel(self, caller: Caller, run_id: str) -> Run:
        """Stop a run, whichever process works on it, and return the run. A run that has ended does not change.

        If no process works on the run, the run ends at once. Otherwise the process that works on the run is notified,
        and ends the run after its current step.
        """
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            # Lock rows in the same order as at the end of a run: the conversation first, then its runs.
            conversation = ConversationRepository(scope).get(runs.get(run_id).conversation_id, lock=True)
            run = runs.get(run_id, lock=True)
            if run.ended_at is None:
                if runs.is_leased(run_id):
                    runs.change(run, cancel_requested=True)
                    notify(scope.session, "cancel", run_id)
                else:
                    cancel_now(scope, conversation, run, still_there=self.still_there)
            scope.session.refresh(run)
            scope.session.expunge(run)
            return run

    def _accepted(
        self, caller: Caller, message: str, conversation_id: int | None, key: str | None, has_slot: bool
    ) -> Turn:
        request_hash = hash_of({"message": message, "conversation_id": conversation_id}) if key else None
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            earlier = runs.find_key(key) if key else None
            if earlier is not None and scope.now - earlier.created_at <= KEY_LIFETIME:
                if earlier.request_hash != request_hash:
                    raise KeyUsedForSomethingElse
                return _turn(earlier, is_new=False)
            conversations = ConversationRepository(scope)
            # Lock the conversation's row first, so that two simultaneous messages are accepted one after the other.
            # Usage, counters and the place in the queue are locked after that. All code uses this order, so there is no
            # deadlock.
            conversation = None if conversation_id is None else conversations.get(conversation_id, lock=True)
            if earlier is not None:
                runs.change(earlier, idempotency_key=None)
            if runs.count_unfinished() >= MOST_UNFINISHED_RUNS:
                raise TooManyRequests(
                    f"{MOST_UNFINISHED_RUNS} of your messages are still being answered. Wait for one of them.",
                    retry_after=10,
                )
            is_free = conversation is None or not runs.is_busy(conversation.id)
            self._count(scope, caller)
            if conversation is None:
                conversation = conversations.add(first_message=message)
            else:
                conversations.touch(conversation)
            run_id = secrets.token_hex(16)
            said = MessageRepository(scope).add(
                conversation_id=conversation.id, role="user", content=message, run_id=run_id
            )
            begins = has_slot and is_free and self._leases.has_room(scope.session, caller.user_id)
            lease = Lease(caller.user_id, run_id, attempt=1) if begins else None
            fixed_input = self.attempts.fixed_input(scope, caller, conversation.id, said.id) if lease else None
            model, notice = self._take_model(scope, caller)
            run = runs.add(
                Run(
                    user_id=caller.user_id,
                    id=run_id,
                    conversation_id=conversation.id,
                    message_id=said.id,
                    status="running" if lease else "queued",
                    attempt=lease.attempt if lease else 0,
                    fruitless=lease.fruitless if lease else 0,
                    lease_owner=self._leases.owner if lease else None,
                    lease_until=self._leases.until() if lease else None,
                    model=model,
                    model_notice=notice,
                    door="chat",
                    client=caller.client,
                    scopes=sorted(caller.scopes),
                    input=fixed_input,
                    idempotency_key=key,
                    request_hash=request_hash,
                    # This is not the transaction's start time, because the transaction may have waited for a lock.
                    started_at=self._database.now() if lease else None,
                )
            )
            appended = runs.append(run_id, [run_event(run)], attempt=run.attempt, first=True)
            if lease is None:
                return _turn(run)
            claimed = Claimed(
                replace(caller, door="chat"),
                lease,
                conversation.id,
                run.model,
                run.input or {},
                Transcript(),
                appended.events,
            )
            return replace(_turn(run), claimed=claimed)

    def _take_model(self, scope: Scope, caller: Caller) -> tuple[str, dict[str, Any] | None]:
        """Return the model that answers, and a notice for the user if it is the second model.

        The second model answers guests once their budget is spent. Otherwise the notice is None.
        """
        preferred, *fallbacks = self._assistant.models_for(caller)
        if not fallbacks or self._budget.take(scope):
            return preferred, None
        return fallbacks[0], self._budget.notice(scope, preferred).model_dump(mode="json")

    def _count(self, scope: Scope, caller: Caller) -> None:
        turns_today = UsageRepository(scope).count_turn()
        if caller.kind == "guest" and 0 < self._guest_turns_per_day < turns_today:
            raise TooManyRequests(
                f"A guest may send {self._guest_turns_per_day} messages a day. Go on tomorrow (UTC).",
                retry_after=86_400 - (scope.now.hour * 60 + scope.now.minute) * 60 - scope.now.second,
            )


def _turn(run: Run, *, is_new: bool = True) -> Turn:
    return Turn(run.id, run.conversation_id, run.message_id, run.model, run.model_notice, is_new)
