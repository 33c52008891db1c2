"""A database of one's own with one user in it, since any process takes up any document of its database."""

from collections.abc import Iterator

import pytest

from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.documents.desk import (
    UTC,
    Shelf,
    TinyEmbedder,
    model_in_use,
)
from tests.own_database import OwnDatabase, knowing_everybody, opened


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def shelf(own: OwnDatabase) -> Shelf:
    return Shelf(own.superuser_url)


@pytest.fixture
def caller(own: OwnDatabase, database: Database) -> Caller:
    """The only user there is: nobody else's documents are in the way."""
    own.query("delete from users")
    authenticator = knowing_everybody(database)
    return authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1])


@pytest.fixture
def tiny(shelf: Shelf, caller: Caller) -> Iterator[None]:  # noqa: ARG001  # Users' vectors are gone by then.
    """Have the tiny model in use."""
    with model_in_use(shelf, "tiny", TinyEmbedder.dim):
        yield
