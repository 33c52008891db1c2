"""Remove expired guests and all their rows."""

from collections.abc import Iterator, Sequence

from backend.identity.accounts import AccountRepository, expired_users
from backend.jobs.housekeeping import remove_each
from backend.postgres.database import GIVE_WAY_SECONDS, UTC, Database

FOUND_AT_ONCE = 20
ROWS_AT_ONCE = 1000
"""The most rows that one transaction removes."""


def remove_expired_guests(database: Database) -> Iterator[int]:
    """Remove expired users, the longest expired first; yield how many rows each transaction removed."""

    def find(but_not: Sequence[str]) -> list[str]:
        with database.transaction(None) as session:
            return expired_users(session, most=FOUND_AT_ONCE, but_not=but_not)

    def remove(user_id: str) -> Iterator[int]:
        while True:
            with database.scope(user_id, UTC, lock_seconds=GIVE_WAY_SECONDS) as scope:
                count = AccountRepository(scope).delete_some(most=ROWS_AT_ONCE)
            if not count:
                return
            yield count

    return remove_each(find, remove)
