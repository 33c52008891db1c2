"""The service's processes: started, killed, stopped in order, and restarted on the same port."""

import asyncio
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
READY_SECONDS = 90.0
"""The most seconds for a start, with all imports on a busy machine and the creation of the database."""
MOST_FALSE_STARTS = 10
PORTS = range(20_000, 32_000)
"""The services' ports. They are below the ports that the system assigns to connections, so that a service's port stays
free while it is down."""


@dataclass(eq=False)
class Service:
    """A service with a fixed port, whose processes come and go."""

    name: str
    environment: dict[str, str]
    directory: Path
    port: int
    forked: bool
    """Whether the processes are forked from a process that has imported everything. Otherwise each is a new
    interpreter."""
    pid: int = 0
    is_ready: bool = False
    spans: list[tuple[float, float]] = field(default_factory=list)
    """The spans in which the service was ready, in seconds since the epoch; while the service is ready, the last span
    is open."""
    starts: list[float] = field(default_factory=list)
    """The seconds that each start took until it was ready."""
    surprises: list[str] = field(default_factory=list)
    """Unexpected ends of its processes."""
    _exit_status: Callable[[], int | None] = lambda: None
    _coming: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start a process, and record when it is ready."""
        environment = self.environment | {"PORT": str(self.port)}
        self.pid, self._exit_status = (_fork if self.forked else _spawn)(environment, self.directory, self.name)
        self._coming = asyncio.create_task(self._come_up())

    async def ready(self) -> None:
        """Wait until a process of the service is ready."""

        def come() -> bool:
            self.look()
            return self.is_ready

        if not await until(come, seconds=READY_SECONDS):
            raise RuntimeError(f"Service {self.name} does not become ready; its log is in {self.directory}.")

    def look(self) -> None:
        """If the process has ended by itself, record this and start another process."""
        if (status := self._exit_status()) is not None:
            self.surprises.append(f"Service {self.name}, process {self.pid}, ended by itself with status {status}.")
            if len(self.surprises) > MOST_FALSE_STARTS:
                raise RuntimeError("\n".join(self.surprises))
            self._down()
            self.start()

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        self._down()

    async def killed(self) -> None:
        """Wait until a killed process is gone and its port is free."""
        await self._ended(10)

    async def stop(self) -> tuple[int | None, float]:
        """Ask the process to stop; return its exit status, or None if it did not end, and the seconds it took."""
        started = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        self._down()
        status = await self._ended(30)
        if status is None:
            self.kill()
            await self.killed()
        return status, time.monotonic() - started

    def end(self) -> None:
        """Kill the process if it is still running."""
        if self.pid and self._exit_status() is None:
            self.kill()

    def _down(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
        if self.is_ready:
            self.spans[-1] = (self.spans[-1][0], time.time())
        self.is_ready = False

    async def _ended(self, seconds: float) -> int | None:
        await until(lambda: self._exit_status() is not None, seconds=seconds)
        return self._exit_status()

    async def _come_up(self) -> None:
        started = time.monotonic()
        async with httpx.AsyncClient(base_url=self.url, timeout=5) as client:
            while True:
                if await _answers(client):
                    break
                await asyncio.sleep(0.05)
        self.is_ready = True
        self.starts.append(time.monotonic() - started)
        self.spans.append((time.time(), float("inf")))


async def until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Wait for a condition; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while True:
        if (met := condition()) or time.monotonic() > deadline:
            return met
        await asyncio.sleep(0.01)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/ready")).status_code == 200
    except httpx.HTTPError:
        return False


def environment(data_dir: Path, **settings: Any) -> dict[str, str]:
    """Return an environment with these settings for a service, and none of the caller's settings."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"DATA_DIR": str(data_dir)} | {name: str(value) for name, value in settings.items()}


def warmed() -> ForkServerContext:
    """Return the context that forks processes from one that has imported everything a service imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.chaos.warm"])
    return context


def _fork(environment: dict[str, str], directory: Path, name: str) -> tuple[int, Callable[[], int | None]]:
    process = warmed().Process(target=_serve, args=(environment, directory, name), daemon=True)
    process.start()
    return process.pid or 0, lambda: process.exitcode


def _spawn(environment: dict[str, str], directory: Path, name: str) -> tuple[int, Callable[[], int | None]]:
    with (directory / f"{name}.out").open("a") as out, (directory / f"{name}.err").open("a") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "serve"],
            env=environment | {"PYTHONPATH": str(ROOT)},
            cwd=directory,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    return process.pid, process.poll


def _serve(environment: dict[str, str], directory: Path, name: str) -> None:
    """Run `docutalk serve` in a forked process."""
    from backend.cli import main

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, kind in ((1, "out"), (2, "err")):
        file = os.open(directory / f"{name}.{kind}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.exit(main(["serve"]))


def free_port() -> int:
    """Return a port that stays free while its service is down."""
    while True:
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port := random.SystemRandom().choice(PORTS)))
            except OSError:
                continue
            return port
