"""Messages between processes that share a database: LISTEN and NOTIFY on one connection outside the pool.

The messages are only hints; the rows are authoritative. A process that misses a message checks the rows itself, a
little later.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import psycopg2
import structlog
from anyio.to_thread import run_sync
from sqlalchemy import PoolProxiedConnection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from backend.errors import DatabaseUnavailable
from backend.postgres.database import Database, direct_connection

log = structlog.get_logger()

CHANNEL = "docutalk"
PROBE_SECONDS = 3.0
"""Seconds that our own probe may take to arrive. Through a pooler it usually never arrives."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 4.0
ASK_AGAIN_SECONDS = 60.0
"""Seconds to wait after the first probe that did not arrive. Each further wait is twice as long."""
LONGEST_ASK_AGAIN_SECONDS = 3600.0
LOOK_SECONDS = 10.0
"""Seconds between checks for work, in a process that gets no messages and has no other source of work."""
SWALLOWED = (
    "A connection pooler drops notifications, so other processes' changes are looked for every half second. Set "
    "MIGRATION_DATABASE_URL to the database's direct address to be notified at once."
)

Kind = Literal["news", "work", "cancel", "document", "probe"]
"""`news`: a run has something new for its followers. `work`: there is work for a process with a free slot. `cancel`: a
run must stop. `document`: there is a document to ingest. `probe`: our own test of the connection."""
Handler = Callable[[str, str], None]


def notify(session: Session, kind: Kind, subject: str) -> None:
    """Notify every process of a change, as soon as the transaction commits."""
    session.execute(text("select pg_notify(:channel, :told)"), {"channel": CHANNEL, "told": f"{kind} {subject}"})


class Notifications:
    """Listens while the process runs. While the process is idle, a lost connection is not reopened.

    A serverless database drops its connections when it falls asleep, and a new connection would wake it.
    """

    def __init__(self, database: Database, *, keeps_trying: bool = False) -> None:
        """With `keeps_trying`, also reconnect while idle.

        This is for processes that have no other source of new work.
        """
        self._database = database
        self._keeps_trying = keeps_trying
        self._handlers: dict[str, list[Handler]] = {kind: [] for kind in get_args(Kind)}
        self._wanted = asyncio.Event()
        self._probe = secrets.token_hex(8)
        self._probed = asyncio.Event()
        self.is_listening = False
        """Whether notifications are known to arrive."""

    def subscribe(self, kinds: Iterable[Kind], handler: Handler) -> None:
        """Call `handler(kind, subject)` for every notification of these kinds, on the event loop's thread."""
        for kind in kinds:
            self._handlers[kind].append(handler)

    def want(self) -> None:
        """Report that this process is active, so that a lost connection is reopened."""
        self._wanted.set()

    async def listen(self, url: str) -> None:
        """Listen at a URL until cancelled.

        Our own probe does not arrive if a pooler swallows notifications or if the database is slow. Then the next probe
        follows after a minute. Each further wait is twice as long, up to an hour.
        """
        reconnect, ask_again = FIRST_PAUSE, ASK_AGAIN_SECONDS
        while True:
            pause = reconnect
            reconnect = min(reconnect * 2, LONGEST_PAUSE)
            try:
                connection, is_direct = await run_sync(_listening, url)
                try:
                    if await self._follow(connection.driver_connection, is_direct=is_direct):
                        pause = reconnect = FIRST_PAUSE
                        ask_again = ASK_AGAIN_SECONDS
                    else:
                        if ask_again == ASK_AGAIN_SECONDS:
                            log.warning("notifications_unavailable", reason=SWALLOWED)
                        pause = ask_again
                        ask_again = min(ask_again * 2, LONGEST_ASK_AGAIN_SECONDS)
                finally:
                    self.is_listening = False
                    connection.close()
            except (SQLAlchemyError, psycopg2.Error, DatabaseUnavailable) as error:
                log.warning("notifications_lost", reason=type(error).__name__)
            except Exception:
                # Without notifications everything still works, only a little later. A bug here must not end the
                # service.
                log.exception("notifications_failed")
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Wait before the next attempt to connect. An idle process first waits until it is active again."""
        self._wanted.clear()
        if not self._keeps_trying:
            await self._wanted.wait()
            await asyncio.sleep(seconds)
            return
        while seconds > 0:
            await asyncio.sleep(min(seconds, LOOK_SECONDS))
            seconds -= LOOK_SECONDS
            self._look()

    def _look(self) -> None:
        """Make all workers in this process check for work that was announced while the process did not listen."""
        self._pass_on("work ")
        self._pass_on("document ")

    async def _follow(self, connection: Any, *, is_direct: bool) -> bool:
        """Pass notifications on until the connection is lost. Return whether to reconnect soon."""
        loop = asyncio.get_running_loop()
        lost = asyncio.Event()

        def read() -> None:
            try:
                connection.poll()
            except psycopg2.Error:
                loop.remove_reader(descriptor)
                lost.set()
            while connection.notifies:
                self._pass_on(connection.notifies.pop(0).payload)

        # The loop gets a duplicate descriptor. When the connection is lost, the driver closes its own descriptor, and
        # the next socket may get the same number.
        descriptor = os.dup(connection.fileno())
        loop.add_reader(descriptor, read)
        try:
            self.is_listening = is_direct and await self._is_heard()
            if self.is_listening:
                log.info("notifications_heard")
                self._look()
                await lost.wait()
                log.info("notifications_lost", reason="closed")
                return True
            return lost.is_set()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _is_heard(self) -> bool:
        """Send our own probe, and return whether it arrives."""

        def speak() -> None:
            with self._database.transaction(None) as session:
                notify(session, "probe", self._probe)

        self._probed.clear()
        await run_sync(speak)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probed.wait()
        except TimeoutError:
            return False
        return True

    def _pass_on(self, payload: str) -> None:
        kind, _, subject = payload.partition(" ")
        if kind == "probe" and subject == self._probe:
            self._probed.set()
        # Anybody with a database connection can send a kind that does not exist.
        for handler in self._handlers.get(kind, ()):
            handler(kind, subject)


def _listening(url: str) -> tuple[PoolProxiedConnection, bool]:
    """Return a listening connection, and whether it leads to the server itself rather than to a pooler."""
    connection = direct_connection(url)
    try:
        driver: Any = connection.driver_connection
        with driver.cursor() as cursor:
            # A pooler reports an invented backend id when a client connects, so the ids differ. Whether a notification
            # arrives does not show a pooler, because a pooler may pass one on by luck.
            cursor.execute(f"listen {CHANNEL}; select pg_backend_pid()")
            is_direct = cursor.fetchone()[0] == driver.info.backend_pid
    except BaseException:
        connection.close()
        raise
    return connection, is_direct
