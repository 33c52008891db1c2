"""MCP over stdin and stdout: our own server for a local installation, or a bridge to a hosted one."""

from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer, Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from backend import VERSION
from backend.errors import Unauthorized, Unavailable
from backend.identity.caller import Caller, acting_as


async def serve_stdio(server: MCPServer[Any], caller: Caller) -> None:
    """Serve the tools as one caller until stdin ends."""
    with acting_as(caller):
        await server.run_stdio_async()


async def bridge_stdio(url: str, token: str) -> None:
    """Serve the tools of the installation at `url` until stdin ends; nothing but the token is needed here.

    Raises:
        Unauthorized: The installation does not take the token.
        Unavailable: There is no installation at this address.
    """
    endpoint = url.rstrip("/") + ("" if url.rstrip("/").endswith("/mcp") else "/mcp")
    headers = {"Authorization": f"Bearer {token}", "User-Agent": f"docutalk-mcp/{VERSION}"}
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http:
        await _check(http, endpoint)
        transport = streamable_http_client(endpoint, http_client=http)
        async with Client(transport, cache=None) as client, stdio_server() as (read, write):
            server = _forwarding(client)
            await server.run(read, write, server.create_initialization_options())


async def _check(http: httpx2.AsyncClient, endpoint: str) -> None:
    # Asked before the protocol begins: inside it a refusal would reach the user as a stack of transport errors.
    listing = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    try:
        answer = await http.post(endpoint, json=listing, headers={"Accept": "application/json, text/event-stream"})
    except httpx2.HTTPError as error:
        raise Unavailable(f"{endpoint} does not answer ({type(error).__name__}). Check the address.") from None
    if answer.status_code == 401:
        raise Unauthorized(f"{endpoint} does not take this token. Make a new one and set DOCUTALK_TOKEN to it.")
    if answer.status_code in (404, 405, 421) or answer.status_code >= 500:
        raise Unavailable(f"{endpoint} answered with HTTP {answer.status_code}: there is no DocuTalk to speak to.")


def _forwarding(client: Client) -> Server[Any]:
    async def list_tools(
        _ctx: ServerRequestContext[Any, Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return await client.list_tools()

    async def call_tool(_ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        try:
            return await client.call_tool(params.name, params.arguments)
        except httpx2.HTTPError as error:
            raise MCPError(code=-32000, message=f"The installation does not answer: {type(error).__name__}.") from None

    return Server(
        "docutalk",
        title="DocuTalk",
        version=VERSION,
        instructions=client.instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
