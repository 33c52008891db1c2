"""MCP over stdin and stdout, served by a local installation or by a bridge to a hosted installation."""

import json
from typing import Any

import httpx2
from mcp import MCPError
from mcp.server import MCPServer, Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from backend import VERSION
from backend.errors import DocuTalkError, Unauthorized, Unavailable, for_models
from backend.identity.caller import Caller, acting_as

SPOKEN = "2025-11-25"
"""The MCP revision between the bridge and the installation. The bridge's client may use another revision."""


async def serve_stdio(server: MCPServer[Any], caller: Caller) -> None:
    """Serve the tools until stdin ends, and execute every call as this caller."""
    with acting_as(caller):
        await server.run_stdio_async()


async def bridge_stdio(url: str, token: str) -> None:
    """Serve the tools of the installation at `url` until stdin ends. No local settings or database are needed.

    Raises:
        Unauthorized: The installation does not accept the token.
        Unavailable: There is no installation at this address.
    """
    if not token.isascii() or not token.isprintable():
        raise Unauthorized("DOCUTALK_TOKEN holds characters that no token has. Copy the token again.")
    headers = {
        "Authorization": f"Bearer {token}",
        "User-Agent": f"docutalk-mcp/{VERSION}",
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": SPOKEN,
    }
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http:
        hosted = HostedTools(http, url.rstrip("/").removesuffix("/mcp") + "/mcp")
        # A request is sent before the protocol begins, so that the user sees if the token is rejected. Later, the error
        # would only be in a client's log.
        about = await hosted.ask(
            "initialize",
            {"protocolVersion": SPOKEN, "capabilities": {}, "clientInfo": {"name": "docutalk-mcp", "version": VERSION}},
        )
        server: Server[Any] = Server(
            "docutalk",
            title="DocuTalk",
            version=VERSION,
            instructions=about.get("instructions"),
            on_list_tools=hosted.list_tools,
            on_call_tool=hosted.call_tool,
        )
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


class HostedTools:
    """The tools of a hosted installation.

    Each request is independent, so the installation may restart between two requests.
    """

    def __init__(self, http: httpx2.AsyncClient, endpoint: str) -> None:
        self._http = http
        self._endpoint = endpoint

    async def list_tools(
        self, _ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """List the installation's tools."""
        asked = params.model_dump(include={"cursor"}, exclude_none=True) if params else {}
        try:
            return ListToolsResult.model_validate(await self.ask("tools/list", asked))
        except DocuTalkError as error:
            raise MCPError(code=INTERNAL_ERROR, message=str(error)) from None

    async def call_tool(self, _ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        """Call a tool of the installation. If the request fails, return an error that the model can report."""
        asked = {"name": params.name, "arguments": params.arguments or {}}
        try:
            return CallToolResult.model_validate(await self.ask("tools/call", asked))
        except DocuTalkError as error:
            return CallToolResult(content=[TextContent(type="text", text=for_models(error.result))], is_error=True)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its result.

        Raises:
            Unauthorized: The installation does not accept the token.
            Unavailable: The installation does not answer, refused the request, or is not DocuTalk.
        """
        try:
            answer = await self._http.post(
                self._endpoint, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable(
                f"{self._endpoint} does not answer ({type(error).__name__}). Check the address."
            ) from None
        if answer.status_code == 401:
            raise Unauthorized(
                f"{self._endpoint} does not take this token. Make a new one and set DOCUTALK_TOKEN to it."
            )
        message = _message_in(answer.text)
        if message is None:
            raise Unavailable(
                f"{self._endpoint} answered with HTTP {answer.status_code} and no MCP: there is no DocuTalk here."
            )
        if "result" not in message:
            raise Unavailable(f"{self._endpoint} refused: {message['error']['message']}")
        return dict(message["result"])


def _message_in(body: str) -> dict[str, Any] | None:
    """Return the JSON-RPC response in an HTTP body, or None.

    The body is either the response itself or a stream of events, of which the last is the response.
    """
    # `splitlines()` would not do here, because it also splits at characters that JSON may contain.
    events = [line.removeprefix("data:") for line in body.split("\n") if line.startswith("data:")]
    try:
        message = json.loads(events[-1] if events else body)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else None
