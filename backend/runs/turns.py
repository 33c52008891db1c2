"""Accept a message: the message and the run that will answer it, in one transaction; claim a run to work on."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, Protocol

import structlog
from pydantic import StringConstraints
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session

from backend.conversations.models import Message
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.errors import DocuTalkError, NotFound, TooManyRequests
from backend.idempotency import KEY_LIFETIME, KeyUsedForSomethingElse, hash_of
from backend.identity.accounts import AccountRepository, UsageRepository
from backend.identity.caller import ALL_SCOPES, Caller
from backend.identity.guest_budget import GuestBudget, ModelNotice
from backend.identity.models import User
from backend.jobs.leases import Lease, Leases
from backend.plain_text import PLAIN
from backend.postgres.database import UTC, Database, Scope
from backend.postgres.notifications import notify
from backend.postgres.repository import AccountGone
from backend.runs.ending import RunCancelled, RunCrashed, StillThere, end, noticed, told
from backend.runs.journal import Journal
from backend.runs.models import Run
from backend.runs.repository import Event, RunRepository, is_any_run_left, purgeable_runs
from backend.runs.transcript import Transcript

log = structlog.get_logger()

MessageText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000), PLAIN]
"""What a user says: 1 to 16,000 characters."""


MOST_UNFINISHED_RUNS = 32
"""Messages of a user that may wait for their answers at once."""
PURGED_AT_ONCE = 100


class Assistant(Protocol):
    """Whoever answers; the worker gets one from the composition root."""

    @property
    def is_loaded(self) -> bool:
        """Whether a run would be answered, or refused, at once; until then none is begun."""

    @property
    def is_ready(self) -> bool:
        """Whether a run would be answered."""

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        """Return the models that may answer this caller; a second one is for guests whose budget is spent."""

    def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
        """Return what a run works on, whatever happens meanwhile, as JSON."""

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        """Answer, and write every step into the journal up to its end."""


class ModelWithdrawn(DocuTalkError):
    """The model that began the run is not the caller's any more."""

    status = 503
    code = "model_withdrawn"

    def __init__(self) -> None:
        super().__init__(
            "The model that began this answer is not used any more. What was done stays; send the message again."
        )


class GaveUp(DocuTalkError):
    """The run was begun again and again, and no attempt came a step further."""

    code = "run_gave_up"

    def __init__(self) -> None:
        super().__init__(
            "The answer was begun several times and came no step further, because the server stopped in the middle "
            "each time. What was done stays; send the message again."
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this process works on now, and all that it needs for that."""

    caller: Caller
    lease: Lease
    conversation_id: int
    model: str
    fixed_input: dict[str, Any]
    transcript: Transcript
    stored: list[Event]
    """The events that were committed with the claim."""
    refused: DocuTalkError | None = None
    """Why the run is to be ended at once, if it is."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that was accepted."""

    run_id: str
    conversation_id: int
    message_id: int
    model: str
    model_notice: dict[str, Any] | None = None
    is_new: bool = True
    """Whether this request began it; otherwise one with the same key did."""
    claimed: Claimed | None = None
    """What this process needs to work on it, unless the run waits."""


class Turns:
    """Accepts messages, fixes what their runs work on, and finds runs to work on."""

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
        """Take the parts; `still_there` tells which documents may be cited."""
        self.still_there = still_there
        self._database = database
        self._assistant = assistant
        self._leases = leases
        self._guest_turns_per_day = guest_turns_per_day
        self._budget = GuestBudget(turns_per_day=guest_model_turns_per_day)
        self._history_messages = history_messages

    def accept(
        self,
        caller: Caller,
        message: str,
        *,
        conversation_id: int | None,
        idempotency_key: str | None = None,
        has_slot: bool = True,
    ) -> Turn:
        """Record the user's message and the run that will answer it, leased to this process if it `has_slot`.

        Raises:
            ConversationNotFound: The caller has no such conversation.
            KeyUsedForSomethingElse: The idempotency key came with another message before.
            TooManyRequests: A guest has used up the day's turns, or too many messages wait.
        """
        try:
            return self._accepted(caller, message, conversation_id, idempotency_key, has_slot)
        except IntegrityError:
            if idempotency_key is None:
                raise
            # An equal request committed first; now its run can be found.
            return self._accepted(caller, message, conversation_id, idempotency_key, has_slot)

    def model_notice(self, scope: Scope, caller: Caller) -> ModelNotice | None:
        """Return why the second of the caller's models would answer now, or None when the first one would."""
        preferred, *fallbacks = self._assistant.models_for(caller)
        return self._budget.notice(scope, preferred) if fallbacks and self._budget.is_spent(scope) else None

    def claim(self, but_not: Collection[str] = ()) -> Claimed | None:
        """Claim the run that has waited longest, `but_not` those that are executed here already; or return None."""
        return self._leases.claim(self._claimed, but_not=but_not)

    def are_left(self) -> bool:
        """Tell whether any run waits or is worked on, wherever that may be."""
        with self._database.transaction(None) as session:
            return is_any_run_left(session)

    def cancel(self, caller: Caller, run_id: str) -> Run:
        """Stop a run wherever it is, and return it; one that has ended stays as it is.

        A run that nobody works on ends at once; whoever works on it is told, and ends it after the step it is at.
        """
        with self._database.scope(caller.user_id, caller.zone) as scope:
            runs = RunRepository(scope)
            # In the order in which the end of a run locks them: the conversation, its runs.
            conversation = ConversationRepository(scope).get(runs.get(run_id).conversation_id, lock=True)
            run = runs.get(run_id, lock=True)
            if run.ended_at is None:
                if runs.is_leased(run_id):
                    runs.change(run, cancel_requested=True)
                    notify(scope.session, "cancel", run_id)
                else:
                    transcript = Transcript.of(runs.events(run_id, after=0), runs.responses(run_id))
                    # Text after the last step is void, also what was told live and never stored.
                    void = [Event("reset", {"offset": transcript.committed})] if run.attempt else []
                    missing = transcript.settle_missing()
                    attempt = run.attempt
                    ended = end(
                        scope,
                        conversation,
                        run,
                        transcript,
                        status="cancelled",
                        still_there=self.still_there,
                        error=told(RunCancelled()),
                    )
                    runs.append(run_id, [*void, *missing, *ended], attempt=attempt, last=True)
            scope.session.refresh(run)
            scope.session.expunge(run)
            return run

    def purge(self, *, older_than: timedelta) -> int:
        """Forget the events of some runs that ended long ago, and return of how many."""
        with self._database.transaction(None) as session:
            old = purgeable_runs(session, ended_before=self._database.now() - older_than, most=PURGED_AT_ONCE)
        for user_id, run_id in old:
            try:
                with self._database.scope(user_id, UTC) as scope:
                    RunRepository(scope).purge(run_id)
            except NotFound:
                continue
        return len(old)

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
            # The conversation's row is locked first, so that two messages at once are accepted one after the other.
            # Then come usage, numbers and the place in the queue, in the order in which others lock them: no deadlock.
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
            fixed_input = self._fixed_input(scope, caller, conversation.id, said.id) if lease else None
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
                    # Not the moment at which the transaction began: it waited for the run before.
                    started_at=self._database.now() if lease else None,
                )
            )
            appended = runs.append(run_id, [_run_event(run)], attempt=run.attempt, first=True)
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

    def _claimed(self, session: Session, lease: Lease) -> Claimed:
        scope = Scope(session, lease.user_id, self._database.now(), UTC)
        runs = RunRepository(scope)
        run = runs.get(lease.id)
        user = AccountRepository(scope).find()
        caller = _caller(run, user)
        transcript = Transcript()
        told_again: list[Event] = []
        refused: DocuTalkError | None = None
        # The budget was asked when the message was accepted. The run keeps the model that it got then.
        models = self._assistant.models_for(caller)
        try:
            if run.input is None:
                if run.model not in models:
                    run.model, run.model_notice = models[0], None
                run.input = self._fixed_input(scope, caller, run.conversation_id, run.message_id)
            if lease.attempt > 1:
                transcript = Transcript.of(runs.events(run.id, after=0), runs.responses(run.id))
                # What an earlier attempt said after its last step is void, also what was told live and never stored.
                told_again = [Event("reset", {"offset": transcript.committed})]
        except (SQLAlchemyError, DocuTalkError):
            raise
        except Exception:
            # A row that we cannot read must not keep every other from being claimed.
            log.exception("run_unreadable", run_id=run.id)
            refused = RunCrashed()
        if run.cancel_requested:
            refused = RunCancelled()
        elif user is None:
            refused = AccountGone()
        elif lease.is_hopeless:
            refused = GaveUp()
        elif run.model not in models:
            refused = ModelWithdrawn()
        runs.change(run, status="running", started_at=run.started_at or scope.now)
        stored = runs.append(run.id, [_run_event(run), *told_again], attempt=lease.attempt).events
        return Claimed(
            caller, lease, run.conversation_id, run.model, run.input or {}, transcript, stored, refused=refused
        )

    def _take_model(self, scope: Scope, caller: Caller) -> tuple[str, dict[str, Any] | None]:
        """Return the model that answers, and the notice that goes with it when the guests' budget is spent."""
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

    def _fixed_input(self, scope: Scope, caller: Caller, conversation_id: int, message_id: int) -> dict[str, Any]:
        messages = MessageRepository(scope).all(conversation_id, last=self._history_messages + 1, up_to=message_id)
        return self._assistant.fixed_input(messages, caller)


def _caller(run: Run, user: User | None) -> Caller:
    """Return who sent the message: with the rights of the token that was used, in the zone of today."""
    return Caller(
        user_id=run.user_id,
        kind="person" if user is not None and user.kind == "person" else "guest",
        scopes=frozenset(name for name in ALL_SCOPES if name in run.scopes),
        zone=user.zone if user is not None else UTC,
        door="chat",
        client=run.client,
        subject=user.subject if user is not None else None,
    )


def _run_event(run: Run) -> Event:
    seen = {
        "run_id": run.id,
        "conversation_id": run.conversation_id,
        "message_id": run.message_id,
        "status": run.status,
        "model": run.model,
    }
    return Event("run", seen | noticed(run))


def _turn(run: Run, *, is_new: bool = True) -> Turn:
    return Turn(run.id, run.conversation_id, run.message_id, run.model, run.model_notice, is_new)
