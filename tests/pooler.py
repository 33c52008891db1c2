"""What a transaction pooler does to notifications: a proxy that drops or changes some of the server's messages.

Messages follow PostgreSQL's protocol 3: a byte for the type, then four bytes with the length of the rest.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import make_url

BACKEND_KEY_DATA, NOTIFICATION = b"K", b"A"
OTHER = 1_000_000
"""Added to the server's process id, so that the id belongs to nobody."""

Habit = Literal["swallows notifications", "tells another process id"]


class Pooler:
    """Accepts connections over TCP on 127.0.0.1 and connects each to the server behind a Unix socket."""

    def __init__(self, url: str, habit: Habit) -> None:
        direct = make_url(url)
        self._server = str(Path(str(direct.query["host"]), f".s.PGSQL.{direct.query['port']}"))
        self._habit = habit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.url = direct.set(
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            query={"sslmode": "disable", "gssencmode": "disable"},
        ).render_as_string(hide_password=False)
        self.connections = 0
        """Connections made so far."""
        self.dropped = 0
        """Notifications swallowed so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for opened in self._open:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                self.connections += 1
                threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
                threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError, EOFError), server.makefile("rb") as messages:
            while head := messages.read(5):
                kind, length = head[:1], int(struct.unpack("!i", head[1:])[0])
                body = messages.read(length - 4)
                if kind == NOTIFICATION and self._habit == "swallows notifications":
                    self.dropped += 1
                    continue
                if kind == BACKEND_KEY_DATA and self._habit == "tells another process id":
                    body = struct.pack("!i", int(struct.unpack("!i", body[:4])[0]) + OTHER) + body[4:]
                client.sendall(head + body)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def pooler(url: str, habit: Habit) -> Iterator[Pooler]:
    """Put a pooler with this behavior in front of the server at a URL."""
    made = Pooler(url, habit)
    try:
        yield made
    finally:
        made.close()
