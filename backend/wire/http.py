"""What every HTTP request passes: its id, one log line, the metrics, a size limit, one spelling of paths."""

import re
import secrets
import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import DocuTalkError
from backend.wire.problems import problem

log = structlog.get_logger()

MOST_BODY_BYTES = 1024 * 1024
"""The largest body; what takes files (later) has its own limit."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health", "/ready", "/metrics")


class TooLarge(DocuTalkError):
    """The request's body is over the limit."""

    status = 413
    code = "content_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request is larger than {MOST_BODY_BYTES // 1024} KiB.")


class Metrics:
    """What Prometheus is told of requests, by route and never by user."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("docutalk_requests", "Requests finished.", labels, registry=self.registry)
        self.seconds = Histogram(
            "docutalk_request_seconds", "Seconds until a request was finished.", ("route",), registry=self.registry
        )


class EveryRequest:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of connection pass untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The same path with and without its last slash, without a redirect that loses a POST's body.
        scope["path"] = scope["path"].rstrip("/") or "/"
        request_id = _request_id(scope)
        started = time.monotonic()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if _declared_length(scope) > MOST_BODY_BYTES:
                await problem(413, TooLarge.code, str(TooLarge()))(scope, receive, answer)
            else:
                await self._app(scope, _limited(receive), answer)
        except Exception:
            # Starlette has answered with a problem by now and raises again for the server's log.
            log.exception("request_crashed")
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.monotonic() - started
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            tell: Callable[..., None] = log.debug if route in _QUIET and status < 500 else log.info
            tell(
                "request_finished",
                method=scope["method"],
                route=route,
                status=status,
                latency_ms=round(seconds * 1000, 1),
            )


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _declared_length(scope: Scope) -> int:
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(given) if given.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MOST_BODY_BYTES:
                raise TooLarge
        return message

    return limited
