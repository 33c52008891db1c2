"""An embedding server over real HTTP with OpenAI's API, which fails in the ways that real servers fail."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]
"""The body of a request: model, input, dimensions, encoding_format."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error instead of an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer for some seconds, or until the client is gone."""

    seconds: float


Vectors = list[list[float]]
Reply = Vectors | Refusal | Silence
Script = Callable[[Request], Reply]


def vector_of(text: str, dim: int) -> list[float]:
    """Return a vector, not of length 1, that depends on a text's length and first character."""
    return [3.0 * math.sin(len(text) + ord(text[0]) + place) for place in range(dim)]


def answers(dim: int) -> Script:
    """Return the script of a server that embeds everything."""
    return lambda request: [vector_of(text, dim) for text in request["input"]]


def first(*replies: Reply, then: Script) -> Script:
    """Return a script that gives these replies and then follows another script."""
    left = list(replies)
    return lambda request: left.pop(0) if left else then(request)


class EmbeddingServer:
    """A server that is running."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.keys: list[str] = []
        """The Authorization headers."""
        self.paths: list[str] = []
        self.root = ""
        self.script = script

    @property
    def url(self) -> str:
        """The value for OPENAI_BASE_URL."""
        return f"{self.root}/v1"


@contextmanager
def embedding_server(script: Script) -> Iterator[EmbeddingServer]:
    """Serve embeddings by a script until the block ends."""
    told = EmbeddingServer(script)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request: Request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.requests.append(request)
            told.keys.append(self.headers.get("Authorization", ""))
            told.paths.append(self.path)
            match told.script(request):
                case Silence(seconds):
                    ended.wait(seconds)
                    self.close_connection = True
                case Refusal(status, headers):
                    self._send(status, {"error": {"message": "No, sk-secret.", "type": "scripted"}}, headers)
                case vectors:
                    rows = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(vectors)]
                    # Providers may return any order; the index counts.
                    self._send(200, {"object": "list", "data": rows[::-1], "model": "any", "usage": USAGE}, {})

        def _send(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
            data = json.dumps(body).encode()
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


USAGE = {"prompt_tokens": 1, "total_tokens": 1}
