"""MCP clients of the SDK behind a synchronous face, so that a test reads one line after the other."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent, Tool

COMMAND = ("-m", "backend.cli", "mcp")


class Session:
    """One connected client."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client

    @property
    def protocol_version(self) -> str:
        """The revision that both sides settled on."""
        return str(self._client.protocol_version)

    def tools(self) -> dict[str, Tool]:
        """List the tools by name."""
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def call(self, tool: str, meta: Any = None, /, **arguments: Any) -> CallToolResult:
        """Call a tool and return the whole answer."""

        async def call() -> CallToolResult:
            return await self._client.call_tool(tool, arguments, meta=meta)

        answered: CallToolResult = self._portal.call(call)
        return answered

    def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed and return what it did."""
        answer = self.call(tool, **arguments)
        assert not answer.is_error, text_of(answer)
        told: dict[str, Any] = answer.structured_content or {}
        return told


def text_of(answer: CallToolResult) -> str:
    """Return the one text of an answer."""
    [content] = answer.content
    assert isinstance(content, TextContent)
    return content.text


@asynccontextmanager
async def http_client(url: str, token: str, mode: str = "auto") -> AsyncIterator[Client]:
    """Connect to `/mcp` with a bearer token."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, cache=None, read_timeout_seconds=30
        ) as client,
    ):
        yield client


def over_http(url: str, token: str, mode: str = "auto") -> AbstractContextManager[Session]:
    """Connect to `/mcp` with a bearer token."""
    return _session(http_client(url, token, mode))


def over_stdio(environment: dict[str, str], *arguments: str, mode: str = "auto") -> AbstractContextManager[Session]:
    """Start `docutalk mcp` and speak to it over its stdin and stdout."""
    command = StdioServerParameters(command=sys.executable, args=[*COMMAND, *arguments], env=environment)
    return _session(Client(command, mode=mode, cache=None, read_timeout_seconds=60))


def bare_environment(**given: str) -> dict[str, str]:
    """Return the environment of a process of ours, with these settings and no others."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ} | given


@contextmanager
def _session(client: AbstractAsyncContextManager[Client]) -> Iterator[Session]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client) as connected:
        yield Session(portal, connected)
