"""A connection to a service that can be cut."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from urllib.parse import urlsplit


class Cable:
    """Passes what is sent on to a service, until it is cut; new connections work again at once."""

    def __init__(self, port: int) -> None:
        self.url = ""
        """The service's address, through the cable."""
        self._port = port
        self._passing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def cut(self) -> None:
        """Break every connection."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    async def serve(self, started: Queue[asyncio.Event]) -> None:
        """Serve on 127.0.0.1 until the event is set that is put into `started` as soon as it does."""
        self._loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._connection, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.put(stopped)
            await stopped.wait()
            await self._cut()

    def stop(self, stopped: asyncio.Event) -> None:
        """Cut for good."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(stopped.set)

    async def _cut(self) -> None:
        for passing in self._passing:
            passing.cancel()
        if self._passing:
            await asyncio.wait(self._passing)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, service = await asyncio.open_connection("127.0.0.1", self._port)
        both = asyncio.create_task(self._pass_both((reader, service), (there, writer)))
        self._passing.add(both)
        both.add_done_callback(self._passing.discard)
        with suppress(asyncio.CancelledError):
            await both

    async def _pass_both(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        try:
            await asyncio.gather(*(_pass(*way) for way in ways))
        finally:
            for _, end in ways:
                end.transport.abort()
                with suppress(ConnectionError):
                    await end.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextmanager
def cable_to(url: str) -> Iterator[Cable]:
    """Lead to a service over a cable until the block ends."""
    cable = Cable(urlsplit(url).port or 80)
    started: Queue[asyncio.Event] = Queue()
    thread = threading.Thread(target=asyncio.run, args=(cable.serve(started),), name="cable", daemon=True)
    thread.start()
    stopped = started.get(timeout=5)
    try:
        yield cable
    finally:
        cable.stop(stopped)
        thread.join(5)
