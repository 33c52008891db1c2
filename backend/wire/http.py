"""What every HTTP request passes: its id, one log line, the metrics, a size limit, one spelling of paths."""

import re
import secrets
import time
from collections.abc import Collection

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import DocuTalkError
from backend.wire.problems import TOO_LARGE, problem

log = structlog.get_logger()

MOST_BODY_BYTES = 1024 * 1024
"""The largest body: `TOO_LARGE` names it. What takes files has a limit of its own."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CRASHED = "Something went wrong on our side. Try again; if it stays, report it."
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


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

    def __init__(self, app: ASGIApp, metrics: Metrics, *, upload_paths: Collection[str] = ()) -> None:
        """Wrap the app; what is posted to `upload_paths` limits itself as it reads."""
        self._app = app
        self._metrics = metrics
        self._upload_paths = upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of connection pass untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The same path with and without its last slash, without a redirect that loses a POST's body.
        scope["path"] = scope["path"].rstrip("/") or "/"
        request_id = _request_id(scope)
        started = time.monotonic()
        # A client may send any word as its method; the metrics count only the known ones apart.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = [header for header in message["headers"] if header[0] != b"x-content-type-options"]
                ours = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*given, *ours]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if scope["method"] == "POST" and scope["path"] in self._upload_paths:
                await self._app(scope, receive, answer)
            elif _declared_length(scope) > MOST_BODY_BYTES:
                await problem(413, "content_too_large", TOO_LARGE)(scope, receive, answer)
            else:
                await self._app(scope, _limited(receive), answer)
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


def _route(scope: Scope) -> str:
    """Return the template of the route that answered; what people put into a path is told to nobody."""
    # FastAPI notes its own routes only; a plain one without parameters is its path.
    plain = scope["path"] if "endpoint" in scope and not scope.get("path_params") else "unknown"
    return str(getattr(scope.get("route"), "path", plain))


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
                # Of what reading a body raises, FastAPI lets only this kind through.
                raise HTTPException(413)
        return message

    return limited
