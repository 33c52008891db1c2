"""Only the document routes on a real socket, with small limits, over a database in which no document is ingested."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository
from backend.documents.routes import document_routes
from backend.documents.upload.form import UploadLimits
from backend.edge.authentication import sign_in
from backend.edge.problems import install_problems
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres
from tests.conftest import query, wait_until
from tests.own_database import knowing_everybody, opened, own_database

MOST_BYTES = 3 * 1024 * 1024
MOST_BYTES_OF_A_USER = 5 * 1024 * 1024


@dataclass
class Shelf:
    """Document routes over a database in which nothing is ingested, so documents stay as uploaded."""

    superuser_url: str
    database: Database
    authenticator: Authenticator
    rules: KeepingRules
    most_bytes: int = MOST_BYTES
    url: str = ""
    added: list[None] = field(default_factory=list)
    """One entry for each call of `on_added`."""

    def purge(self, user_id: str, document_id: int) -> None:
        with self.database.scope(user_id, ZoneInfo("UTC")) as scope:
            while DocumentRepository(scope).purge_some(document_id, most=1000):
                pass

    def guest(self) -> Caller:
        """Return a fresh user."""
        return self.authenticator.caller(self._guest_token())

    @contextmanager
    def reader(self) -> Iterator[httpx.Client]:
        """Yield an HTTP client that is signed in as a fresh guest."""
        with self.client(self._guest_token()) as client:
            yield client

    def client(self, token: str) -> httpx.Client:
        """Return an HTTP client that sends a token."""
        return httpx.Client(base_url=self.url, timeout=30, headers={"Authorization": f"Bearer {token}"})

    def caller(self, reader: httpx.Client) -> Caller:
        """Return the caller whom a client is signed in as."""
        return self.authenticator.caller(reader.headers["Authorization"].removeprefix("Bearer "))

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        return query(self.superuser_url, statement, *arguments)

    def but(self, **changes: Any) -> "Shelf":
        """Return another shelf with changes, over the same database."""
        return replace(self, added=[], **changes)

    def _guest_token(self) -> str:
        _, token = self.authenticator.welcome_guest(address="tests", zone=ZoneInfo("Europe/Berlin"))
        return token


@contextmanager
def open_shelf(shelf: Shelf) -> Iterator[Shelf]:
    """Serve the routes on a free port."""
    app = FastAPI()
    app.include_router(
        document_routes(
            Operations(shelf.database),
            shelf.database,
            sign_in(shelf.authenticator),
            limits=UploadLimits(most_bytes=shelf.most_bytes),
            rules=shelf.rules,
            on_added=lambda: shelf.added.append(None),
            purge=shelf.purge,
        )
    )
    install_problems(app)
    listener = socket.create_server(("127.0.0.1", 0))
    shelf.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield shelf
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def shelf(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[Shelf]:
    """A shelf that keeps originals."""
    rules = KeepingRules(most_bytes_of_a_user=MOST_BYTES_OF_A_USER)
    with own_database(cluster, template, f"shelf_{worker_id}") as made, opened(made.url) as database:
        shelf = Shelf(made.superuser_url, database, knowing_everybody(database), rules)
        with open_shelf(shelf):
            yield shelf


@pytest.fixture
def reader(shelf: Shelf) -> Iterator[httpx.Client]:
    """An HTTP client of the shelf, signed in as a fresh guest."""
    with shelf.reader() as client:
        yield client


@pytest.fixture
def other_reader(shelf: Shelf) -> Iterator[httpx.Client]:
    """Another guest's."""
    with shelf.reader() as client:
        yield client
