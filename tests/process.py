"""The service as a separate process, started as its owner would start it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import LONGEST_START, wait_until

ROOT = Path(__file__).parents[1]
DOCUTALK = (sys.executable, "-m", "backend.cli")


@dataclass
class Process:
    """A running service."""

    popen: subprocess.Popen[bytes]
    directory: Path
    url: str = ""

    @property
    def out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def err(self) -> str:
        return (self.directory / "err").read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.popen.poll() is None, self.err
            return answers(f"{self.url}/ready")

        wait_until(ready, seconds=LONGEST_START)

    def wait_serving(self) -> None:
        """Wait until `docutalk serve` has printed its address and is ready."""

        def address() -> Any:
            assert self.popen.poll() is None, self.err
            return re.search(r"API +(http://\S+)/docs", self.err)

        self.url = wait_until(address, seconds=LONGEST_START)[1]
        self.wait_ready()

    def kill(self) -> None:
        """Kill the process at once, as a power cut would."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the process's group, as a terminal does, and return the exit status.

        A process that takes longer to stop than it promises ends itself with status 1, so 0 means that it stopped in
        time.
        """
        os.killpg(self.popen.pid, number)
        return self.popen.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def environment(directory: Path, **settings: Any) -> dict[str, str]:
    """Return an environment in which the command has only these settings."""
    unlimited = {"GUESTS_PER_HOUR": 0, "GUEST_MODEL_TURNS_PER_DAY": 0, "MAX_CONNECTIONS_PER_ADDRESS": 0}
    given = {"DATA_DIR": directory / "data", "PYTHONPATH": ROOT, "PORT": 0} | unlimited | settings
    return {**os.environ, **{name: str(value) for name, value in given.items()}}


def docutalk(directory: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for its end."""
    return subprocess.run(
        [*DOCUTALK, *arguments],
        env=environment(directory, **settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def started(directory: Path, *command: str, name: str = "service", **settings: Any) -> Iterator[Process]:
    """Start a command, `docutalk serve` by default, in its own process group; kill the rest of it at the end.

    Its log and other output are written to the directory `name` under `directory`.
    """
    output = directory / name
    output.mkdir(exist_ok=True)
    with (output / "out").open("w") as out, (output / "err").open("w") as err:
        popen = subprocess.Popen(
            command or (*DOCUTALK, "serve"),
            env=environment(directory, **settings),
            cwd=directory,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        yield Process(popen, output)
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGTERM)
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(popen.pid, signal.SIGKILL)
                popen.wait(5)


@contextmanager
def running(directory: Path, *, name: str = "service", **settings: Any) -> Iterator[Process]:
    """Start `docutalk serve` and yield it once it is ready."""
    with started(directory, name=name, **settings) as process:
        process.wait_serving()
        yield process
