import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bench.scripted_model import says
from tests.conftest import signed_in_guest, wait_until
from tests.process import Process, answers, running, started

LONG = says("and so on " * 200, wait=0.05)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an embedded database."""
    directory = tmp_path_factory.mktemp("embedded")
    with running(directory, name="first"):
        pass
    return directory


def postmaster_of(directory: Path) -> Path | None:
    """Return the process of the embedded database, or None if it does not run."""
    try:
        pid = (directory / "data" / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n")[0]
    except FileNotFoundError:
        return None
    return process if (process := Path("/proc", pid)).exists() else None


def assert_ended_well(process: Process, status: int) -> None:
    assert status == 0
    assert "Traceback" not in process.err
    assert [event for event in process.events if event.get("level") in ("error", "critical")] == []


@pytest.mark.slow
@pytest.mark.spec("PROC-1")
def test_a_conversation_goes_on_after_a_restart_and_on_a_second_process(embedded: Path) -> None:
    with running(embedded, name="a") as service, signed_in_guest(service.url) as guest:
        token = guest.headers["Authorization"]
        first = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).json()
        status = service.stop()
        assert_ended_well(service, status)
        assert postmaster_of(embedded) is None

    body = {"conversation_id": first["conversation_id"]}
    with running(embedded, name="b") as restarted, running(embedded, name="c") as second:
        with httpx.Client(headers={"Authorization": token}, timeout=30) as client:
            done = client.post(f"{restarted.url}/api/chat", json=body | {"message": "Mark it as done"}).json()
            deleted = client.post(f"{second.url}/api/chat", json=body | {"message": "Delete it"}).json()
            there = client.get(f"{restarted.url}/api/runs/{deleted['run_id']}/events").text
        status = restarted.stop()
        assert_ended_well(restarted, status)
        assert postmaster_of(embedded) is not None
        assert answers(f"{second.url}/health/db")
        status = second.stop()
        assert_ended_well(second, status)

    assert [call["name"] for call in done["tool_calls"]] == ["complete_task"]
    assert [call["name"] for call in deleted["tool_calls"]] == ["delete_task"]
    assert "event: done" in there
    assert postmaster_of(embedded) is None


HANGS = """
import asyncio, os, signal, threading, time

from backend import signals


async def hang():
    with signals.go_down_on_signal(lambda: None):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(60)


signals.LAST_SECONDS = 0.2
asyncio.run(hang())
"""


@pytest.mark.spec("PROC-3")
def test_a_process_whose_event_loop_hangs_ends_itself() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], timeout=50, capture_output=True, text=True, check=False)

    assert (ended.returncode, "stop_overdue" in ended.stdout) == (1, True), ended.stderr


@pytest.mark.slow
@pytest.mark.spec("PROC-3")
@pytest.mark.parametrize("signals", [1, 2], ids=["once", "twice"])
def test_ctrl_c_stops_the_service_and_its_database(embedded: Path, signals: int) -> None:
    with running(embedded) as service, signed_in_guest(service.url) as guest:
        guest.post("/api/chat", json={"message": "Add a task to buy milk"})
        assert postmaster_of(embedded) is not None
        for _ in range(signals - 1):
            os.killpg(service.popen.pid, signal.SIGINT)
            time.sleep(0.05)
        status = service.stop(signal.SIGINT)

    assert postmaster_of(embedded) is None
    assert_ended_well(service, status)


@pytest.mark.slow
@pytest.mark.spec("PROC-3")
@pytest.mark.parametrize("after", [0.0, 0.7, 1.5])
def test_a_stop_during_the_start_leaves_nothing(embedded: Path, after: float) -> None:
    with started(embedded) as service:
        wait_until(lambda: "Ctrl-C" in service.err, seconds=60)
        time.sleep(after)
        status = service.stop()

    assert postmaster_of(embedded) is None
    assert_ended_well(service, status)


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.slow
@pytest.mark.spec("PROC-4")
@pytest.mark.parametrize("more", [(), ("--reload",)], ids=["plain", "reload"])
def test_uvicorn_serves_the_factory(tmp_path: Path, database_url: str, port: int, more: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "uvicorn", "--factory", "backend.app:create_app", "--port", str(port), *more)
    with started(tmp_path, *command, DATABASE_URL=database_url) as service:
        service.url = f"http://127.0.0.1:{port}"
        service.wait_ready()
        with signed_in_guest(service.url) as guest:
            assert guest.post("/api/chat", json={"message": "hello"}).json()["status"] == "completed"
        assert service.stop() != 1, "It took too long, and ended itself."

    assert "Traceback" not in service.err


def memory_of(pid: int) -> int:
    """Return the proportional set size, in bytes, of a process and all its descendants."""
    rollup = Path("/proc", str(pid), "smaps_rollup").read_text()
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return own + sum(memory_of(int(child)) for child in children.stdout.split() if Path("/proc", child).exists())


@pytest.mark.slow
@pytest.mark.spec("PROC-5")
def test_twenty_turns_take_less_than_512_megabytes(embedded: Path) -> None:
    with running(embedded) as service, signed_in_guest(service.url) as guest:
        body: dict[str, object] = {}
        for number in range(20):
            body["message"] = f"Add a task to buy {number}"
            body["conversation_id"] = guest.post("/api/chat", json=body).json()["conversation_id"]
        postmaster = postmaster_of(embedded)
        assert postmaster is not None
        of_service, of_database = memory_of(service.popen.pid), memory_of(int(postmaster.name))

    assert of_service + of_database < 512e6, (of_service, of_database)
