"""The composition root: which parts the service is made of, and how they hang together."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
from anyio import create_task_group
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from backend import VERSION
from backend import log as logs
from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.conversations.routes import conversation_routes
from backend.database import Database
from backend.identity.authenticator import Authenticator, BetterAuth, GuestRules
from backend.identity.routes import identity_routes
from backend.installation import Installation, Postgres
from backend.leases import Leases
from backend.mcp_server.mount import McpMount
from backend.notifications import Notifications
from backend.operations.perform import Operations
from backend.runs.follow import Follower
from backend.runs.live import Live
from backend.runs.routes import run_routes
from backend.runs.turns import Turns
from backend.runs.worker import MOST_RUNS_OF_A_USER, Worker
from backend.settings import Settings
from backend.tasks.routes import task_routes
from backend.tasks.tools import TASK_TOOLS
from backend.web.routes import web_routes
from backend.wire.health import health_routes
from backend.wire.http import EveryRequest, Metrics
from backend.wire.native import chat_routes, event_stream
from backend.wire.own_hosts import OwnHosts
from backend.wire.problems import install_problems
from backend.wire.signed_in import bearer_token, caller_of, client_address, sign_in

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from starlette.types import ASGIApp

TOOLS = TASK_TOOLS
LET_RUNS_END_SECONDS = 2.0
"""How long a process that goes down lets its runs go on, before it hands them back."""
LAST_SECONDS = 9.5
"""After how long a process that was told to go down ends whatever happens."""
UNREADY_SECONDS = 1.0
"""How long a process that was told to go down still answers, so that balancers see that it is not ready."""


class Parts:
    """What a process is made of that answers messages, with or without doors for others."""

    def __init__(self, settings: Settings, *, is_dedicated: bool = False) -> None:
        """Put the parts together; `is_dedicated` is for a process that does nothing but execute runs."""
        self.database = database = make_database(settings)
        self.installation = Installation(
            database, lambda: find_postgres(settings), migrate_on_start=settings.migrate_on_start
        )
        self.operations = Operations(database)
        self.authenticator = make_authenticator(settings, database)
        self.assistant = AgentAssistant(
            model_choice(settings),
            TOOLS,
            now=database.now,
            max_steps=settings.max_steps,
            history_characters=settings.history_characters,
        )
        self.mcp = McpMount(lambda: mcp_endpoint(settings, self.operations, self.authenticator))
        self.notifications = Notifications(database, keeps_trying=is_dedicated)
        live = Live()
        leases = Leases(database, "runs", seconds=settings.lease_seconds, most_of_a_user=MOST_RUNS_OF_A_USER)
        turns = Turns(
            database,
            self.assistant,
            leases,
            guest_turns_per_day=settings.guest_turns_per_day,
            history_messages=settings.history_messages,
        )
        self.worker = Worker(
            database,
            turns,
            leases,
            self.assistant,
            live,
            max_concurrent=settings.max_concurrent_runs,
            keep_events=timedelta(days=settings.run_events_days),
            on_work=self.notifications.want,
        )
        self.notifications.on_heard(self.worker.heard)
        self.follower = Follower(
            database,
            live,
            is_listening=lambda: self.notifications.is_listening,
            on_waiting=self.worker.notice,
        )
        self._is_going_down = False

    @property
    def not_ready(self) -> str | None:
        """Why no turn could be served now, for the owner, or None."""
        if self._is_going_down:
            return "The server is going down."
        return self.assistant.not_ready if self.installation.is_ready else self.installation.reason

    def go_down(self) -> None:
        """Take no more work, and send those who follow a run to another process."""
        self._is_going_down = True
        self.worker.stop_claiming()
        self.follower.stop()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Open the database in the background, execute runs inside the block, and leave none behind at its end."""
        try:
            async with create_task_group() as background:
                background.start_soon(self._serve_database)
                background.start_soon(self.mcp.serve, self.assistant.load)
                try:
                    yield
                finally:
                    self.go_down()
                    await self.worker.stop(seconds=LET_RUNS_END_SECONDS)
                    background.cancel_scope.cancel()
        finally:
            await run_sync(self.installation.close)

    async def _serve_database(self) -> None:
        direct_url = await self.installation.open()
        async with create_task_group() as background:
            background.start_soon(self.notifications.listen, direct_url)
            background.start_soon(self.worker.run)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the whole service; without settings they are read from the environment."""
    settings = settings or Settings.load()
    logs.configure("DEBUG" if settings.debug else settings.log_level)
    parts = Parts(settings)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with go_down_on_signal(parts):
            async with parts.at_work():
                yield

    app = FastAPI(
        title="DocuTalk",
        version=VERSION,
        summary="A chat service over a person's tasks and documents.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    signed_in = sign_in(parts.authenticator)
    app.include_router(web_routes(name="DocuTalk", version=VERSION, docs="/docs", health="/health", mcp="/mcp"))
    app.include_router(
        health_routes(
            parts.database,
            metrics,
            model=model_choice(settings).shown,
            not_ready=lambda: parts.not_ready,
            metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
        )
    )
    app.include_router(
        identity_routes(
            parts.database,
            parts.authenticator,
            signed_in,
            address_of=lambda request: client_address(request, settings.trusted_proxies),
            token_of=lambda request: bearer_token(request.scope["headers"]),
        )
    )
    app.include_router(task_routes(parts.operations, signed_in))
    app.include_router(conversation_routes(parts.database, signed_in))
    app.include_router(run_routes(parts.database, parts.worker, parts.follower, signed_in, stream_of=event_stream))
    app.include_router(chat_routes(parts.worker, parts.follower, signed_in, wait_seconds=settings.chat_wait_seconds))
    app.router.routes.append(parts.mcp.route)
    install_problems(app)
    app.add_middleware(
        OwnHosts,
        host=None if settings.listens_publicly else settings.host,
        public_url=settings.public_url,
        origins=settings.cors_origins,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "X-Request-ID",
            "Mcp-Protocol-Version",
            "Mcp-Session-Id",
            "Mcp-Method",
            "Mcp-Name",
        ],
        expose_headers=["X-Request-ID", "Retry-After", "Location", "Mcp-Session-Id", "WWW-Authenticate"],
    )
    app.add_middleware(EveryRequest, metrics=metrics)
    return app


def make_database(settings: Settings) -> Database:
    """Return the database with the pool that the settings ask for; it is not open yet."""
    return Database(
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_recycle=settings.db_pool_recycle,
        pool_pre_ping=settings.db_pool_pre_ping,
    )


def find_postgres(settings: Settings) -> Postgres:
    """Return the PostgreSQL that the settings name, or start or join the embedded one."""
    url, migration_url = settings.database_url, settings.migration_database_url
    return Postgres.at(
        url=url.get_secret_value() if url else None,
        migration_url=migration_url.get_secret_value() if migration_url else None,
        data_dir=settings.data_dir,
    )


def make_authenticator(settings: Settings, database: Database) -> Authenticator:
    """Return what knows every kind of credential that the settings allow."""
    secret = settings.better_auth_secret
    better_auth = (
        BetterAuth(secret.get_secret_value(), settings.better_auth_issuer, settings.better_auth_audience)
        if secret
        else None
    )
    guests = GuestRules(get=settings.guests_get, per_hour=settings.guests_per_hour, days=settings.guest_days)
    return Authenticator(database, secret=settings.secret, guests=guests, better_auth=better_auth)


def mcp_endpoint(
    settings: Settings, operations: Operations, authenticator: Authenticator
) -> "tuple[MCPServer[Any], ASGIApp]":
    """Import the MCP SDK, and return the server of our tools with its endpoint for outside clients."""
    from backend.mcp_server.http import guarded_endpoint
    from backend.mcp_server.server import build_server

    server = build_server(TOOLS, operations)
    return server, guarded_endpoint(
        server,
        lambda headers: caller_of(headers, authenticator, door="mcp"),
        public_url=settings.public_url,
        origins=settings.cors_origins,
        host=None if settings.listens_publicly else settings.host,
    )


def model_choice(settings: Settings) -> ModelChoice:
    """Return which model answers, and how it is reached."""
    keys = {
        "openai": settings.openai_api_key,
        "gemini": settings.gemini_api_key,
        "anthropic": settings.anthropic_api_key,
    }
    return ModelChoice(
        name=settings.chosen_model,
        keys={provider: key.get_secret_value() for provider, key in keys.items() if key is not None},
        base_url=settings.openai_base_url,
        streaming=settings.model_streaming,
        timeout_seconds=settings.model_timeout_seconds,
        guests_get=settings.guests_get,
    )


def give_up() -> None:
    """End the process although a thread still waits, for a database that hangs, say; leases run out by themselves."""
    structlog.get_logger().error("stop_overdue")
    os._exit(1)


@contextmanager
def go_down_on_signal(parts: Parts) -> Iterator[None]:
    """Go down in order as soon as the process is told to: first nobody is sent here any more, then the server stops.

    Between the two `/ready` says so for a moment, and streams end with `reconnect`: the server waits for open requests
    before it ends the lifespan, and a followed run keeps its request open. An impatient second signal changes nothing:
    it would leave the embedded database behind, and the stop takes seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            loop.call_soon_threadsafe(go_down, number, frame)

    def go_down(number: int, frame: FrameType | None) -> None:
        parts.go_down()
        handler = before[signal.Signals(number)]
        overdue = threading.Timer(LAST_SECONDS, give_up)
        overdue.daemon = True
        overdue.start()
        if callable(handler):
            loop.call_later(UNREADY_SECONDS, handler, number, frame)

    for name in (signal.SIGTERM, signal.SIGINT):
        before[name] = signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
