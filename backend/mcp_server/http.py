"""The MCP server over Streamable HTTP, at `/mcp`, for outside clients with a bearer token."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.edge.own_hosts import LOOPBACK_NAMES
from backend.errors import DocuTalkError, for_models
from backend.identity.caller import Caller, acting_as

CallerOf = Callable[[Scope], Awaitable[Caller]]


def guarded_endpoint(
    server: MCPServer[Any], caller_of: CallerOf, *, public_url: str | None, origins: list[str], host: str | None
) -> ASGIApp:
    """Return the ASGI application for `/mcp`. The server's session manager must be running.

    Args:
        server: The MCP server.
        caller_of: Returns the caller of a request.
        public_url: The address at which outside clients reach the service, or None. Its host and origin are accepted.
        origins: Further origins to accept, for browser clients.
        host: The one address that the service binds to, or None if it binds to all addresses. If both `host` and
            `public_url` are None, requests for any host are accepted, because a container cannot know its own name. The
            bearer token still protects the service.
    """
    app = server.streamable_http_app(
        stateless_http=True,
        json_response=False,
        transport_security=_security(public_url, origins, host),
    )
    [route] = [route for route in app.routes if isinstance(route, Route) and route.path == "/mcp"]
    return _with_caller(route.app, caller_of)


def _security(public_url: str | None, origins: list[str], host: str | None) -> TransportSecuritySettings:
    if public_url is None and host is None:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    names = [*LOOPBACK_NAMES, *([host] if host else [])]
    hosts = [*names, *(f"{name}:*" for name in names)]
    allowed = [*(f"http://{name}" for name in hosts), *origins]
    if public_url is not None:
        # Clients send the host in lower case. They leave out the port if it is the scheme's default port.
        public = urlsplit(public_url.lower())
        usual = {"http": ":80", "https": ":443"}[public.scheme]
        hosts += [public.netloc, public.netloc.removesuffix(usual)]
        allowed += [f"{public.scheme}://{name}" for name in hosts[-2:]]
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=allowed)


def _with_caller(app: ASGIApp, caller_of: CallerOf) -> ASGIApp:
    class WithCaller:
        """Handles each request as the user of its bearer token."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                caller = await caller_of(scope)
                body = await Request(scope, receive).body() if scope["method"] == "POST" else b""
            except DocuTalkError as error:
                await _refused(error)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            if (refused := _not_a_message(scope["method"], body)) is not None:
                await refused(scope, receive, send)
                return
            with acting_as(caller):
                await app(scope, _again(body, receive), send)

    return WithCaller()


def _refused(error: DocuTalkError) -> JSONResponse:
    name = {401: "invalid_token", 503: "temporarily_unavailable"}.get(error.status, error.code)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="docutalk", error="invalid_token"'
    return JSONResponse(
        {"error": name, "error_description": for_models(error.result).replace("\n", " ")}, error.status, headers
    )


def _not_a_message(method: str, body: bytes) -> JSONResponse | None:
    """Return the error for a request that is not a JSON-RPC message, or None for a valid message.

    The SDK's own error responses are not used, because they may quote the body or be a stream without events.
    """
    if method != "POST":
        return _protocol_error(405, INVALID_REQUEST, "Send each message with POST.", {"Allow": "POST"})
    try:
        jsonrpc_message_adapter.validate_json(body, by_name=False)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            return _protocol_error(400, PARSE_ERROR, "The body is not valid JSON.")
        return _protocol_error(400, INVALID_REQUEST, "The body must be one JSON-RPC message.")
    return None


def _protocol_error(status: int, code: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": sentence}}
    return JSONResponse(body, status, headers)


def _again(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read_before() -> Message:
        return messages.pop() if messages else await receive()

    return read_before
