"""Purge runs that ended long ago: remove their events, responses and input."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from backend.errors import NotFound
from backend.jobs.housekeeping import remove_each
from backend.postgres.database import UTC, Database
from backend.runs.repository import RunRepository, purgeable_runs

FOUND_AT_ONCE = 100

Key = tuple[str, str]
"""A run's user id and the run's own id."""


def purge_old_runs(database: Database, *, keep: timedelta) -> Iterator[int]:
    """Purge runs that ended longer than `keep` ago, the oldest first; yields 1 for each run.

    The runs' messages and operations stay.
    """

    def find(but_not: Sequence[Key]) -> list[Key]:
        with database.transaction(None) as session:
            return purgeable_runs(
                session,
                ended_before=database.now() - keep,
                most=FOUND_AT_ONCE,
                but_not=[run_id for _, run_id in but_not],
            )

    def remove(key: Key) -> Iterator[int]:
        user_id, run_id = key
        try:
            with database.scope(user_id, UTC) as scope:
                RunRepository(scope).purge(run_id)
        except NotFound:
            return
        yield 1

    return remove_each(find, remove)
