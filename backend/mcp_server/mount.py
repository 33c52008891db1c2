"""The route `/mcp`, which the app has from the start. The MCP server behind the route starts in the background.

The app does not wait for the server, because importing the MCP SDK would double the app's start time, and `/health`
does not need the SDK.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import Event, fail_after, sleep_forever
from anyio.to_thread import run_sync
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from backend.mcp_server.server import ToolServer

PATIENCE_SECONDS = 20.0
"""How many seconds a request waits for the MCP server to start."""


class McpMount:
    """Passes requests to the MCP server once it has started, and gives the server object to the agent."""

    def __init__(self, make: "Callable[[], tuple[ToolServer, ASGIApp]]") -> None:
        """Set the function that builds the server and its guarded endpoint. It is called on a worker thread."""
        self._make = make
        self._endpoint: ASGIApp | None = None
        self._opened = Event()

    @property
    def route(self) -> Route:
        """The route `/mcp`."""
        return Route("/mcp", endpoint=self, methods=None)

    async def serve(self, use: "Callable[[ToolServer], Any]") -> None:
        """Start the server, pass it to `use`, and serve until cancelled."""
        server, endpoint = await run_sync(self._make)
        async with server.session_manager.run():
            self._endpoint = endpoint
            self._opened.set()
            await use(server)
            await sleep_forever()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. While the server is starting, the request waits."""
        try:
            with fail_after(PATIENCE_SECONDS):
                await self._opened.wait()
        except TimeoutError:
            why = {"error": "temporarily_unavailable", "error_description": "The MCP server is starting. Try again."}
            await JSONResponse(why, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if self._endpoint is not None:
            await self._endpoint(scope, receive, send)
