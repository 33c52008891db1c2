"""Keep foreign web pages from using the service.

A foreign page could use a host name of its own that resolves to this service's address. It could also send a request
whose answer it cannot read. Nearly every route needs a bearer token, but anybody can get a guest's token, so a token is
not enough protection.
"""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from backend.edge.problems import problem

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""This machine's names in a URL."""
_GUARDED = ("/api", "/metrics")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class OwnHosts:
    """ASGI middleware that refuses requests to foreign hosts, and writing requests from foreign origins."""

    def __init__(self, app: ASGIApp, *, host: str | None, public_url: str | None, origins: list[str]) -> None:
        """Guard `/api` and `/metrics`. `host` is the address that the service binds to; None means all addresses.

        A service that binds to all addresses and has no public URL does not know its own name, so it accepts any host.
        """
        self._app = app
        self._origins = frozenset([*origins, *([public_url.lower()] if public_url else [])])
        self._hosts: frozenset[str] | None = None
        if host or public_url:
            public = urlsplit(public_url or "").hostname
            self._hosts = frozenset({*LOOPBACK_NAMES, *(name.lower() for name in (host, public) if name)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"].startswith(_GUARDED):
            headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
            host, origin = headers.get(b"host", ""), headers.get(b"origin")
            if self._hosts is not None and _without_port(host) not in self._hosts:
                sentence = "This service does not serve this host name. Ask the administrator to check PUBLIC_URL."
                await problem(421, "foreign_host", sentence)(scope, receive, send)
                return
            is_writing = scope["method"] not in _SAFE_METHODS
            if is_writing and origin and origin not in self._origins and _host_of(origin) != host:
                sentence = (
                    "Pages from this origin may not use this service. The administrator can add it to CORS_ORIGINS."
                )
                await problem(403, "foreign_origin", sentence)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_of(origin: str) -> str:
    """Return an origin's host and port as text, without parsing, because it may be malformed."""
    return origin.partition("://")[2]


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
