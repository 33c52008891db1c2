"""Separate databases for tests: any process on a database claims runs that nobody is working on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from backend.identity.authenticator import Authenticator, GuestRules
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres
from tests.conftest import LOGIN, database_url_of, login_url, query


@dataclass(frozen=True)
class OwnDatabase:
    """A migrated database."""

    name: str
    url: str
    """The URL for the service's login."""
    superuser_url: str
    """The superuser's URL of the same database."""
    elsewhere: str
    """The superuser's URL of another database, to watch this one without connecting to it."""

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        return query(self.superuser_url, statement, *arguments)


@contextmanager
def own_database(cluster: EmbeddedPostgres, template: str, name: str) -> Iterator[OwnDatabase]:
    """Create a copy of the migrated database, and drop it at the end."""
    owner = " owner hosted_owner" if LOGIN == "owner" else ""
    query(cluster.url, f"create database {name} template {template}{owner}")
    try:
        yield OwnDatabase(name, login_url(cluster, name), database_url_of(cluster, name), cluster.url)
    finally:
        query(cluster.url, f"drop database {name} with (force)")


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Database]:
    """Open a database, as one process does, and close it at the end."""
    database = Database(**options)
    database.open(url)
    try:
        yield database
    finally:
        database.close()


def knowing_everybody(database: Database) -> Authenticator:
    """Return an authenticator that admits any number of guests."""
    return Authenticator(database, secret=lambda: "tests", guests=GuestRules(per_hour=0))
