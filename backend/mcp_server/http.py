"""The MCP server over Streamable HTTP at `/mcp`, for outside clients with a bearer token."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.errors import DocuTalkError, Unavailable
from backend.identity.caller import Caller, acting_as

LOCAL_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
CallerOf = Callable[[list[tuple[bytes, bytes]]], Awaitable[Caller]]


def mcp_routes(
    server: MCPServer[Any], caller_of: CallerOf, *, public_url: str | None, origins: list[str], listens_publicly: bool
) -> list[BaseRoute]:
    """Return the route `/mcp`; the server's session manager must be run by the app's lifespan.

    Args:
        server: The MCP server.
        caller_of: Finds the caller in a request's headers.
        public_url: Where the service is reached from outside; its host and origin are accepted.
        origins: Further origins of browser clients.
        listens_publicly: Whether the service binds to every address. Without a public URL any host is accepted then,
            since a container cannot know what it is called; the bearer token protects it all the same.
    """
    app = server.streamable_http_app(
        stateless_http=True,
        json_response=False,
        transport_security=_security(public_url, origins, listens_publicly=listens_publicly),
    )
    [endpoint] = [route for route in app.routes if isinstance(route, Route) and route.path == "/mcp"]
    guarded = Route("/mcp", endpoint=_with_caller(endpoint.app, caller_of), methods=None)
    return [guarded]


def _security(public_url: str | None, origins: list[str], *, listens_publicly: bool) -> TransportSecuritySettings:
    if public_url is None and listens_publicly:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = [*LOCAL_HOSTS, *(f"{host}:*" for host in LOCAL_HOSTS)]
    allowed = [*(f"http://{host}" for host in hosts), *origins]
    if public_url is not None:
        hosts.append(urlsplit(public_url).netloc)
        allowed.append(public_url)
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=allowed)


def _with_caller(app: ASGIApp, caller_of: CallerOf) -> ASGIApp:
    class WithCaller:
        """Acts as the token's user for as long as the request lasts."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                caller = await caller_of(scope["headers"])
            except DocuTalkError as error:
                await _refuse(error, send)
                return
            with acting_as(caller):
                await app(scope, receive, send)

    return WithCaller()


async def _refuse(error: DocuTalkError, send: Send) -> None:
    name = "temporarily_unavailable" if isinstance(error, Unavailable) else "invalid_token"
    body = json.dumps({"error": name, "error_description": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="docutalk", error="invalid_token"'))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
