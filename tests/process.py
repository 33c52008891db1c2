"""The service as a separate process, started as its owner would start it."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from backend.cli import main
from tests.conftest import LONGEST_START, wait_until

ROOT = Path(__file__).parents[1]
DOCUTALK = (sys.executable, "-m", "backend.cli")
LOADED = multiprocessing.get_context("forkserver")
"""Forks from a process that has imported what a service loads; LiteLLM alone is ten seconds of CPU."""
LOADED.set_forkserver_preload(
    [
        "tests.process",
        "backend.app",
        "backend.agent.loop",
        "backend.agent.providers",
        "backend.mcp_server.http",
        "backend.mcp_server.server",
    ]
)


class Running(Protocol):
    """What tests need of a process: `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Forked:
    """A command of `docutalk` in a process that was forked from a loaded one; as a `Running`."""

    def __init__(self, directory: Path, output: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
        self._process = LOADED.Process(target=_become, args=(directory, output, environment, arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # Until then, a signal to its group would find no group.
        wait_until(lambda: self._process.exitcode is not None or os.getpgid(self.pid) == self.pid)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("docutalk", timeout or 0)
        return self._process.exitcode


def _become(directory: Path, output: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Turn this process into what a command would have started."""
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for name, number in (("out", 1), ("err", 2)):
        with (output / name).open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.exit(main(arguments))


@dataclass
class Process:
    """A running service."""

    popen: Running
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
def started(
    directory: Path, *command: str, name: str = "service", loaded: bool = False, **settings: Any
) -> Iterator[Process]:
    """Start a command, `docutalk serve` by default, in its own process group; kill the rest of it at the end.

    Its log and other output are written to the directory `name` under `directory`. With `loaded=True` the command is
    forked from a process that has imported the service, which takes a tenth of the CPU: for tests of what a process
    does, not of how it starts.
    """
    command = command or (*DOCUTALK, "serve")
    output = directory / name
    output.mkdir(exist_ok=True)
    given = environment(directory, **settings)
    popen: Running
    with (output / "out").open("w") as out, (output / "err").open("w") as err:
        if loaded:
            assert command[: len(DOCUTALK)] == DOCUTALK
            popen = Forked(directory, output, given, command[len(DOCUTALK) :])
        else:
            popen = subprocess.Popen(command, env=given, cwd=directory, stdout=out, stderr=err, start_new_session=True)
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
def running(directory: Path, *, name: str = "service", loaded: bool = False, **settings: Any) -> Iterator[Process]:
    """Start `docutalk serve` and yield it once it is ready."""
    with started(directory, name=name, loaded=loaded, **settings) as process:
        process.wait_serving()
        yield process
