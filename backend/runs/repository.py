"""The repository of runs, their committed responses and their events."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, delete, exists, func, insert, text
from sqlmodel import Session, col, select

from backend.conversations.models import Conversation
from backend.errors import Conflict, NotFound
from backend.jobs.leases import LeaseLost
from backend.plain_text import storable_json
from backend.postgres.notifications import CHANNEL
from backend.postgres.repository import UserRepository
from backend.runs.models import Run, RunEvent, RunResponse

EventKind = Literal["run", "text", "tool_call", "tool_result", "approval", "citation", "reset", "done", "error"]
ENDED = ("completed", "failed", "cancelled")
STEPS = ("tool_call", "tool_result")
"""The kinds of events that are written with a committed step. An attempt that wrote one of them is not fruitless."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event for followers; `seq` is None if the event is not stored."""

    kind: str
    data: dict[str, Any]
    seq: int | None = None


class RunNotFound(NotFound):
    """The user has no such run."""

    def __init__(self) -> None:
        super().__init__("This answer does not exist.", hint="GET /api/conversations lists what there is.")


class RunEnded(Conflict):
    """The run has ended, so nothing can be added to it."""

    def __init__(self) -> None:
        super().__init__("This answer has ended. Send a new message to continue.")


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of `append`."""

    events: list[Event]
    """The events as they were stored, with their numbers."""
    is_work: bool
    """Whether one of the user's runs now waits to be claimed. Only the first or last events of a run can make this
    True."""


_APPEND = text(
    """
    with changed as (
        update runs set last_seq = last_seq + :count, fruitless = case when :is_step then 0 else fruitless end
        where user_id = :user_id and id = :id and attempt = :attempt and (ended_at is null or :last)
        returning last_seq, (:first or :last) and exists (
            select from queues q where q.user_id = :user_id and q.kind = 'runs' and q.place is not null
        ) as is_work
    )
    select last_seq, is_work, pg_notify(:channel, case when is_work then 'work ' else 'news ' end || :id) from changed
    """
)


class RunRepository(UserRepository[Run]):
    """The user's runs."""

    model = Run

    def get(self, run_id: str, *, lock: bool = False) -> Run:
        """Return a run, unless its conversation is deleted. With `lock`, lock its row until the transaction ends."""
        statement = self._mine().where(Run.id == run_id, self._is_shown())
        if lock:
            # Read the row again, because the session may hold its state from before the wait for the lock.
            statement = statement.with_for_update().execution_options(populate_existing=True)
        run = self._session.exec(statement).one_or_none()
        if run is None:
            raise RunNotFound
        return run

    def find(self, run_id: str) -> Run | None:
        """Return a run, even of a deleted conversation, with its row locked; None if there is no such run."""
        locked = self._mine().where(Run.id == run_id).with_for_update().execution_options(populate_existing=True)
        return self._session.exec(locked).one_or_none()

    def unended(self, conversation_id: int) -> list[Run]:
        """Return the runs of a conversation that have not ended, oldest first, with their rows locked."""
        mine = self._mine().where(Run.conversation_id == conversation_id, col(Run.ended_at).is_(None))
        locked = mine.order_by(col(Run.message_id)).with_for_update().execution_options(populate_existing=True)
        return list(self._session.exec(locked))

    def of_conversation(self, conversation_id: int) -> list[Run]:
        """Return all runs of a conversation, even of a deleted one."""
        return list(self._session.exec(self._mine().where(Run.conversation_id == conversation_id)))

    def find_key(self, key: str) -> Run | None:
        """Return the run that was accepted with an idempotency key, or None. The run may be of any age."""
        return self._session.exec(self._mine().where(Run.idempotency_key == key)).one_or_none()

    def is_busy(self, conversation_id: int) -> bool:
        """Return whether any run in the conversation has not ended."""
        statement = self._mine().where(Run.conversation_id == conversation_id, col(Run.ended_at).is_(None))
        return self._session.exec(statement.limit(1)).first() is not None

    def count_unfinished(self) -> int:
        """Return how many of the user's runs have not ended."""
        unfinished = self._mine().where(col(Run.ended_at).is_(None))
        return int(self._session.exec(select(func.count()).select_from(unfinished.subquery())).one())

    def is_leased(self, run_id: str) -> bool:
        """Return whether a process holds a lease on the run that, by the database's clock, has not run out."""
        leased = self._mine().where(
            Run.id == run_id, col(Run.lease_owner).is_not(None), col(Run.lease_until) >= func.now()
        )
        return self._session.exec(leased).first() is not None

    def add(self, run: Run) -> Run:
        """Add a new run."""
        self._session.add(run)
        self._session.flush()
        self._written("added", run_id=run.id, conversation_id=run.conversation_id)
        return run

    def change(self, run: Run, **fields: Any) -> Run:
        """Change the given fields of a run."""
        for name, value in fields.items():
            setattr(run, name, value)
        self._session.add(run)
        self._session.flush()
        if "status" in fields:
            self._written(fields["status"], run_id=run.id, conversation_id=run.conversation_id)
        return run

    def add_response(self, run_id: str, *, number: int, attempt: int, response: dict[str, Any]) -> None:
        """Add a model's response. It must be committed before any of its tool calls runs."""
        self._session.add(
            RunResponse(
                user_id=self._scope.user_id,
                run_id=run_id,
                number=number,
                attempt=attempt,
                response=storable_json(response),
                created_at=self._scope.now,
            )
        )
        self._written("added", table="run_responses", run_id=run_id)

    def responses(self, run_id: str) -> list[dict[str, Any]]:
        """List the committed responses, in order."""
        mine = _of(RunResponse, self._scope.user_id, run_id)
        kept = self._session.exec(select(RunResponse).where(*mine).order_by(col(RunResponse.number)))
        return [row.response for row in kept]

    def append(
        self, run_id: str, events: list[Event], *, attempt: int, first: bool = False, last: bool = False
    ) -> Appended:
        """Store events under the run's next numbers.

        This locks the run's row until the transaction ends, so numbers commit in order and without a gap. The commit
        sends a notification to every process. Its kind is `work` if a run now waits to be claimed: this run, a run that
        waited for this run's end, or a run that a claim skipped while this run was accepted. Otherwise its kind is
        `news`.

        Raises:
            RunNotFound: The user has no such run.
            RunEnded: The run has ended, and `last` is False.
            LeaseLost: A later attempt has begun.
        """
        appended = self._session.execute(
            _APPEND,
            {
                "count": len(events),
                "is_step": any(event.kind in STEPS for event in events),
                "user_id": self._scope.user_id,
                "id": run_id,
                "attempt": attempt,
                "first": first,
                "last": last,
                "channel": CHANNEL,
            },
        ).one_or_none()
        if appended is None:
            raise RunEnded if self.get(run_id).ended_at else LeaseLost
        stored = [
            Event(event.kind, storable_json(event.data), appended.last_seq - len(events) + place)
            for place, event in enumerate(events, start=1)
        ]
        mine = {"user_id": self._scope.user_id, "run_id": run_id, "created_at": self._scope.now}
        if stored:
            rows = [mine | {"seq": event.seq, "kind": event.kind, "data": event.data} for event in stored]
            self._session.execute(insert(RunEvent), rows)
            self._written("added", table="run_events", run_id=run_id, count=len(rows))
        return Appended(stored, appended.is_work)

    def events(self, run_id: str, *, after: int) -> list[Event]:
        """List the events with numbers above `after`, in order; no events while the conversation is deleted."""
        statement = (
            select(RunEvent.seq, RunEvent.kind, RunEvent.data)
            .where(*_of(RunEvent, self._scope.user_id, run_id), col(RunEvent.seq) > after)
            .where(
                exists().where(col(Run.user_id) == RunEvent.user_id, col(Run.id) == RunEvent.run_id, self._is_shown())
            )
            .order_by(col(RunEvent.seq))
        )
        return [Event(kind, dict(data), seq) for seq, kind, data in self._session.exec(statement)]

    def are_ended(self, run_ids: Collection[str]) -> bool:
        """Return whether all these runs have ended."""
        going_on = self._mine().where(col(Run.id).in_(run_ids), col(Run.ended_at).is_(None))
        return self._session.exec(going_on.limit(1)).first() is None

    def in_conversations_of(self, run_ids: Collection[str]) -> set[str]:
        """Return the ids of all runs in these runs' conversations, including these runs themselves.

        All runs of a conversation are needed, because a later run's input repeats the earlier messages.
        """
        conversations = self._mine().where(col(Run.id).in_(run_ids)).with_only_columns(col(Run.conversation_id))
        return {run.id for run in self._session.exec(self._mine().where(col(Run.conversation_id).in_(conversations)))}

    def models(self, run_ids: Collection[str]) -> dict[str, str]:
        """Return these runs' models, by run id."""
        mine = col(Run.user_id) == self._scope.user_id
        return dict(self._session.exec(select(Run.id, Run.model).where(mine, col(Run.id).in_(run_ids))).all())

    def purge(self, run_id: str) -> None:
        """Delete an ended run's events, responses and input. The run's messages and its rows in the ledger stay."""
        run = self.find(run_id)
        if run is None:
            raise RunNotFound
        for table in (RunEvent, RunResponse):
            self._session.execute(delete(table).where(*_of(table, self._scope.user_id, run_id)))
        self.change(run, input=None, purged_at=self._scope.now)
        self._written("purged", run_id=run_id)

    def _is_shown(self) -> ColumnElement[bool]:
        """Return the condition that a run's conversation is not deleted."""
        return ~exists().where(
            col(Conversation.user_id) == Run.user_id,
            col(Conversation.id) == Run.conversation_id,
            col(Conversation.deleted_at).is_not(None),
        )


def purgeable_runs(
    session: Session, *, ended_before: datetime, most: int, but_not: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return (user_id, id) for at most `most` unpurged runs that ended before `ended_before`, oldest first."""
    rows = session.execute(
        text("select user_id, id from due_runs(:ended_before, :most, :but_not)"),
        {"ended_before": ended_before, "most": most, "but_not": list(but_not)},
    )
    return [(row.user_id, row.id) for row in rows]


def _of(table: type[RunEvent] | type[RunResponse], user_id: str, run_id: str) -> tuple[Any, Any]:
    return col(table.user_id) == user_id, col(table.run_id) == run_id
