"""The database gets no statements while nothing is queued or running, so that a serverless one can sleep."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from tests.conftest import database_url_of, query, serving, signed_in_guest, wait_until
from tests.own_database import OwnDatabase, own_database
from tests.process import running, started

SETTLED_SECONDS = 5.0
"""By then the checks after the last run are over."""
EVENTS = {"Accept": "text/event-stream"}


@dataclass
class Statements:
    """The statements that the server logs for one database, which this test itself never queries."""

    log: Path

    def since(self, place: int) -> list[str]:
        with self.log.open() as log:
            log.seek(place)
            return [line for line in log if "LOG:  statement: " in line or "LOG:  execute " in line]

    def here(self) -> int:
        return self.log.stat().st_size

    def settle(self) -> None:
        """Wait until there were no statements for some seconds."""
        seen, since = self.here(), time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            if self.since(seen):
                seen, since = self.here(), time.monotonic()
            return time.monotonic() - since > SETTLED_SECONDS

        wait_until(settled, seconds=30)


@pytest.fixture
def own(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[OwnDatabase]:
    with own_database(cluster, template, f"silence_{worker_id}") as made:
        query(made.elsewhere, f"alter database {made.name} set log_statement = 'all'")
        yield made


def talk(url: str, other_url: str) -> None:
    """Do everything that makes a process watch the database.

    That is: wait for a turn, follow a run of another process, drop a stream, and stop a run.
    """
    with signed_in_guest(url) as guest, httpx.Client(base_url=other_url, headers=guest.headers, timeout=30) as other:
        first = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).raise_for_status().json()
        more = {"conversation_id": first["conversation_id"], "message": "Show me all my tasks"}
        for client in (guest, other):
            with client.stream("POST", "/api/chat", json=more, headers=EVENTS) as answer:
                line = next(line for line in answer.iter_lines() if line.startswith("data: "))
            run_id = json.loads(line.removeprefix("data: "))["run_id"]
            for follower in (guest, other):
                assert "event: done" in follower.get(f"/api/runs/{run_id}/events").text
                follower.post(f"/api/runs/{run_id}/cancel").raise_for_status()
        assert other.post("/api/chat", json=more).json()["status"] == "completed"


@pytest.mark.slow
@pytest.mark.spec("SILENT-1")
def test_after_some_turns_no_statement_comes_from_either_process(
    cluster: EmbeddedPostgres, own: OwnDatabase, make_settings: Callable[..., Settings]
) -> None:
    statements = Statements(cluster._log)
    beginning = statements.here()
    with ExitStack() as stack:
        one, other = [stack.enter_context(serving(make_settings(database_url=own.url))) for _ in range(2)]
        talk(one, other)
        assert len(statements.since(beginning)) > 50
        statements.settle()

        silent_from = statements.here()
        time.sleep(15)  # The promise is that nothing happens, so there is no event to wait for.
        assert statements.since(silent_from) == []

        for url in (one, other):
            assert httpx.get(f"{url}/ready").status_code == 200
            assert httpx.get(f"{url}/health").status_code == 200
        assert statements.since(silent_from) == []
        talk(other, one)
        assert len(statements.since(silent_from)) > 50


@pytest.mark.long
@pytest.mark.spec("SILENT-1")
def test_real_processes_leave_their_database_alone_for_five_minutes(tmp_path: Path) -> None:
    worker = (sys.executable, "-m", "backend.cli", "worker")
    with running(tmp_path, name="a") as service:
        embedded = EmbeddedPostgres.start(tmp_path / "data" / "postgres")
        statements = Statements(embedded._log)
        beginning = statements.here()
        # Only new connections log, so that this test's own statements are not counted.
        postgres = database_url_of(embedded, "postgres")
        query(postgres, "alter database docutalk set log_statement = 'all'")
        query(postgres, "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'docutalk'")
        try:
            with running(tmp_path, name="b") as other, started(tmp_path, *worker, name="worker") as third:
                wait_until(lambda: any(line["event"] == "notifications_heard" for line in third.events), seconds=60)
                talk(service.url, other.url)
                talk(other.url, service.url)
                assert len(statements.since(beginning)) > 100
                statements.settle()

                silent_from = statements.here()
                time.sleep(300)  # The promise is that nothing happens, so there is no event to wait for.
                assert statements.since(silent_from) == []

                talk(service.url, other.url)
                assert len(statements.since(silent_from)) > 50
                assert (third.popen.poll(), third.err) == (None, "")
        finally:
            embedded.stop()
