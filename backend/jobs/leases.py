"""Leases on rows: a process claims a row and renews its lease. Once the lease runs out, any process may claim the row.

Each claim starts a new attempt, and every write checks the attempt's number. Only the database's clock decides whether
a lease has run out.
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
"""A row is given up after this many consecutive attempts that committed no step."""

_HOLD_PLACE = (
    text("insert into queues (user_id, kind) values (:user_id, :kind) on conflict do nothing"),
    text("select from queues where user_id = :user_id and kind = :kind for update"),
)

Begun = TypeVar("Begun")
"""The data that a process needs to work on a row that it has claimed."""


@dataclass(frozen=True, slots=True)
class LeasedTable:
    """A table whose rows are leased, and how it differs from other such tables.

    The table has the columns `id`, `attempt`, `fruitless`, `lease_owner` and `lease_until`, and two functions in the
    database. `claimable_{name}(most_of_a_user, but_not)` locks the next row that can be claimed and returns its
    (user_id, id). It may return a null id after it has only updated the queue; the caller then commits and calls it
    again. `is_any_{noun}_left()` returns whether there is work for any process.
    """

    name: str
    noun: str
    """The word for one row, used in log events and in the names of database functions."""
    waiting: str | None = None
    """The status of a row that no process works on; None if the rows have no status."""
    most_of_a_user: int = 1
    """How many rows of one user may be leased at once, so that one user cannot take every slot."""
    notified_as: Kind | None = None
    """The notification that is sent when a row can be claimed. If None, processes find the row when they look the next
    time."""
    is_owned: bool = True
    """Whether each row belongs to a user.

    If so, the table also has the columns `user_id`, `cancel_requested` and `ended_at`, and triggers update the user's
    place in the table `queues`.
    """
    is_numbered: bool = False
    """Whether ids count from 1 for each user, so that only (user_id, id) is unique."""

    @property
    def row(self) -> str:
        """The SQL condition that selects one row."""
        return "user_id = :user_id and id = :id" if self.is_owned else "id = :id"

    @property
    def cancel_requested(self) -> str:
        """The SQL expression that is true if the work on a row should stop."""
        return "cancel_requested" if self.is_owned else "false"


class LeaseLost(Unavailable):
    """Another process works on the row now, so this attempt cannot write any more."""

    code = "lease_lost"

    def __init__(self) -> None:
        super().__init__("Another process has taken this over and goes on with it.", retry_after=1)


class Queue(Owned, table=True):
    """A user's place in the queue for runs or for documents. Only functions in the database change it."""

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
    """The right to work on one row until the lease runs out or is lost. Every write checks the attempt's number."""

    user_id: str
    """The row's user; empty if the row belongs to no user."""
    id: str
    attempt: int
    fruitless: int = 1
    """How many consecutive attempts, including this one, have committed no step."""

    @property
    def is_hopeless(self) -> bool:
        """Whether this attempt should give up, because too many consecutive attempts committed no step."""
        return self.fruitless > MOST_FRUITLESS_ATTEMPTS


class Leases:
    """This process's leases on the rows of one table."""

    def __init__(self, database: Database, table: LeasedTable, *, seconds: float) -> None:
        self.table = table
        self.seconds = seconds
        self.owner = secrets.token_hex(8)
        """This process's random name, stored in `lease_owner`."""
        self._database = database

    def name_of(self, lease: Lease) -> str:
        """Return the row's name, which is unique across users."""
        return f"{lease.user_id} {lease.id}" if self.table.is_numbered else lease.id

    def are_any_left(self) -> bool:
        """Return whether any row is waiting, or is being worked on in any process."""
        with self._database.transaction(None) as session:
            left = session.execute(text(f"select is_any_{self.table.noun}_left()"))
            return bool(left.scalar_one())

    def until(self) -> Any:
        """Return the SQL expression for the end of a lease that begins now."""
        return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, self.seconds)

    def has_room(self, session: Session, user_id: str) -> bool:
        """Return whether the user may have one more leased row.

        Locks the user's place in the queue until the transaction ends. Take this lock after the locks on a
        conversation, its runs, the user's usage and the user's counters; a fixed order avoids deadlocks.
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
        """Claim the next row, and return what `begin` returns for it. Both happen in one transaction.

        The table's `claimable_` function decides which row is next. If the rows belong to users, it picks the user who
        was served least recently, and then that user's oldest row.

        `but_not` has the names of the rows that this process already works on. It must not claim them a second time if
        their leases ran out before it could renew them. Returns None if this process can claim no row now.
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
            # The function only cleared expired leases or removed users from the queue. These changes are committed now,
            # so call it again.

    def renew(self, lease: Lease) -> bool:
        """Renew a lease, and return whether the work on the row should stop.

        Raises:
            LeaseLost: Another process has claimed the row, or the row has ended or was deleted.
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
        """Allow any process to claim the row at once, and do not count this attempt as fruitless."""
        status = f", status = '{self.table.waiting}'" if self.table.waiting else ""
        self._let_go(lease, f"lease_until = null{status}, fruitless = greatest(fruitless - 1, 0)")

    def put_off(self, lease: Lease) -> None:
        """Allow any process to claim the row after a pause, which grows with the number of fruitless attempts."""
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
