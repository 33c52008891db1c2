"""Leases on rows: a process claims a row, renews its lease, and loses it to another process when it runs out.

The number of the attempt fences every write. The database's clock alone decides.
"""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlmodel import Field, Session, func

from backend.errors import Unavailable
from backend.postgres.database import Database, become
from backend.postgres.notifications import CHANNEL, Kind
from backend.postgres.repository import Owned, belongs_to_user, timestamp

MOST_FRUITLESS_ATTEMPTS = 5
"""Attempts without a newly committed step, after which a row is given up."""

_HOLD_PLACE = (
    text("insert into queues (user_id, kind) values (:user_id, :kind) on conflict do nothing"),
    text("select from queues where user_id = :user_id and kind = :kind for update"),
)

Begun = TypeVar("Begun")
"""What a process needs to work on a row that it has claimed."""


@dataclass(frozen=True, slots=True)
class LeasedTable:
    """A table whose rows are leased, and how it differs from the others.

    Its columns are `id`, `attempt`, `fruitless`, `lease_owner`, `lease_until`. Two functions of the database belong to
    it. `claimable_{name}(most_of_a_user, but_not)` locks the next row and returns (user_id, id); a null id means:
    commit and call again. `is_any_{noun}_left()` returns whether any process has work.
    """

    name: str
    noun: str
    """What one row is, in log events and names of functions."""
    waiting: str | None = None
    """The status of a row that no process works on; None where rows have no status."""
    most_of_a_user: int = 1
    """Rows of one user that are worked on at once, so that nobody takes every slot."""
    notified_as: Kind | None = None
    """The notification that is sent when a row can be claimed; None if the next look is soon enough."""
    is_owned: bool = True
    """Whether each row belongs to a user.

    Then it also has the columns `user_id`, `cancel_requested` and `ended_at`, and triggers keep its users' places in
    `queues`.
    """
    is_numbered: bool = False
    """Whether ids count from 1 for each user, so that only (user_id, id) is unique."""

    @property
    def row(self) -> str:
        """The SQL condition for one row."""
        return "user_id = :user_id and id = :id" if self.is_owned else "id = :id"

    @property
    def cancel_requested(self) -> str:
        """The SQL expression that tells whether the work on a row is to stop."""
        return "cancel_requested" if self.is_owned else "false"


class LeaseLost(Unavailable):
    """Another process works on the row now; whatever this attempt still wanted to write is void."""

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
    """The row's user; empty if it belongs to none."""
    id: str
    attempt: int
    fruitless: int = 1
    """This attempt and those right before it that committed no step."""

    @property
    def is_hopeless(self) -> bool:
        """Whether so many attempts in a row came to nothing that this one should give up."""
        return self.fruitless > MOST_FRUITLESS_ATTEMPTS


class Leases:
    """The leases of this process on rows of one table."""

    def __init__(self, database: Database, table: LeasedTable, *, seconds: float) -> None:
        self.table = table
        self.seconds = seconds
        self.owner = secrets.token_hex(8)
        """This process's name in the rows."""
        self._database = database

    def name_of(self, lease: Lease) -> str:
        """Return the row's name, which is unique across users."""
        return f"{lease.user_id} {lease.id}" if self.table.is_numbered else lease.id

    def are_any_left(self) -> bool:
        """Return whether any row waits or is worked on, in any process."""
        with self._database.transaction(None) as session:
            left = session.execute(text(f"select is_any_{self.table.noun}_left()"))
            return bool(left.scalar_one())

    def until(self) -> Any:
        """Return when a lease that is taken now runs out, for the database to work out."""
        return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, self.seconds)

    def has_room(self, session: Session, user_id: str) -> bool:
        """Return whether the user may have one more leased row.

        Locks the user's place in the queue until the transaction ends. That lock comes last: after a conversation, its
        runs, usage and numbers.
        """
        for hold in _HOLD_PLACE:
            session.execute(hold, {"user_id": user_id, "kind": self.table.name})
        leased = session.execute(
            text(
                f"select count(*) from {self.table.name} where user_id = :user_id and ended_at is null "  # noqa: S608
                "and lease_until >= now()"
            ),
            {"user_id": user_id},
        )
        return int(leased.scalar_one()) < self.table.most_of_a_user

    def claim(self, begin: Callable[[Session, Lease], Begun], *, but_not: Collection[str] = ()) -> Begun | None:
        """Claim the next row, and return what `begin` makes of it, in one transaction.

        The table's `claimable_` function decides which row is next: of users' rows, the oldest one of the user who was
        served longest ago.
        `but_not` are the names of rows that this process works on already: when it was held up, their leases ran out,
        and are about to be renewed. Returns None when there is nothing that this process could claim now.
        """
        while True:
            with self._database.transaction(None) as session:
                found = session.execute(
                    text(f"select user_id, id from claimable_{self.table.name}(:most, :but_not)"),  # noqa: S608
                    {"most": self.table.most_of_a_user, "but_not": list(but_not)},
                ).one_or_none()
                if found is None:
                    return None
                if found.id is not None:
                    if self.table.is_owned:
                        become(session, found.user_id)
                    return begin(session, self._take(session, found.user_id or "", found.id))
            # Leases that ran out were cleared, or users left the queue. That is committed; look again.

    def renew(self, lease: Lease) -> bool:
        """Keep a lease alive and return whether the work was asked to stop.

        Raises:
            LeaseLost: Another process has the row, or it is gone or ended.
        """
        with self._database.transaction(lease.user_id, lock_seconds=1) as session:
            stop = session.execute(
                text(
                    f"update {self.table.name} set lease_until = now() + make_interval(secs => :seconds) "  # noqa: S608
                    f"where {self.table.row} and attempt = :attempt and lease_owner = :owner "
                    f"returning {self.table.cancel_requested}"
                ),
                {**self._named(lease), "seconds": self.seconds},
            ).scalar_one_or_none()
        if stop is None:
            raise LeaseLost
        return bool(stop)

    def give_back(self, lease: Lease) -> None:
        """Let any process claim the row at once; the attempt is not counted as a fruitless one."""
        status = f", status = '{self.table.waiting}'" if self.table.waiting else ""
        self._let_go(lease, f"lease_until = null{status}, fruitless = greatest(fruitless - 1, 0)")

    def put_off(self, lease: Lease) -> None:
        """Let any process claim the row after a pause that grows with the attempts that came to nothing."""
        self._let_go(lease, "lease_until = now() + make_interval(secs => least(:seconds, 2.0 * fruitless))")

    def _let_go(self, lease: Lease, change: str) -> None:
        table = self.table
        told = "pg_notify(:channel, :kind || ' ' || id)" if table.notified_as else "id"
        with self._database.transaction(lease.user_id) as session:
            session.execute(
                text(
                    f"update {table.name} set lease_owner = null, {change} "  # noqa: S608
                    f"where {table.row} and attempt = :attempt and lease_owner = :owner returning {told}"
                ),
                {
                    **self._named(lease),
                    "seconds": self.seconds,
                    "channel": CHANNEL,
                    "kind": table.notified_as,
                },
            )

    def _take(self, session: Session, user_id: str, row_id: str) -> Lease:
        taken = session.execute(
            text(
                f"update {self.table.name} set attempt = attempt + 1, fruitless = fruitless + 1, "  # noqa: S608
                "lease_owner = :owner, lease_until = now() + make_interval(secs => :seconds) "
                f"where {self.table.row} returning attempt, fruitless"
            ),
            {"user_id": user_id, "id": row_id, "owner": self.owner, "seconds": self.seconds},
        ).one()
        return Lease(user_id, row_id, taken.attempt, taken.fruitless)

    def _named(self, lease: Lease) -> dict[str, Any]:
        return {"user_id": lease.user_id, "id": lease.id, "attempt": lease.attempt, "owner": self.owner}
