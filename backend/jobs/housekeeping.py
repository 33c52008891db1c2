"""Recurring cleanup: the service removes expired rows in batches while it does other work.

Each chore is a leased row. Only one process at a time does a chore. If that process stops, another one continues.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from anyio.to_thread import run_sync
from sqlalchemy import Integer, Text, text
from sqlmodel import Field, Session, SQLModel

from backend.errors import DocuTalkError, Unavailable
from backend.jobs.finder import LOOK_SECONDS
from backend.jobs.leases import Lease, LeasedTable, Leases
from backend.jobs.threads import in_own_thread
from backend.jobs.worker import LeasedWorker
from backend.postgres.database import Database
from backend.postgres.repository import timestamp

log = structlog.get_logger()

CHORES = LeasedTable("chores", "chore", is_owned=False)
REST_SECONDS = 3600.0
"""Seconds from the end of a chore until it is due again. A process with other work also checks for due chores this
often."""
IDLE_SECONDS = 86_400.0
"""Seconds between an idle service's checks for due chores. They are rare, so that a serverless database can sleep."""

REMOVED_AT_ONCE = 1_000
"""The most rows that `remove_old` removes in one transaction."""

Key = TypeVar("Key")


class ChoreRow(SQLModel, table=True):
    """A chore's row: when the chore is due, and which process does it. The row belongs to no user."""

    __tablename__ = "chores"

    id: str = Field(primary_key=True, sa_type=Text)
    due_at: datetime = timestamp(default_now=True)
    attempt: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    fruitless: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    lease_owner: str | None = Field(default=None, sa_type=Text)
    lease_until: datetime | None = timestamp()


@dataclass(frozen=True, slots=True)
class Chore:
    """A recurring job that removes expired rows."""

    id: str
    """The id of the chore's row in `chores`. A migration adds the row."""
    remove: Callable[[], Iterator[int]]
    """Removes what is due, one batch per transaction, and yields the number of rows in each batch."""
    is_waiting: Callable[[], bool] = lambda: False
    """Returns whether something that is due could not be removed because a run uses it. If so, the chore is repeated
    every few seconds."""


class StillInUse(Exception):
    """A run uses the row that a chore tried to remove."""


def remove_old(database: Database, function: str, *, keep: timedelta) -> Iterator[int]:
    """Remove all users' rows older than `keep`, oldest first. Yield how many rows each transaction removed.

    `function` is the name of the database function that removes the rows.
    """
    removed = REMOVED_AT_ONCE
    while removed == REMOVED_AT_ONCE:
        removed = prune(database, function, older_than=database.now() - keep, most=REMOVED_AT_ONCE)
        yield removed


def prune(database: Database, function: str, *, older_than: datetime, most: int) -> int:
    """Remove at most `most` rows from before `older_than`, oldest first. Return how many were removed."""
    with database.transaction(None) as session:
        found = session.execute(
            text(f"select {function}(:older_than, :most)"),  # The name is one of our constants.
            {"older_than": older_than, "most": most},
        )
        return int(found.scalar_one())


def remove_each(
    find: Callable[[Sequence[Key]], Sequence[Key]], remove: Callable[[Key], Iterable[int]]
) -> Iterator[int]:
    """Remove what `find` returns, one key after the other, until it returns no more keys.

    `find` gets the keys that it must leave out. A key that cannot be removed is left out until the chore runs again, so
    that it does not delay the others. Yields the number of removed rows after each transaction.
    """
    skipped: list[Key] = []
    while keys := find(skipped):
        for key in keys:
            try:
                yield from remove(key)
                continue
            except StillInUse:
                pass
            except Unavailable as error:
                log.warning("removal_put_off", key=key, code=error.code)
            except Exception:
                # A bug that affects one key must not prevent the removal of the others.
                log.exception("removal_failed", key=key)
            skipped.append(key)
            yield 0


class Housekeeper(LeasedWorker[Lease]):
    """Does each chore when it is due."""

    def __init__(
        self,
        database: Database,
        chores: Sequence[Chore],
        *,
        lease_seconds: float,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Set the chores. An idle service looks for due chores every `idle_seconds`."""
        super().__init__(Leases(database, CHORES, seconds=lease_seconds), slots=len(chores), idle_seconds=idle_seconds)
        self._database = database
        self._chores = {chore.id: chore for chore in chores}
        self._looked_at = self._woken_at = float("-inf")

    def database_is_awake(self) -> None:
        """Look for due chores if the last look was over an hour ago. Call this when the database is awake anyway."""
        if asyncio.get_running_loop().time() - self._looked_at >= REST_SECONDS:
            self.look_now()

    async def _look(self) -> bool:
        now = self._looked_at = asyncio.get_running_loop().time()
        waiting = [chore.id for chore in self._chores.values() if chore.is_waiting()]
        if waiting and now - self._woken_at >= LOOK_SECONDS:
            self._woken_at = now
            await run_sync(self._wake, waiting)
        return await super()._look() or bool(waiting)

    def _begin(self, _session: Session, lease: Lease) -> Lease:
        return lease

    def _job(self, begun: Lease) -> "_ChoreJob":
        return _ChoreJob(begun, self._chores.get(begun.id), self._rest)

    def _wake(self, ids: Sequence[str]) -> None:
        """Make the given chores due now, unless a process is working on them."""
        with self._database.transaction(None) as session:
            session.execute(
                text("update chores set due_at = now() where id = any(:ids) and lease_owner is null"), {"ids": ids}
            )

    def _rest(self, lease: Lease) -> None:
        """Record that a chore is done, and set the time at which it is due again."""
        with self._database.transaction(None) as session:
            session.execute(
                text(
                    "update chores set due_at = now() + make_interval(secs => :seconds), fruitless = 0, "
                    "lease_owner = null, lease_until = null where id = :id and attempt = :attempt"
                ),
                {"seconds": REST_SECONDS, "id": lease.id, "attempt": lease.attempt},
            )


class _ChoreJob:
    """One attempt at a chore."""

    is_work_left = False

    def __init__(self, lease: Lease, chore: Chore | None, rest: Callable[[Lease], None]) -> None:
        self._lease = lease
        self._chore = chore
        self._rest = rest
        self._why: DocuTalkError | None = None
        self._removed = 0

    @property
    def lease(self) -> Lease:
        """The lease of this attempt."""
        return self._lease

    @property
    def log_fields(self) -> dict[str, Any]:
        """The number of removed rows."""
        return {"removed": self._removed}

    def stop(self, why: DocuTalkError) -> None:
        """Stop after the current batch."""
        self._why = self._why or why

    async def work(self) -> str:
        """Remove everything that is due, and return "done".

        Raises:
            Unavailable: The chore was stopped, or cannot be done now.
        """
        return await in_own_thread(self._work)

    def _work(self) -> str:
        if self._chore is None:
            raise Unavailable("Only a newer version of the service knows this chore.", retry_after=1)
        self._go_on()
        for count in self._chore.remove():
            self._removed += count
            self._go_on()
        self._rest(self._lease)
        return "done"

    def _go_on(self) -> None:
        if self._why is not None:
            raise self._why
