"""Begin an attempt at a run. The transaction that claims the run also fixes the run's input."""

from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from backend.conversations.models import Message
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.errors import DocuTalkError
from backend.identity.accounts import AccountRepository
from backend.identity.caller import ALL_SCOPES, Caller
from backend.identity.models import User
from backend.jobs.leases import Lease
from backend.postgres.database import UTC, Clock, Scope
from backend.postgres.repository import AccountGone
from backend.runs.ending import RunCancelled, RunCrashed, noticed
from backend.runs.journal import Journal
from backend.runs.models import Run
from backend.runs.repository import Event, RunNotFound, RunRepository
from backend.runs.transcript import Transcript

log = structlog.get_logger()


class Assistant(Protocol):
    """The part that answers messages: the agent, or a script in tests."""

    @property
    def is_loaded(self) -> bool:
        """Whether the assistant has finished loading, successfully or not. Until it has, new runs wait in the queue."""

    @property
    def is_ready(self) -> bool:
        """Whether a run that starts now can be answered."""

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        """Return the models that may answer this caller.

        If there are two, the second answers guests once their budget is spent.
        """

    def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
        """Return the run's input as JSON. The input never changes afterwards."""

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        """Answer a run, and write every step to the journal, including the run's end."""


class ModelWithdrawn(DocuTalkError):
    """The caller may no longer use the model with which the run began."""

    status = 503
    code = "model_withdrawn"

    def __init__(self) -> None:
        super().__init__(
            "The model that began this answer is not used any more. What was done stays; send the message again."
        )


class GaveUp(DocuTalkError):
    """Several consecutive attempts committed no step."""

    code = "run_gave_up"

    def __init__(self) -> None:
        super().__init__(
            "The server stopped several times while it was answering. What was done stays; send the message again."
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this process works on, with all data needed to execute it."""

    caller: Caller
    lease: Lease
    conversation_id: int
    model: str
    fixed_input: dict[str, Any]
    transcript: Transcript
    stored: list[Event]
    """The events that were committed together with the claim."""
    refused: DocuTalkError | None = None
    """The error with which the run must end at once, or None."""


class Attempts:
    """Begins attempts at runs."""

    def __init__(self, assistant: Assistant, *, now: Clock, history_messages: int) -> None:
        """Set the assistant, the clock, and how many earlier messages the model sees."""
        self._assistant = assistant
        self._now = now
        self._history_messages = history_messages

    def begin(self, session: Session, lease: Lease) -> Claimed:
        """Begin an attempt at a run under a new lease, in the transaction that claims the run."""
        scope = Scope(session, lease.user_id, self._now(), UTC)
        runs = RunRepository(scope)
        run = runs.find(lease.id)
        if run is None:
            raise RunNotFound
        conversation = ConversationRepository(scope).find(run.conversation_id)
        user = AccountRepository(scope).find()
        caller = _caller_of(run, user)
        transcript = Transcript()
        told_again: list[Event] = []
        refused: DocuTalkError | None = None
        # The guests' budget was checked when the message was accepted. The run keeps the model that was chosen then.
        models = self._assistant.models_for(caller)
        try:
            if run.input is None:
                if run.model not in models:
                    run.model, run.model_notice = models[0], None
                run.input = self.fixed_input(scope, caller, run.conversation_id, run.message_id)
            if lease.attempt > 1:
                transcript = Transcript.of(runs.events(run.id, after=0), runs.responses(run.id))
                # Discard the text that an earlier attempt wrote after its last committed step, including text that
                # followers saw live and that was never stored.
                told_again = [Event("reset", {"offset": transcript.committed})]
        except (SQLAlchemyError, DocuTalkError):
            raise
        except Exception:
            # One unreadable row must not keep other rows from being claimed.
            log.exception("run_unreadable", run_id=run.id)
            refused = RunCrashed()
        # During an update, an older version may accept a message in a deleted conversation. If the run could not
        # be claimed and ended, it would stay the next one in the queue and block other runs.
        if run.cancel_requested or conversation is None or conversation.deleted_at is not None:
            refused = RunCancelled()
        elif user is None:
            refused = AccountGone()
        elif lease.is_hopeless:
            refused = GaveUp()
        elif run.model not in models:
            refused = ModelWithdrawn()
        runs.change(run, status="running", started_at=run.started_at or scope.now)
        stored = runs.append(run.id, [run_event(run), *told_again], attempt=lease.attempt).events
        return Claimed(
            caller, lease, run.conversation_id, run.model, run.input or {}, transcript, stored, refused=refused
        )

    def fixed_input(self, scope: Scope, caller: Caller, conversation_id: int, message_id: int) -> dict[str, Any]:
        """Return the run's input as JSON. The input never changes afterwards."""
        messages = MessageRepository(scope).all(conversation_id, last=self._history_messages + 1, up_to=message_id)
        return self._assistant.fixed_input(messages, caller)


def run_event(run: Run) -> Event:
    """Return an event that describes the run's current state."""
    seen = {
        "run_id": run.id,
        "conversation_id": run.conversation_id,
        "message_id": run.message_id,
        "status": run.status,
        "model": run.model,
    }
    return Event("run", seen | noticed(run))


def _caller_of(run: Run, user: User | None) -> Caller:
    """Return the caller who sent the message.

    The scopes are those of the credential that sent the message. The time zone is the user's current time zone.
    """
    return Caller(
        user_id=run.user_id,
        kind="person" if user is not None and user.kind == "person" else "guest",
        scopes=frozenset(name for name in ALL_SCOPES if name in run.scopes),
        zone=user.zone if user is not None else UTC,
        door="chat",
        client=run.client,
        subject=user.subject if user is not None else None,
    )
