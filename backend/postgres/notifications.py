"""What the processes over one database tell each other: by LISTEN and NOTIFY, on one connection outside the pool.

Nothing here is the truth, which is in the rows: who hears nothing looks for itself, a little later.
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
"""How long our own notification may take to reach us; a pooler's connection never gets it."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 4.0
ASK_AGAIN_SECONDS = 60.0
"""How long after the first probe that did not arrive the next one is sent; each further wait is twice as long."""
LONGEST_ASK_AGAIN_SECONDS = 3600.0
LOOK_SECONDS = 10.0
"""How often a process that learns of work in no other way looks for it while it hears nothing."""
SWALLOWED = (
    "A pooler in between swallows them: what other processes do is looked for every half second instead. Set "
    "MIGRATION_DATABASE_URL to the database's direct address to hear of it at once."
)

Kind = Literal["news", "work", "cancel", "document", "probe"]
"""News of a run for its followers, a run for whoever has room, a wish to stop one, a document to ingest, and our own
test of the line."""
Heard = Callable[[str, str], None]


def notify(session: Session, kind: Kind, subject: str) -> None:
    """Tell every process, once the transaction commits, that there is news of a row, work, or a wish to stop."""
    session.execute(text("select pg_notify(:channel, :told)"), {"channel": CHANNEL, "told": f"{kind} {subject}"})


class Notifications:
    """Listens while the process runs. A lost connection is not made again while nothing happens in the process.

    A serverless database that falls asleep drops its connections, and connecting would wake it.
    """

    def __init__(self, database: Database, *, keeps_trying: bool = False) -> None:
        """`keeps_trying` is for a process that would not learn of work in any other way."""
        self._database = database
        self._keeps_trying = keeps_trying
        self._heard: list[Heard] = []
        self._wanted = asyncio.Event()
        self._probe = secrets.token_hex(8)
        self._probed = asyncio.Event()
        self.is_listening = False
        """Whether notifications are known to arrive."""

    def on_heard(self, heard: Heard) -> None:
        """Call `heard(kind, subject)` on the event loop's thread with every notification."""
        self._heard.append(heard)

    def want(self) -> None:
        """Say that something goes on in this process, so that a lost connection is worth making again."""
        self._wanted.set()

    async def listen(self, url: str) -> None:
        """Listen at a URL until cancelled.

        Our own notification does not arrive where a pooler in between swallows all of them, or where the database is
        slow. The next probe follows after a minute, and each further one after twice as long, up to an hour.
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
                # Without notifications everything works, a little later: a defect here must not end the service.
                log.exception("notifications_failed")
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Wait before the next try; while nothing happens in the process, wait for something to happen first."""
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
        """Have everybody look for what was told while nobody listened."""
        self._pass_on("work ")
        self._pass_on("document ")

    async def _follow(self, connection: Any, *, is_direct: bool) -> bool:
        """Pass on what is heard until the connection is lost; return whether anything can be heard at all."""
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

        # One of our own: the driver closes its own when the connection is lost, and the next socket gets that number.
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
        """Tell whether what we say ourselves arrives."""

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
    """Return a connection that listens, and whether it is the server itself that it leads to."""
    connection = direct_connection(url)
    try:
        driver: Any = connection.driver_connection
        with driver.cursor() as cursor:
            # A pooler tells an id of its own when a client connects, and may pass a notification on by luck.
            cursor.execute(f"listen {CHANNEL}; select pg_backend_pid()")
            is_direct = cursor.fetchone()[0] == driver.info.backend_pid
    except BaseException:
        connection.close()
        raise
    return connection, is_direct
