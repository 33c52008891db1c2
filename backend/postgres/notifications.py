"""Messages between processes that share a database: LISTEN and NOTIFY on one connection outside the pool.

They are only hints; the rows hold the truth. A process that gets no message checks the rows itself, a little later.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import Any, Literal

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
"""How long our own probe may take to arrive. Through a pooler it never arrives."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 4.0
ASK_AGAIN_SECONDS = 60.0
"""The wait after the first probe that did not arrive. Each further wait is twice as long."""
LONGEST_ASK_AGAIN_SECONDS = 3600.0
LOOK_SECONDS = 10.0
"""Seconds between checks for work, in a process that gets no messages and has no other way to learn of work."""
SWALLOWED = (
    "A connection pooler drops notifications, so other processes' changes are looked for every half second. Set "
    "MIGRATION_DATABASE_URL to the database's direct address to be notified at once."
)

Kind = Literal["news", "work", "cancel", "document", "probe"]
"""`news` of a run for its followers, `work` for a process with a free slot, `cancel` to stop a run, `document` to
ingest, and `probe`, our own test of the connection."""
Heard = Callable[[str, str], None]


def notify(session: Session, kind: Kind, subject: str) -> None:
    """Notify every process of a change, once the transaction commits."""
    session.execute(text("select pg_notify(:channel, :told)"), {"channel": CHANNEL, "told": f"{kind} {subject}"})


class Notifications:
    """Listens while the process runs. A lost connection stays closed while the process is idle.

    A serverless database drops its connections when it falls asleep, and reconnecting would wake it.
    """

    def __init__(self, database: Database, *, keeps_trying: bool = False) -> None:
        """Take the database; `keeps_trying` is for a process with no other way to learn of work."""
        self._database = database
        self._keeps_trying = keeps_trying
        self._heard: list[Heard] = []
        self._wanted = asyncio.Event()
        self._probe = secrets.token_hex(8)
        self._probed = asyncio.Event()
        self.is_listening = False
        """Whether notifications are known to arrive."""

    def on_heard(self, heard: Heard) -> None:
        """Call `heard(kind, subject)` for every notification, on the event loop's thread."""
        self._heard.append(heard)

    def want(self) -> None:
        """Report activity in this process, which makes it worth reopening a lost connection."""
        self._wanted.set()

    async def listen(self, url: str) -> None:
        """Listen at a URL until cancelled.

        Our own probe does not arrive if a pooler swallows notifications or if the database is slow. The next probe
        follows after a minute, and each further one after twice as long, up to an hour.
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
                # Without notifications everything still works, a little later, so a bug here must not end the service.
                log.exception("notifications_failed")
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Wait before the next attempt; an idle process first waits for activity."""
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
        """Make everyone check for work that was announced while nobody listened."""
        self._pass_on("work ")
        self._pass_on("document ")

    async def _follow(self, connection: Any, *, is_direct: bool) -> bool:
        """Pass notifications on until the connection is lost; return whether it is worth reconnecting soon."""
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

        # A duplicate, because the driver closes its descriptor when the connection is lost, and the next socket reuses
        # the number.
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
        """Return whether our own probe arrives."""

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
        if kind == "probe":
            if subject == self._probe:
                self._probed.set()
        elif kind in ("news", "work", "cancel", "document"):
            for heard in self._heard:
                heard(kind, subject)


def _listening(url: str) -> tuple[PoolProxiedConnection, bool]:
    """Return a listening connection, and whether it leads to the server itself rather than to a pooler."""
    connection = direct_connection(url)
    try:
        driver: Any = connection.driver_connection
        with driver.cursor() as cursor:
            # A pooler reports an id of its own when a client connects. It may still pass on a notification by luck.
            cursor.execute(f"listen {CHANNEL}; select pg_backend_pid()")
            is_direct = cursor.fetchone()[0] == driver.info.backend_pid
    except BaseException:
        connection.close()
        raise
    return connection, is_direct
