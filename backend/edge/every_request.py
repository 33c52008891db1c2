"""The middleware that gives every HTTP request an id, a log line, metrics, limits, and a normalized path."""

import asyncio
import re
import secrets
import time
from collections.abc import Collection

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.edge.problems import TOO_LARGE, problem, problem_of
from backend.edge.strangers import Strangers, Visitors
from backend.errors import DocuTalkError

log = structlog.get_logger()

MOST_BODY_BYTES = 1024 * 1024
"""The largest body in bytes; `TOO_LARGE` names it too. Uploads have their own limit."""
STALL_SECONDS = 30.0
"""The most seconds that the service waits for each further piece of a body."""
ALWAYS_ANSWERED = ("/health", "/ready")
"""Paths that need no slot. A load balancer that gets no answer from them would take the process out of service."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CRASHED = "Something went wrong on our side. Try again. If it happens again, report it."
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """Prometheus metrics of requests, by route and never by user."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("docutalk_requests", "Requests finished.", labels, registry=self.registry)
        self.seconds = Histogram(
            "docutalk_request_seconds", "Seconds until a request was finished.", ("route",), registry=self.registry
        )


class ContentTooLarge(DocuTalkError):
    """A body is larger than the limit."""

    status = 413
    code = "content_too_large"

    def __init__(self) -> None:
        super().__init__(TOO_LARGE)


class BodyStalled(DocuTalkError):
    """A client announced a body but stopped sending it."""

    status = 408
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__(f"The request sent nothing for {STALL_SECONDS:.0f} seconds. Send it again.")


class BodyCut(DocuTalkError):
    """A client disconnected while sending a body. Nobody reads the answer; its status is only logged and counted."""

    status = 400
    code = "bad_request"

    def __init__(self) -> None:
        super().__init__("The request ended before it was complete.")


class EveryRequest:
    """ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        strangers: Strangers,
        visitors: Visitors,
        *,
        upload_paths: Collection[str] = (),
    ) -> None:
        """Wrap the app. Requests to `upload_paths` check their own limits while their bodies are read."""
        self._app = app
        self._metrics = metrics
        self._strangers = strangers
        self._visitors = visitors
        self._upload_paths = upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. Other kinds of connections pass through unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A trailing slash is ignored. A redirect instead would lose a POST's body.
        scope["path"] = scope["path"].rstrip("/") or "/"
        request_id = _request_id(scope)
        started = time.monotonic()
        # A client may send any word as the method, so the metrics count all unknown methods together.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _completed(message["headers"], status, request_id)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if scope["path"] in ALWAYS_ANSWERED:
                await self._app(scope, receive, answer)
            else:
                with self._visitors.counted(scope):
                    await self._admitted(scope, receive, answer)
        except DocuTalkError as error:
            if error.status == 429:
                log.warning("request_refused", code=error.code)
            await problem_of(error)(scope, receive, answer)
        except Exception:
            log.exception("request_crashed")
            if not status:
                await problem(500, DocuTalkError.code, _CRASHED)(scope, receive, answer)
        finally:
            route = _route(scope)
            seconds = time.monotonic() - started
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            log.info(
                "request_finished",
                method=method,
                route=route,
                status=status,
                latency_ms=round(seconds * 1000, 1),
            )

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request's body, then wait for a slot and answer the request. So slow senders delay nobody else."""
        if not (scope["method"] == "POST" and scope["path"] in self._upload_paths):
            receive = await _read(scope, receive)
        async with self._strangers.slot(scope) as slot:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await slot.answer(message["status"])
                await send(message)

            await self._app(scope, receive, answer)


def _completed(given: list[tuple[bytes, bytes]], status: int, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = [header for header in given if header[0] != b"x-content-type-options"]
    headers += [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    if not any(name == b"cache-control" for name, _ in given):
        # The answer must not be cached, because it may contain a token or a person's words.
        headers.append((b"cache-control", b"no-store"))
    if status == 408:
        # The connection closes, because the rest of the request is not read.
        headers.append((b"connection", b"close"))
    return headers


def _route(scope: Scope) -> str:
    """Return the path template of the route that answered. The path itself may contain text that a user wrote."""
    # FastAPI records only its own routes. For other routes without parameters, the path equals the template.
    plain = scope["path"] if "endpoint" in scope and not scope.get("path_params") else "unknown"
    return str(getattr(scope.get("route"), "path_format", plain))


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


async def _read(scope: Scope, receive: Receive) -> Receive:
    """Read a request's body, and return a `receive` function that gives it to the app.

    Raises:
        ContentTooLarge: The declared or the received size exceeds the limit.
        BodyStalled: The client sent nothing for too long.
        BodyCut: The client disconnected.
    """
    declared = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
    if not declared:
        return receive
    length = declared.get(b"content-length", b"")
    # The server accepts only digits here, and Python refuses to parse a very long number.
    if len(length) > 15 or (length.isdigit() and int(length) > MOST_BODY_BYTES):
        raise ContentTooLarge
    body = bytearray()
    is_more = True
    while is_more:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                message = await receive()
        except TimeoutError:
            raise BodyStalled from None
        if message["type"] != "http.request":
            raise BodyCut
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
        if len(body) > MOST_BODY_BYTES:
            raise ContentTooLarge
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def read_before() -> Message:
        return whole.pop() if whole else await receive()

    return read_before
