"""Leases on rows that somebody works on: claimed, kept alive, fenced by their attempt, taken over when they run out.

A leased table has the columns `attempt`, `fruitless`, `lease_owner`, `lease_until`, `cancel_requested`, `ended_at` and
`status`, a function `claimable_{table}(most_of_a_user, but_not)` that finds a row to work on and locks it, and a
trigger that keeps its users' places in `queues`. The database's clock alone decides.
"""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlmodel import Field, Session, func

from backend.errors import Unavailable
from backend.postgres.database import Database, become
from backend.postgres.notifications import CHANNEL
from backend.postgres.repository import Owned, belongs_to_user, timestamp

MOST_FRUITLESS_ATTEMPTS = 5
"""Attempts without a newly committed step, after which a row is given up."""

WORK = {"runs": "work", "documents": "document"}
"""The kind of the notification that there is a row of the table for whoever is free."""

_WAITING = {"runs": "queued", "documents": "pending"}

_HOLD_PLACE = (
    text("insert into queues (user_id, kind) values (:user_id, :kind) on conflict do nothing"),
    text("select from queues where user_id = :user_id and kind = :kind for update"),
)

Begun = TypeVar("Begun")


class LeaseLost(Unavailable):
    """Somebody else works on the row now; whatever this attempt still wanted to write is void."""

    code = "lease_lost"

    def __init__(self) -> None:
        super().__init__("Another process has taken this over and goes on with it.", retry_after=1)


class Queue(Owned, table=True):
    """A user's place among those whose runs, or whose documents, wait; only the database's own functions change it."""

    __tablename__ = "queues"

    kind: str = Field(primary_key=True, sa_type=Text, description="The leased table.")
    served_at: datetime | None = timestamp(description="When a row of the user's was last claimed.")
    place: datetime | None = timestamp(description="The lowest comes first; None while nothing can be claimed.")

    __table_args__ = (
        belongs_to_user(),
        CheckConstraint("kind in ('runs', 'documents')", name="kind"),
        Index("ix_queues_place", "kind", "place", "user_id", postgresql_where=text("place is not null")),
    )


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row until it runs out or is lost; its attempt fences every write."""

    user_id: str
    id: str
    attempt: int
    fruitless: int = 1
    """This attempt and those right before it that committed no step."""

    @property
    def is_hopeless(self) -> bool:
        """Whether so many attempts came to nothing that this one should give the row up."""
        return self.fruitless > MOST_FRUITLESS_ATTEMPTS


class Leases:
    """The leases of this process on rows of one table."""

    def __init__(
        self, database: Database, table: Literal["runs", "documents"], *, seconds: float, most_of_a_user: int
    ) -> None:
        self.owner = secrets.token_hex(8)
        """This process's name in the rows."""
        self.seconds = seconds
        self._database = database
        self._table = table
        self._most_of_a_user = most_of_a_user

    def until(self) -> Any:
        """Return when a lease that is taken now runs out, for the database to work out."""
        return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, self.seconds)

    def has_room(self, session: Session, user_id: str) -> bool:
        """Tell whether the user may have one more row worked on; until the transaction ends, nobody else may decide.

        The user's place in the queue is locked last: after a conversation, its runs, usage and numbers.
        """
        for hold in _HOLD_PLACE:
            session.execute(hold, {"user_id": user_id, "kind": self._table})
        leased = session.execute(
            text(
                f"select count(*) from {self._table} where user_id = :user_id and ended_at is null "  # noqa: S608
                "and lease_until >= now()"
            ),
            {"user_id": user_id},
        )
        return int(leased.scalar_one()) < self._most_of_a_user

    def claim(self, begin: Callable[[Session, Lease], Begun], *, but_not: Collection[str] = ()) -> Begun | None:
        """Claim the oldest row of the user served longest ago, and return what `begin` makes of it, in one transaction.

        `but_not` are the ids of rows that this process works on already: when it was held up, their leases ran out, and
        are about to be renewed. Returns None when there is nothing that this process could claim now.
        """
        while True:
            with self._database.transaction(None) as session:
                found = session.execute(
                    text(f"select user_id, id from claimable_{self._table}(:most, :but_not)"),  # noqa: S608
                    {"most": self._most_of_a_user, "but_not": list(but_not)},
                ).one_or_none()
                if found is None:
                    return None
                if found.user_id is not None:
                    become(session, found.user_id)
                    return begin(session, self._take(session, found.user_id, found.id))
            # Leases that ran out were taken away, or many users left the queue. That is committed; now the next ones.

    def renew(self, lease: Lease) -> bool:
        """Keep a lease alive and return whether the work was asked to stop.

        Raises:
            LeaseLost: It is somebody else's now, or the row is gone or done.
        """
        with self._database.transaction(lease.user_id, lock_seconds=1) as session:
            stop = session.execute(
                text(
                    f"update {self._table} set lease_until = now() + make_interval(secs => :seconds) "  # noqa: S608
                    "where user_id = :user_id and id = :id and attempt = :attempt and lease_owner = :owner "
                    "returning cancel_requested"
                ),
                {**self._named(lease), "seconds": self.seconds},
            ).scalar_one_or_none()
        if stop is None:
            raise LeaseLost
        return bool(stop)

    def give_back(self, lease: Lease) -> None:
        """Let anybody claim the row at once; the attempt is not counted as a fruitless one."""
        waiting = _WAITING[self._table]
        self._let_go(lease, f"lease_until = null, status = '{waiting}', fruitless = greatest(fruitless - 1, 0)")

    def put_off(self, lease: Lease) -> None:
        """Let anybody claim the row in a while, the longer the more attempts came to nothing."""
        self._let_go(lease, "lease_until = now() + make_interval(secs => least(:seconds, 2.0 * fruitless))")

    def _let_go(self, lease: Lease, change: str) -> None:
        with self._database.transaction(lease.user_id) as session:
            session.execute(
                text(
                    f"update {self._table} set lease_owner = null, {change} "  # noqa: S608
                    "where user_id = :user_id and id = :id and attempt = :attempt and lease_owner = :owner "
                    "returning pg_notify(:channel, :kind || ' ' || id)"
                ),
                {**self._named(lease), "seconds": self.seconds, "channel": CHANNEL, "kind": WORK[self._table]},
            )

    def _take(self, session: Session, user_id: str, row_id: str) -> Lease:
        taken = session.execute(
            text(
                f"update {self._table} set attempt = attempt + 1, fruitless = fruitless + 1, "  # noqa: S608
                "lease_owner = :owner, lease_until = now() + make_interval(secs => :seconds) "
                "where user_id = :user_id and id = :id returning attempt, fruitless"
            ),
            {"user_id": user_id, "id": row_id, "owner": self.owner, "seconds": self.seconds},
        ).one()
        return Lease(user_id, row_id, taken.attempt, taken.fruitless)

    def _named(self, lease: Lease) -> dict[str, Any]:
        return {"user_id": lease.user_id, "id": lease.id, "attempt": lease.attempt, "owner": self.owner}
