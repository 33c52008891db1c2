"""The routes that report the service's health."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from backend import VERSION
from backend.app import create_app
from backend.edge import health
from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from tests.conftest import query, serving, signed_in_guest
from tests.own_database import OwnDatabase, own_database
from tests.problem import refused
from tests.process import running


@pytest.mark.spec("HEALTH-1")
def test_health_says_version_and_model(service: str) -> None:
    answer = httpx.get(f"{service}/health")

    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "version": VERSION, "model": "offline-rules-1"}


@pytest.mark.spec("HEALTH-2")
def test_the_health_of_the_database_tells_its_pool(service: str) -> None:
    answer = httpx.get(f"{service}/health/db")

    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["database"], told["database_ok"]) == ("healthy", "connected", True)
    assert told["pool_status"].keys() == {"size", "checked_out", "overflow"}
    assert told["pool_status"]["size"] == 20


@pytest.mark.spec("HEALTH-3")
def test_an_unreachable_database_is_told_without_the_drivers_words(make_settings: Callable[..., Settings]) -> None:
    away = make_settings(database_url="postgresql://someone:hunter2@127.0.0.1:1/nothing?connect_timeout=2")
    with TestClient(create_app(away), base_url="http://localhost") as client:
        health, database, ready = client.get("/health"), client.get("/health/db"), client.get("/ready")
        guest, tasks = (
            client.post("/api/auth/guest"),
            client.get("/api/tasks", headers={"Authorization": "Bearer dts_x"}),
        )

    assert health.status_code == 200
    assert database.status_code == 503
    assert database.json() == {"status": "unhealthy", "database": "unreachable", "database_ok": False}
    assert ready.status_code == 503
    assert ready.json()["code"] == "not_ready"
    for answer in (guest, tasks):
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    for answer in (database, ready, guest, tasks):
        for word in ("hunter2", "someone", "psycopg", "refused", "127.0.0.1"):
            assert word not in answer.text


@pytest.mark.spec("HEALTH-3")
def test_a_database_that_went_away_is_told_until_it_is_back(
    own: OwnDatabase, make_settings: Callable[..., Settings]
) -> None:
    with serving(make_settings(database_url=own.url)) as url, signed_in_guest(url) as guest:
        assert httpx.get(f"{url}/ready").status_code == 200
        query(own.elsewhere, f"alter database {own.name} allow_connections false")
        query(own.elsewhere, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", own.name)

        refused(guest.get("/api/tasks"), 503, "database_unavailable")
        problem = refused(httpx.get(f"{url}/ready"), 503, "not_ready")
        assert problem["detail"] == "The database does not answer."
        assert httpx.get(f"{url}/health").status_code == 200

        query(own.elsewhere, f"alter database {own.name} allow_connections true")
        assert httpx.get(f"{url}/ready").status_code == 200


@pytest.mark.spec("HEALTH-6")
def test_a_database_that_hangs_holds_one_thread_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.05)
    asked: list[None] = []
    answer = threading.Event()

    def hangs() -> bool:
        asked.append(None)
        return answer.wait(30)

    async def story() -> tuple[list[bool], bool]:
        question = health.Question(hangs)
        hung = await asyncio.gather(*(question.is_answered() for _ in range(50)))
        answer.set()
        monkeypatch.setattr(health, "ANSWER_SECONDS", 30)
        return hung, await question.is_answered()

    hung, afterwards = asyncio.run(story())

    assert hung == [False] * 50
    assert afterwards
    assert len(asked) == 1


@pytest.mark.spec("HEALTH-4")
def test_ready_means_that_a_turn_could_be_served(service: str) -> None:
    answer = httpx.get(f"{service}/ready")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.spec("HEALTH-5")
def test_metrics_are_for_this_machine_and_not_through_a_proxy(service: str) -> None:
    httpx.get(f"{service}/api/tasks")
    httpx.get(f"{service}/api/tasks/1")
    httpx.request("X" * 50, f"{service}/api/tasks")

    told = httpx.get(f"{service}/metrics")

    assert told.status_code == 200
    assert 'docutalk_requests_total{method="GET",route="/api/tasks/{task_id}",status="401"}' in told.text
    assert "XXXX" not in told.text
    assert "docutalk_request_seconds_bucket" in told.text
    for header in ("X-Forwarded-For", "Forwarded"):
        refused(httpx.get(f"{service}/metrics", headers={header: "for=203.0.113.1"}), 404, "not_found")


@pytest.mark.spec("HEALTH-5")
def test_metrics_take_their_token_when_there_is_one(make_settings: Callable[..., Settings]) -> None:
    with serving(make_settings(metrics_token="of the scraper")) as url:
        refused(httpx.get(f"{url}/metrics"), 404, "not_found")
        refused(httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer wrong"}), 404, "not_found")
        refused(httpx.get(f"{url}/metrics", headers={b"Authorization": b"Bearer \xff"}), 404, "not_found")
        assert httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer of the scraper"}).status_code == 200


@pytest.mark.slow
@pytest.mark.spec("DOWN-1")
def test_a_service_that_goes_down_says_so_while_it_still_answers(
    cluster: EmbeddedPostgres, template: str, worker_id: str, tmp_path: Path
) -> None:
    with (
        own_database(cluster, template, f"health_{worker_id}") as own,
        running(tmp_path, DATABASE_URL=own.url, MIGRATE_ON_START="false") as service,
        signed_in_guest(service.url) as guest,
    ):
        assert guest.get("/ready").status_code == 200
        os.kill(service.popen.pid, signal.SIGTERM)
        while (ready := guest.get("/ready")).status_code == 200:
            pass
        problem = refused(ready, 503, "not_ready")
        assert problem["detail"] == "The server is going down."
        assert int(ready.headers["Retry-After"]) > 0

        # Requests that still arrive meanwhile are answered, and their messages wait for another process.
        waiting = guest.post("/api/chat", json={"message": "Add a task to buy milk"})
        assert (waiting.status_code, waiting.json()["status"]) == (202, "queued")
        assert guest.get("/health").json()["status"] == "healthy"
        assert guest.get("/ready").status_code == 503

        assert service.popen.wait(10) == 0
        assert own.query("select status, attempt, lease_owner from runs") == [("queued", 0, None)]
