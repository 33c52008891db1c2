"""MCP clients over every way that an outside client has."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from backend.identity.accounts import TokenRepository
from backend.identity.authenticator import Authenticator
from backend.identity.caller import ALL_SCOPES, AccessScope
from backend.postgres.database import UTC, Database
from tests.mcp_server.sessions import Session, bare_environment, over_http, over_stdio

WAYS = [
    pytest.param("http auto", id="http-2026-07-28"),
    pytest.param("http legacy", id="http-2025-11-25"),
    pytest.param("stdio auto", id="stdio-2026-07-28"),
    pytest.param("bridge legacy", id="stdio-to-url-2025-11-25"),
    pytest.param("stdio legacy", id="stdio-2025-11-25", marks=pytest.mark.slow),
    pytest.param("bridge auto", id="stdio-to-url-2026-07-28", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session")
def new_token(authenticator: Authenticator) -> Callable[[], str]:
    """Makes the token of a fresh guest."""
    return lambda: authenticator.welcome_guest(address="tests", zone=ZoneInfo("Europe/Berlin"))[1]


@pytest.fixture
def api_token(authenticator: Authenticator, database: Database) -> Callable[..., str]:
    """Makes a personal access token for the user of another token; `hours` until it expires."""

    def make(token: str, *scopes: AccessScope, hours: int = 1) -> str:
        with database.scope(authenticator.caller(token).user_id, UTC) as scope:
            expires = scope.now + timedelta(hours=hours)
            return TokenRepository(scope).add(name="test", scopes=list(scopes or ALL_SCOPES), expires_at=expires)[1]

    return make


@pytest.fixture(scope="session")
def local_environment(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Makes the environment of `docutalk mcp` over the tests' database, with a token."""
    data_dir = str(tmp_path_factory.mktemp("stdio"))

    def make(token: str) -> dict[str, str]:
        given = {"DATABASE_URL": database_url, "MIGRATE_ON_START": "false", "DATA_DIR": data_dir}
        return bare_environment(DOCUTALK_TOKEN=token, **given)

    return make


@pytest.fixture(scope="session")
def connect(
    service: str, local_environment: Callable[[str], dict[str, str]]
) -> Callable[[str, str], AbstractContextManager[Session]]:
    """Connects one of the ways with a token."""

    def make(way: str, token: str) -> AbstractContextManager[Session]:
        kind, mode = way.split()
        match kind:
            case "http":
                return over_http(service, token, mode)
            case "stdio":
                return over_stdio(local_environment(token), mode=mode)
            case _:
                return over_stdio(bare_environment(DOCUTALK_TOKEN=token), "--url", service, mode=mode)

    return make


@pytest.fixture(scope="module", params=WAYS)
def session(
    request: pytest.FixtureRequest,
    connect: Callable[[str, str], AbstractContextManager[Session]],
    new_token: Callable[[], str],
) -> Iterator[Session]:
    """A fresh guest's client, by each way in turn."""
    with connect(request.param, new_token()) as connected:
        yield connected
