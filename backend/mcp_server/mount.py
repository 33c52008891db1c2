"""The route `/mcp` as the app has it from the start; the server behind it comes up in the background.

Importing the MCP SDK takes as long as all the rest of a start, and `/health` does not need it.
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
"""How long a request waits for a server that is coming up."""


class McpMount:
    """Passes requests to the MCP server once it is there, and gives the agent the server itself."""

    def __init__(self, make: "Callable[[], tuple[ToolServer, ASGIApp]]") -> None:
        """Take what imports and builds the server and its guarded endpoint; it is called on a worker thread."""
        self._make = make
        self._endpoint: ASGIApp | None = None
        self._opened = Event()

    @property
    def route(self) -> Route:
        """The route of the app."""
        return Route("/mcp", endpoint=self, methods=None)

    async def serve(self, use: "Callable[[ToolServer], Any]") -> None:
        """Bring the server up, pass it to `use`, and serve until cancelled."""
        server, endpoint = await run_sync(self._make)
        async with server.session_manager.run():
            self._endpoint = endpoint
            self._opened.set()
            await use(server)
            await sleep_forever()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; while the server comes up, the request waits."""
        try:
            with fail_after(PATIENCE_SECONDS):
                await self._opened.wait()
        except TimeoutError:
            why = {"error": "temporarily_unavailable", "error_description": "The MCP server is starting. Try again."}
            await JSONResponse(why, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if self._endpoint is not None:
            await self._endpoint(scope, receive, send)
