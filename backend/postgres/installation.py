"""Open, migrate and check the database in the background, and retry until it is usable."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog
from anyio.to_thread import run_sync

from backend.errors import DatabaseUnavailable, NewerSchema, NotReady
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from backend.postgres.schema import migrate, revisions

log = structlog.get_logger()

RETRY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL to use: an existing one, or the embedded one after this process has joined it."""

    url: str
    migration_url: str
    revive: Callable[[], None] | None = None
    stop: Callable[[], None] = lambda: None

    @classmethod
    def at(cls, *, url: str | None, migration_url: str | None, data_dir: Path) -> Self:
        """Return the database at `url`. Without a URL, start or join the embedded database and return it.

        Raises:
            EmbeddedPostgresError: The embedded database cannot be used. The message says why.
        """
        if url is not None:
            return cls(url, migration_url or url)
        embedded = EmbeddedPostgres.start(data_dir / "postgres")

        def revive() -> None:
            try:
                embedded.ensure_running()
            except EmbeddedPostgresError as error:
                log.error("embedded_postgres_lost", reason=str(error))
                raise DatabaseUnavailable from error

        return cls(embedded.url, embedded.url, revive, embedded.stop)


class Installation:
    """Opens, migrates and checks a running service's database in the background."""

    def __init__(self, database: Database, find: Callable[[], Postgres], *, migrate_on_start: bool) -> None:
        self._database = database
        self._find = find
        self._migrate_on_start = migrate_on_start
        self._postgres: Postgres | None = None
        self._checked = False
        self.reason: str = "The database is being opened."
        """Why the database cannot be used yet, as a sentence for the owner."""

    @property
    def is_ready(self) -> bool:
        """Whether the database is open and has passed the check."""
        return self._checked

    async def open(self) -> str:
        """Open the database. Retry for as long as it takes, and log each new reason for a failure.

        Returns the URL of the database server itself. The URL in use may lead to a pooler instead.
        """
        last_told = ""
        while True:
            try:
                return await run_sync(self.open_now)
            except (NotReady, DatabaseUnavailable, EmbeddedPostgresError) as error:
                told = error.for_owner if isinstance(error, DatabaseUnavailable) else str(error)
                if told != last_told:
                    log.error("not_ready", reason=told)
                self.reason, last_told = str(error), told
            except Exception:
                # A bug must not end the retries, because nobody would notice that this task has died.
                self.reason = "The database could not be opened; the log says why."
                log.exception("database_not_opened")
            await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Close the connections, and leave the embedded database."""
        self._database.close()
        if self._postgres is not None:
            self._postgres.stop()

    def open_now(self) -> str:
        """Open, migrate and check the database, and return the server's own URL; raise an error if this fails."""
        postgres = self._postgres = self._postgres or self._find()
        known = revisions()
        # The check uses separate connections, so that no request uses a database that is not in order.
        looking = Database(pool_size=1)
        looking.open(postgres.url, revive=postgres.revive)
        try:
            try:
                looking.check(revisions=known)
            except NotReady as error:
                if isinstance(error, NewerSchema) or not self._migrate_on_start:
                    raise
                migrate(postgres.migration_url, service_url=postgres.url)
                looking.check(revisions=known)
        finally:
            looking.close()
        self._database.open(postgres.url, revive=postgres.revive)
        self._checked = True
        log.info("database_ready", embedded=postgres.revive is not None)
        return postgres.migration_url
