"""The embedded PostgreSQL, read by a superuser, whom no row policy limits, and crashed on purpose."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extras import RealDictCursor

RESTART_SECONDS = 60.0
"""The most seconds that the services may take to restart it."""

Row = dict[str, Any]


class Postgres:
    """The server in a DATA_DIR, accessed as its superuser over the socket."""

    def __init__(self, data_dir: Path) -> None:
        self._state = data_dir / "postgres" / "cluster" / "postmaster.pid"

    def query(self, statement: str, *arguments: Any) -> list[Row]:
        """Run one statement and return its rows as dictionaries."""
        with closing(self._connected()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return [dict(row) for row in cursor.fetchall()]

    def crash(self, *, whole: bool) -> int:
        """Kill the postmaster, or all the server's processes at once; return how many were killed."""
        postmaster = int(self._lines()[0])
        pids = [postmaster, *(_children(postmaster) if whole else ())]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def end(self) -> None:
        """Kill the server if nobody has stopped it, so that no process is left behind."""
        with suppress(OSError, IndexError, ValueError):
            if Path(f"/proc/{int(self._lines()[0])}/cwd").samefile(self._state.parent):
                self.crash(whole=True)

    async def is_back(self) -> bool:
        """Wait until the server accepts connections again; return False if nobody started it in time."""
        deadline = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self._takes_connections):
                return True
            await asyncio.sleep(0.05)
        return False

    def _takes_connections(self) -> bool:
        try:
            self._connected().close()
        except (OSError, IndexError, ValueError, psycopg2.OperationalError):
            return False
        return True

    def _connected(self) -> Any:
        _, _, _, port, directory, *_ = self._lines()
        connection = psycopg2.connect(
            host=directory,
            port=port,
            user="postgres",
            dbname="docutalk",
            connect_timeout=5,
            cursor_factory=RealDictCursor,
        )
        connection.autocommit = True
        return connection

    def _lines(self) -> list[str]:
        return self._state.read_text().splitlines()


def _children(parent: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in parentheses may contain anything; the parent's id is the second field after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(path.parent.name)
