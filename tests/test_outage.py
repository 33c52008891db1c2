"""The database disappears under a busy or idle service: refusals say when to retry, and work continues afterwards."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from bench.scripted_model import ScriptedModel, says, scripted_model
from tests.conftest import POSTGRES, query, serving, signed_in_guest, wait_until
from tests.problem import refused
from tests.process import Process, running
from tests.test_silence import Statements

WORDS = "and so on " * 40
EVENTS = {"Accept": "text/event-stream"}
TO_MODEL: dict[str, Any] = {"MODEL": "openai/any", "OPENAI_API_KEY": "x", "LEASE_SECONDS": 2}


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A model that takes two seconds for an answer."""
    with scripted_model([says(WORDS, wait=0.05)]) as scripted:
        yield scripted


def kill(directory: Path, *, everything: bool) -> None:
    """Kill the postmaster under a data directory, or all processes of the server."""
    pid = int((directory / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0])
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    for number in [pid, *(int(child) for child in children.stdout.split() if everything)]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def ask_everything(client: httpx.Client) -> Counter[int]:
    """Call routes that need the database; each answers, or says when to retry."""
    statuses: Counter[int] = Counter()
    for method, path, body in (
        ("GET", "/api/me", None),
        ("GET", "/api/tasks", None),
        ("POST", "/api/tasks", {"title": "milk"}),
        ("GET", "/api/conversations", None),
        ("POST", "/api/auth/guest", {}),
        ("POST", "/api/chat", {"message": "Tell me"}),
    ):
        answer = client.request(method, path, json=body)
        statuses[answer.status_code] += 1
        if answer.status_code not in (200, 201, 202):
            problem = refused(answer, 503)
            assert problem["code"] in ("database_unavailable", "lease_lost"), problem
            assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/health").status_code == 200
    return statuses


@contextmanager
def in_the_middle_of_an_answer(guest: httpx.Client) -> Iterator[str]:
    """Begin a turn, and yield its run's id once a part of the answer arrived."""
    with guest.stream("POST", "/api/chat", json={"message": "Tell me"}, headers=EVENTS) as answer:
        lines = answer.iter_lines()
        run_id = next(json.loads(line[6:])["run_id"] for line in lines if line.startswith("data: "))
        assert "event: text" in lines
        yield run_id


def assert_completed(client: httpx.Client, run_id: str) -> None:
    """Wait until a run has ended, and check that its events are complete, in order, and not repeated."""
    path = f"/api/runs/{run_id}"

    def ended() -> Any:
        answer = client.get(path)
        return answer.status_code == 200 and answer.json()["status"] not in ("queued", "running") and answer.json()

    assert wait_until(ended, seconds=60)["error"] is None
    told = [
        (int(number.removeprefix("id: ")), name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for number, name, data in (block.split("\n") for block in client.get(f"{path}/events").text.split("\n\n")[:-1])
    ]
    text = ""
    for _, name, data in told:
        text = text[: data["offset"]] + data.get("delta", "") if name in ("text", "reset") else text
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    assert [name for _, name, _ in told].count("done") == 1
    assert told[-1][1:] == ("done", told[-1][2] | {"status": "completed", "response": text})
    assert text.strip() == WORDS.strip()


def assert_calm(service: Process) -> None:
    """Check that the service lives and has logged no bugs."""
    assert (service.popen.poll(), "Traceback" in service.err) == (None, False)
    assert [line for line in service.events if line.get("level") in ("error", "critical")] == []


@pytest.mark.slow
@pytest.mark.spec("OUTAGE-1", "OUTAGE-2")
def test_an_embedded_database_that_is_killed_in_mid_turn_is_back_and_the_run_goes_on(
    make_settings: Callable[..., Settings], tmp_path: Path, model: ScriptedModel
) -> None:
    settings = make_settings(
        database_url=None,
        migrate_on_start=True,
        data_dir=tmp_path,
        model="openai/any",
        openai_api_key="x",
        openai_base_url=model.url,
        lease_seconds=2,
    )
    with serving(settings) as url, signed_in_guest(url) as guest:
        with in_the_middle_of_an_answer(guest) as run_id:
            kill(tmp_path, everything=False)
            statuses = ask_everything(guest)
        # The first request that finds the database dead restarts it, and waits for that.
        assert statuses.keys() <= {200, 201, 202, 503}
        assert_completed(guest, run_id)
        assert ask_everything(guest).keys() <= {200, 201}


@pytest.mark.slow
@pytest.mark.spec("OUTAGE-1", "OUTAGE-2", "OUTAGE-3")
def test_two_services_share_a_database_that_is_killed_while_they_work_and_while_they_idle(
    tmp_path: Path, model: ScriptedModel
) -> None:
    settings = TO_MODEL | {"OPENAI_BASE_URL": model.url}
    with (
        running(tmp_path, name="a", loaded=True, **settings) as service,
        running(tmp_path, name="b", loaded=True, **settings) as other,
        signed_in_guest(service.url) as guest,
        httpx.Client(base_url=other.url, headers=guest.headers, timeout=30) as there,
    ):
        for everything in (False, True):
            with in_the_middle_of_an_answer(guest) as run_id:
                kill(tmp_path / "data", everything=everything)
                for client in (there, guest):
                    assert ask_everything(client).keys() <= {200, 201, 202, 503}
            assert_completed(there, run_id)

            wait_for_quiet(tmp_path)
            kill(tmp_path / "data", everything=everything)
            for client in (guest, there):
                wait_until_served(client)
            assert_heard_again(service, other)
        for process in (service, other):
            assert_calm(process)


@pytest.mark.slow
@pytest.mark.spec("OUTAGE-1", "OUTAGE-2", "OUTAGE-3")
def test_a_database_of_ones_own_is_stopped_for_a_while_and_all_goes_on_when_it_is_back(
    tmp_path: Path, model: ScriptedModel
) -> None:
    theirs = EmbeddedPostgres.start(tmp_path / "theirs", major=POSTGRES)
    settings = TO_MODEL | {"OPENAI_BASE_URL": model.url, "DATABASE_URL": theirs.url}
    try:
        with running(tmp_path, loaded=True, **settings) as service, signed_in_guest(service.url) as guest:
            with in_the_middle_of_an_answer(guest) as run_id:
                theirs.stop()
                away_since = time.monotonic()
                statuses: Counter[int] = Counter()
                # Longer than a lease, and longer than the model answers.
                while time.monotonic() - away_since < 6:
                    statuses += ask_everything(guest)
                    assert guest.get("/health/db").status_code == 503
            assert statuses.keys() == {503}
            theirs = EmbeddedPostgres.start(tmp_path / "theirs", major=POSTGRES)
            assert_completed(guest, run_id)
            assert query(theirs.url, "select count(*) from runs") == [(1,)]
            assert ask_everything(guest).keys() <= {200, 201}
            assert_heard_again(service)

            theirs.stop()
            assert ask_everything(guest).keys() == {503}
            theirs = EmbeddedPostgres.start(tmp_path / "theirs", major=POSTGRES)
            assert ask_everything(guest).keys() <= {200, 201}
            assert_heard_again(service)
            assert_calm(service)
    finally:
        theirs.stop()


def wait_until_served(client: httpx.Client) -> None:
    """Wait until no request is refused anymore."""
    wait_until(lambda: ask_everything(client).keys() <= {200, 201}, seconds=60)


def wait_for_quiet(directory: Path) -> None:
    """Wait until the services have seen that no work is left."""
    unended = "select count(*) from runs where ended_at is null"
    url = EmbeddedPostgres(directory / "data" / "postgres", 18).url
    wait_until(lambda: query(url, unended) == [(0,)], seconds=60)
    query(url, "alter system set log_statement = 'all'")
    query(url, "select pg_reload_conf()")
    Statements(directory / "data" / "postgres" / "server.log").settle()


def assert_heard_again(*services: Process) -> None:
    """Check that services with activity since then receive notifications again."""

    def is_heard(service: Process) -> bool:
        told = [line["event"] for line in service.events if line["event"].startswith("notifications_")]
        return told[-1] == "notifications_heard" and told.count("notifications_heard") > 1

    for service in services:
        wait_until(partial(is_heard, service), seconds=60)
