"""A separate database for the tests of runs: any process on a database claims runs that nobody is working on."""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from backend.identity.authenticator import Authenticator, GuestRules
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres
from tests.conftest import LOGIN, database_url_of, login_url, query


@pytest.fixture(scope="session")
def database_url(cluster: EmbeddedPostgres, template: str, worker_id: str) -> str:
    """The URL, for the service's login, of a database that no service of other tests uses."""
    name = f"runs_{worker_id}"
    owner = " owner hosted_owner" if LOGIN == "owner" else ""
    query(cluster.url, f"create database {name} template {template}{owner}")
    return login_url(cluster, name)


@pytest.fixture(scope="session")
def superuser_url(cluster: EmbeddedPostgres, database_url: str) -> str:
    """The superuser's URL of the same database."""
    return database_url_of(cluster, make_url(database_url).database or "")


@pytest.fixture(scope="session")
def database(database_url: str) -> Iterator[Database]:
    """The database, open."""
    opened = Database()
    opened.open(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def authenticator(database: Database) -> Authenticator:
    """Accepts every kind of credential, and any number of guests from any address."""
    return Authenticator(database, secret=lambda: "tests", guests=GuestRules(per_hour=0))


@pytest.fixture(autouse=True)
def _no_run_is_left_for_the_next_test(superuser_url: str) -> Iterator[None]:
    yield
    query(superuser_url, "update runs set status = 'cancelled', ended_at = now() where ended_at is null")
