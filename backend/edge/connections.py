"""Limit the number of connections, and the time in which a connection must send a request."""

import asyncio
import time
from collections import Counter
from typing import Any

import structlog
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from backend.edge.problems import problem_of
from backend.edge.proxies import Proxies
from backend.errors import DocuTalkError, TooManyRequests, Unavailable
from backend.identity.authenticator import network_of

log = structlog.get_logger()

HEADER_SECONDS = 30.0
"""The most seconds that a request's header may take. They count from the connection's start, or, after an earlier
answer, from the header's first byte."""
MOST_HEADER_BYTES = 64 * 1024
"""The most bytes of a header, a trailer or a chunk's size line. The parser itself has no limit, and joins all pieces
that it gets."""
SECONDS_BETWEEN_LINES = 60.0
"""Seconds in which refusals cause at most one log line. There may be thousands of refusals a second; the line has their
number."""

PROXIES = "proxies"
_OF_A_BODY = (b"content-length", b"transfer-encoding")


class HeaderOverdue(DocuTalkError):
    """A client began a request and did not finish its header."""

    status = 408
    code = "request_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request's header did not arrive within {seconds:.0f} seconds. Send the request again.")


class HeaderTooLarge(DocuTalkError):
    """A header is longer than the limit."""

    status = 431
    code = "header_too_large"

    def __init__(self) -> None:
        super().__init__("The request's address and header are longer than 64 KiB together. Shorten them.")


class UpgradeWithBody(DocuTalkError):
    """A request has a body and asks to upgrade. The parser would read its body as the next request."""

    status = 400
    code = "upgrade_not_possible"

    def __init__(self) -> None:
        super().__init__(
            "This server supports no other protocol.", hint="Send the request without Upgrade, or over HTTP/1.1."
        )


class NotHttp(DocuTalkError):
    """The bytes received are not valid HTTP."""

    status = 400
    code = "bad_request"

    def __init__(self) -> None:
        super().__init__(
            "This is not a valid HTTP request. Its method may be unknown, or a header may hold a control character."
        )


class TooManyConnections(TooManyRequests):
    """One address already has as many connections as allowed."""

    code = "too_many_connections"

    def __init__(self) -> None:
        super().__init__(
            "Too many connections from your network are open. Close some, or try again in a few seconds.", retry_after=5
        )


class ServerFull(Unavailable):
    """The process already has as many connections as allowed."""

    code = "too_many_connections"

    def __init__(self) -> None:
        super().__init__("The server has reached its limit of connections. Try again in a few seconds.", retry_after=5)


class Connections:
    """Admits connections up to the limits. All listeners of a process share one instance."""

    def __init__(
        self, *, in_all: int, of_an_address: int, proxies: Proxies, header_seconds: float = HEADER_SECONDS
    ) -> None:
        """Set the limits.

        Args:
            in_all: The most connections of the process. This must be below the limit of open files.
            of_an_address: The most connections from one address; 0 means no limit.
            proxies: Trusted proxies. Their connections are exempt from the limit for an address, because they carry
                everybody's requests.
            header_seconds: The most seconds that a request's header may take.
        """
        self.header_seconds = header_seconds
        self._in_all = in_all
        self._of_an_address = of_an_address
        self._proxies = proxies
        self._open = 0
        self._open_of: Counter[str] = Counter()
        self._refused = 0
        self._logged_at = -SECONDS_BETWEEN_LINES

    def admit(self, address: str) -> str:
        """Count a new connection, and return the key to pass to `leave` when it ends.

        Raises:
            TooManyConnections: The address already has as many connections as allowed.
            ServerFull: The process already has as many connections as allowed.
        """
        network = PROXIES if self._proxies.trust(address) else network_of(address)
        try:
            if self._open >= self._in_all:
                raise ServerFull
            if network != PROXIES and 0 < self._of_an_address <= self._open_of[network]:
                raise TooManyConnections
        except DocuTalkError as error:
            self._log(error)
            raise
        self._open += 1
        self._open_of[network] += 1
        return network

    def leave(self, network: str) -> None:
        """Count a connection as ended."""
        self._open -= 1
        self._open_of[network] -= 1
        if not self._open_of[network]:
            del self._open_of[network]

    def _log(self, error: DocuTalkError) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= SECONDS_BETWEEN_LINES:
            log.warning("connections_refused", status=error.status, refused=self._refused, open=self._open)
            self._refused, self._logged_at = 0, now


def protocol_with(connections: Connections) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with these limits, for uvicorn's setting `http`.

    The time limit does not apply while a request is being answered: `EveryRequest` limits the wait for the request's
    body, and an answer may take any time. After an answer, uvicorn's own, shorter limit for idle connections applies
    until the next byte arrives.
    """

    class Bounded(HttpToolsProtocol):
        _admitted_as: str | None = None
        _overdue: asyncio.TimerHandle | None = None
        _has_begun = False
        """Whether a header has begun but not ended."""
        _unread = 0
        """Bytes received since the parser last completed something."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            try:
                self._admitted_as = connections.admit(self.client[0] if self.client else "unknown")
            except DocuTalkError as error:
                self._end(error)
            else:
                self._await_header()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._unread > MOST_HEADER_BYTES:
                self._end(None if self._is_answering else HeaderTooLarge())
                return
            self._unread += len(data)
            super().data_received(data)
            if not self._is_answering:
                self._await_header()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._has_begun = True

        def on_headers_complete(self) -> None:
            self._unread = 0
            self._has_begun = False
            self._stop_waiting()
            has_body = any(name in _OF_A_BODY and value != b"0" for name, value in self.headers)
            if has_body and self.parser.should_upgrade():
                self._end(None if self._is_answering else UpgradeWithBody())
            else:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unread = 0
            # A request that was refused because of its header has no cycle that could be completed.
            if self.cycle is not None:
                super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_waiting()
            if self._admitted_as is not None:
                connections.leave(self._admitted_as)

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own words
            # In the middle of an answer, the client would read a 400 response as part of that answer.
            self._end(None if self._is_answering else NotHttp())

        def _unsupported_upgrade_warning(self) -> None:
            """Serve a request without a body as if it did not ask to upgrade. Log no warning for such requests."""

        @property
        def _is_answering(self) -> bool:
            # There is no cycle before the first request.
            return not getattr(self.cycle, "response_complete", True)

        def _await_header(self) -> None:
            # The timer starts only once, so that later bytes do not extend the time.
            if self._overdue is None and not self.transport.is_closing():
                self._overdue = self.loop.call_later(connections.header_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None

        def _give_up(self) -> None:
            self._overdue = None
            # Browsers keep connections ready without sending a request. Such a connection expects no answer.
            self._end(HeaderOverdue(connections.header_seconds) if self._has_begun else None)

        def _end(self, error: DocuTalkError | None) -> None:
            if error is not None:
                self.transport.write(_on_the_wire(problem_of(error)))
            self.transport.close()

    return Bounded


def _on_the_wire(response: Response) -> bytes:
    headers: list[tuple[bytes, Any]] = [
        *response.raw_headers,
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])
