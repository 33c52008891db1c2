"""The database of a service that starts before the database does, and what the service reports meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from backend.app import create_app
from backend.errors import DatabaseUnavailable, NewerSchema, NotReady
from backend.postgres import installation
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from backend.postgres.installation import Installation, Postgres
from backend.postgres.schema import head, migrate, revisions
from backend.settings import Settings
from tests.conftest import LOGIN, LONGEST_START, database_url_of, login_url, query, wait_until
from tests.own_database import own_database


@pytest.fixture
def empty(cluster: EmbeddedPostgres, database_url: str, worker_id: str) -> Iterator[Postgres]:
    """An empty database: the service's URL, and the one that migrates."""
    name = f"empty_{worker_id}"
    owner = f" owner {make_url(database_url).username}" if LOGIN == "owner" else ""
    query(cluster.url, f"create database {name}{owner}")
    if LOGIN == "owner":
        query(database_url_of(cluster, name), "create extension vector")
    service = login_url(cluster, name)
    yield Postgres(service, service if LOGIN == "owner" else database_url_of(cluster, name))
    query(cluster.url, f"drop database {name} with (force)")


@pytest.fixture
def database() -> Iterator[Database]:
    closed = Database()
    yield closed
    closed.close()


@pytest.mark.database
@pytest.mark.spec("INST-1")
def test_an_empty_database_is_migrated_and_then_served(database: Database, empty: Postgres) -> None:
    made = Installation(database, lambda: empty, migrate_on_start=True)
    assert (made.is_ready, made.reason) == (False, "The database is being opened.")

    made.open_now()

    assert made.is_ready
    database.check(revisions=revisions())
    made.close()
    assert not database.is_reachable()


@pytest.mark.database
@pytest.mark.spec("INST-2")
def test_nothing_is_served_from_a_database_that_is_not_in_order(database: Database, empty: Postgres) -> None:
    made = Installation(database, lambda: empty, migrate_on_start=False)
    served: list[bool] = []
    ended = threading.Event()

    def use() -> None:
        while not ended.is_set():
            served.append(database.is_reachable())

    user = threading.Thread(target=use)
    user.start()
    for _ in range(5):
        with pytest.raises(NotReady, match="is at nothing"):
            made.open_now()
    ended.set()
    user.join()
    assert not any(served)
    assert not made.is_ready


@pytest.mark.database
@pytest.mark.spec("INST-6")
def test_a_database_of_a_newer_version_is_not_migrated_and_told_at_ready(
    make_settings: Callable[..., Settings], cluster: EmbeddedPostgres, template: str, worker_id: str
) -> None:
    with own_database(cluster, template, f"newer_{worker_id}") as own:
        own.query("update alembic_version set version_num = '9999'")
        # A plain login may not migrate; this is about another error.
        settings = make_settings(database_url=own.url, migrate_on_start=True, log_level="CRITICAL")
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            told = wait_until(lambda: "newer" in client.get("/ready").text and client.get("/ready").json())
        with pytest.raises(NewerSchema):
            migrate(own.superuser_url if LOGIN == "plain" else own.url, revision="base")
        kept = own.query("select count(*)::int from embedding_models")

    assert told["detail"] == str(NewerSchema())
    assert kept == [(1,)]


@pytest.mark.database
@pytest.mark.spec("INST-3")
def test_the_service_tells_why_it_is_not_ready_and_becomes_ready_without_a_restart(
    make_settings: Callable[..., Settings], empty: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "RETRY_SECONDS", 0.1)
    settings = make_settings(database_url=empty.url, migrate_on_start=False, log_level="CRITICAL")

    with TestClient(create_app(settings), base_url="http://localhost") as client:
        told = wait_until(lambda: "docutalk migrate" in client.get("/ready").text and client.get("/ready"))
        assert told.status_code == 503
        assert told.json()["code"] == "not_ready"
        assert told.json()["detail"] == (
            f"The database's schema is at nothing and this version needs {head()}. "
            "Run `docutalk migrate` with the database owner's URL."
        )
        assert told.headers["Retry-After"] == "3"
        assert client.get("/health").status_code == 200
        assert client.get("/health/db").status_code == 503
        refused = client.post("/api/auth/guest", json={})
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")

        migrate(empty.migration_url, service_url=empty.url)

        wait_until(lambda: client.get("/ready").status_code == 200, seconds=30)
        assert client.post("/api/auth/guest", json={}).status_code == 201


@pytest.mark.spec("INST-3")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgres://u:secret@127.0.0.1:1/d", "The database does not answer right now."),
        ("mysql://u:secret@127.0.0.1:1/d", "Write DATABASE_URL as postgresql://"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setattr(installation, "RETRY_SECONDS", 0.1)

    app = create_app(make_settings(database_url=url, log_level="CRITICAL"))
    with TestClient(app, base_url="http://localhost") as client:
        told = wait_until(lambda: reason in client.get("/ready").text and client.get("/ready").text)

    assert "secret" not in told
    assert "127.0.0.1" not in told


@pytest.mark.spec("INST-4")
def test_the_embedded_database_is_used_when_there_is_no_url(database: Database, tmp_path: Path) -> None:
    assert Postgres.at(url="postgres://a", migration_url=None, data_dir=tmp_path) == Postgres(
        "postgres://a", "postgres://a"
    )
    assert (
        Postgres.at(url="postgres://a", migration_url="postgres://b", data_dir=tmp_path).migration_url == "postgres://b"
    )
    made = Installation(
        database, lambda: Postgres.at(url=None, migration_url=None, data_dir=tmp_path), migrate_on_start=True
    )

    made.open_now()
    pid_file = tmp_path / "postgres" / "cluster" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    with database.transaction(None):
        pass
    assert made.is_ready

    made.close()
    assert not pid_file.exists()


@pytest.mark.spec("INST-4")
def test_an_embedded_database_that_cannot_be_revived_is_unavailable(tmp_path: Path) -> None:
    postgres = Postgres.at(url=None, migration_url=None, data_dir=tmp_path)
    assert postgres.revive is not None
    database = Database()
    database.open(postgres.url, revive=postgres.revive)
    postgres.stop()

    assert not database.is_reachable()
    with pytest.raises(DatabaseUnavailable), database.transaction(None):
        pass
    database.close()


@pytest.mark.spec("INST-5")
def test_the_embedded_database_that_cannot_be_used_says_why_and_is_tried_again(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "RETRY_SECONDS", 0.1)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letter.txt").write_text("Not a database.")
    settings = make_settings(database_url=None, data_dir=tmp_path, migrate_on_start=True, log_level="CRITICAL")
    with pytest.raises(EmbeddedPostgresError) as refusal:
        EmbeddedPostgres.start(tmp_path / "postgres")

    with TestClient(create_app(settings), base_url="http://localhost") as client:
        wait_until(lambda: client.get("/ready").json().get("detail") == str(refusal.value))
        (tmp_path / "postgres" / "letter.txt").unlink()
        wait_until(lambda: client.get("/ready").status_code == 200, seconds=LONGEST_START)
        began = time.monotonic()
    assert time.monotonic() - began < 30
