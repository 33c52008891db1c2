"""A real PostgreSQL for every test, separate users, and the service on a real socket.

TEST_POSTGRES (16 or 18) chooses the server's major version. TEST_LOGIN (superuser, owner or plain) chooses the
service's login: the embedded database's superuser, a hosted database's owner with BYPASSRLS, or a login that may only
switch to the app's role.
"""

import fcntl
import gc
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import psycopg2
import pytest
from sqlalchemy import make_url

from backend.app import create_app
from backend.cli import make_server
from backend.identity.authenticator import Authenticator, GuestRules
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres
from backend.postgres.schema import migrate
from backend.settings import Settings

if TYPE_CHECKING:
    from tests.own_database import OwnDatabase

POSTGRES = int(os.environ.get("TEST_POSTGRES", "18"))
LOGIN = os.environ.get("TEST_LOGIN", "superuser")
LONGEST_START = 120
"""The most seconds until a service is ready. A provider's library alone takes 15 seconds of CPU, on cores shared by all
tests."""
OWN_DIRECTORY = pytest.StashKey[str]()
TAKE_MINUTES = (
    "tests/test_outage.py",
    "tests/test_app.py",
    "tests/runs/test_crashes.py",
    "tests/documents/ingestion/test_crashes.py",
    "tests/web/test_page_goes_on.py",
)
"""Files whose few slow tests take a process minutes."""
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "CHROMIUM", "VIRTUAL_ENV", "CI")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Separate this run's files from others, ignore the developer's own settings, and block sockets to other machines.

    Several runs of one user share pytest's own directory, and each run restricts its permissions at the start. Another
    run's PostgreSQL, which runs as a different user under root, would then lose access to its files.
    """
    if config.option.basetemp is None:
        config.option.basetemp = config.stash[OWN_DIRECTORY] = tempfile.mkdtemp(prefix="docutalk-tests-")
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(("TEST_", "PYTEST", "PYTHON", "COV_", "XDG_")):
            del os.environ[name]
    # Otherwise every new HTTP client reads all certificate authorities, in 50 ms of CPU. No test connects by TLS.
    os.environ["SSL_CERT_DIR"] = os.devnull
    # Providers' libraries leave a million objects, and a full garbage collection would take a second each time.
    gc.set_threshold(100_000, 20, 20)
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"A test may not connect to {address[0]}.")
        connect(self, address)

    socket.socket.connect = only_here  # type: ignore[method-assign,assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that no process of `make test-all` works on one of them at the end.

    pytest-xdist by itself begins with the files of most tests, which are not these; `--no-loadscope-reorder` stops it.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(TAKE_MINUTES))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove this run's files unless something failed, because the logs are among them."""
    if exitstatus == pytest.ExitCode.OK and (made := session.config.stash.get(OWN_DIRECTORY, None)):
        # Deleting twenty thousand files takes 15 seconds of disk time, so nobody waits for it.
        os.spawnlp(os.P_NOWAIT, "rm", "rm", "-rf", made)  # noqa: S606  # A shell has nothing to do here.


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server for all processes of a test run."""
    postgres = EmbeddedPostgres.start(_shared(tmp_path_factory) / "postgres", major=POSTGRES)
    # No test cuts the machine's power, so commits need not wait for the disk: what a killed server wrote survives.
    query(postgres.url, "alter system set fsync = off")
    query(postgres.url, "select pg_reload_conf()")
    yield postgres
    postgres.stop()


@pytest.fixture(scope="session")
def template(cluster: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database, made once, and the service's login; returns the database's name."""
    name = "migrated"
    with (_shared(tmp_path_factory) / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not query(cluster.url, "select 1 from pg_database where datname = %s", name):
            if LOGIN == "owner":
                query(cluster.url, "create role hosted_owner login bypassrls createrole createdb")
                query(cluster.url, f"create database {name} owner hosted_owner")
                # Hosted databases let an owner do this, but the packaged pgvector is not marked as trusted.
                query(database_url_of(cluster, name), "create extension vector")
            else:
                if LOGIN == "plain":
                    query(cluster.url, "create role plain_login login")
                query(cluster.url, f"create database {name}")
            migrating = login_url(cluster, name) if LOGIN == "owner" else database_url_of(cluster, name)
            migrate(migrating, service_url=login_url(cluster, name))
    return name


@pytest.fixture(scope="module")
def own(
    request: pytest.FixtureRequest, cluster: EmbeddedPostgres, template: str, worker_id: str
) -> "Iterator[OwnDatabase]":
    """A migrated database that only the tests of this file use."""
    from tests.own_database import own_database  # It imports this file.

    with own_database(cluster, template, f"{request.module.__name__.rpartition('.')[2]}_{worker_id}") as made:
        yield made


@pytest.fixture(scope="session")
def database_url(cluster: EmbeddedPostgres, template: str, worker_id: str) -> str:
    """The URL, for the service's login, of this process's copy of the migrated database."""
    name = f"tests_{worker_id}"
    owner = " owner hosted_owner" if LOGIN == "owner" else ""
    query(cluster.url, f"create database {name} template {template}{owner}")
    return login_url(cluster, name)


@pytest.fixture(scope="session")
def superuser_url(cluster: EmbeddedPostgres, database_url: str) -> str:
    """The superuser's URL of the same database, which bypasses the policies."""
    return database_url_of(cluster, make_url(database_url).database or "")


@pytest.fixture(scope="session")
def database(database_url: str) -> Iterator[Database]:
    """The database, open."""
    opened = Database()
    opened.open(database_url)
    yield opened
    opened.close()


@pytest.fixture
def operations(database: Database) -> Operations:
    """The operations, the one door to the tools."""
    return Operations(database)


@pytest.fixture(scope="session")
def authenticator(database: Database) -> Authenticator:
    """Accepts every kind of credential, and any number of guests from any address."""
    return Authenticator(database, secret=lambda: "tests", guests=GuestRules(per_hour=0))


@pytest.fixture
def new_caller(authenticator: Authenticator) -> Callable[..., Caller]:
    """Makes callers, each a new guest; keyword arguments change the caller."""

    def make(**changes: Any) -> Caller:
        _, token = authenticator.welcome_guest(address="tests", zone=ZoneInfo("Europe/Berlin"))
        return replace(authenticator.caller(token), **changes)

    return make


@pytest.fixture
def alice(new_caller: Callable[..., Caller]) -> Caller:
    """A new user."""
    return new_caller()


@pytest.fixture
def bob(new_caller: Callable[..., Caller]) -> Caller:
    """Another new user."""
    return new_caller()


@pytest.fixture(scope="session")
def make_settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """Makes settings for a service over the tests' database."""
    data_dir = tmp_path_factory.mktemp("data")

    def make(**changes: Any) -> Settings:
        given: dict[str, Any] = {
            "environment": "test",
            "log_level": "WARNING",
            "data_dir": data_dir,
            "database_url": database_url,
            "migrate_on_start": False,
            "port": 0,
            "guests_per_hour": 0,
            "guest_turns_per_day": 0,
            "guest_model_turns_per_day": 0,
            "max_bytes_of_guests": 0,
            "max_connections_per_address": 0,
        }
        return Settings(**(given | changes))

    return make


@pytest.fixture(scope="session")
def service(make_settings: Callable[..., Settings]) -> Iterator[str]:
    """The service with the offline model, on a real socket; returns its address."""
    with serving(make_settings()) as url:
        yield url


@pytest.fixture
def guest(service: str) -> Iterator[httpx.Client]:
    """An HTTP client signed in as a new guest."""
    with signed_in_guest(service) as client:
        yield client


@pytest.fixture
def other_guest(service: str) -> Iterator[httpx.Client]:
    """An HTTP client signed in as another new guest."""
    with signed_in_guest(service) as client:
        yield client


@contextmanager
def signed_in_guest(url: str, **body: Any) -> Iterator[httpx.Client]:
    """Start a guest session and yield a client that sends its token."""
    with httpx.Client(base_url=url, timeout=30) as client:
        token = client.post("/api/auth/guest", json={"time_zone": "Europe/Berlin", **body}).raise_for_status().json()
        client.headers["Authorization"] = f"Bearer {token['token']}"
        yield client


@contextmanager
def serving(settings: Settings, **limits: float) -> Iterator[str]:
    """Serve the app in a thread, on a free port unless the settings name one; yield its address once it is ready."""
    listener = socket.create_server(("127.0.0.1", settings.port))
    # asyncio does this for sockets it creates itself. Without it each answer waits for the client's delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = make_server(create_app(settings), settings, **limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: _answers(f"{url}/ready"), seconds=LONGEST_START)
        yield url
    finally:
        server.should_exit = True
        thread.join(20)


def wait_until(condition: Callable[[], Any], *, seconds: float = 10) -> Any:
    """Return the condition's value as soon as it is true; fail if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"Not within {seconds} seconds.")


def query(url: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run one statement outside a transaction, and return its rows."""
    with connected(url) as cursor:
        cursor.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def connected(url: str) -> Iterator[psycopg2.extensions.cursor]:
    """Yield a cursor of a new connection in autocommit mode."""
    parsed = make_url(url)
    connection = psycopg2.connect(
        dbname=parsed.database, user=parsed.username, host=parsed.query["host"], port=parsed.query["port"]
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def database_url_of(cluster: EmbeddedPostgres, name: str) -> str:
    """Return the superuser's URL of another database of the cluster."""
    return make_url(cluster.url).set(database=name).render_as_string(hide_password=False)


def login_url(cluster: EmbeddedPostgres, name: str) -> str:
    """Return the URL of a database for the service's login in this test run."""
    user = {"superuser": "postgres", "owner": "hosted_owner", "plain": "plain_login"}[LOGIN]
    return make_url(cluster.url).set(database=name, username=user).render_as_string(hide_password=False)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Return the directory that the processes of a test run share."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
