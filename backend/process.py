"""Everything that a serving process runs, built from the settings, and the tools that the process offers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from anyio import create_task_group, from_thread
from anyio.to_thread import run_sync

from backend.agent.assistant import AgentAssistant
from backend.documents.embedding.current import Embeddings
from backend.documents.embedding.upkeep import Upkeep
from backend.documents.ingestion.ingestor import Ingestor
from backend.documents.ingestion.worker import IngestionWorker
from backend.documents.models import DOCUMENTS
from backend.documents.purge import Purge
from backend.documents.repository import DocumentRepository
from backend.documents.tools import DOCUMENT_TOOLS
from backend.edge.authentication import caller_of
from backend.forgetting import forget_document
from backend.identity.authenticator import Authenticator
from backend.identity.expiry import remove_expired_guests
from backend.jobs.housekeeping import IDLE_SECONDS, REST_SECONDS, Chore, Housekeeper, remove_old
from backend.jobs.leases import Leases
from backend.mcp_server.mount import McpMount
from backend.operations import access_log, row_changes
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.postgres.installation import Installation
from backend.postgres.notifications import Notifications
from backend.runs.follow import Follower
from backend.runs.live import Live
from backend.runs.models import RUNS
from backend.runs.purge import purge_old_runs, remove_deleted_conversations
from backend.runs.turns import Turns
from backend.runs.worker import RunWorker
from backend.settings import Settings
from backend.tasks.tools import TASK_TOOLS
from backend.wiring import (
    embedder_maker,
    find_postgres,
    keeping_rules,
    make_authenticator,
    make_database,
    model_choice,
    reading_limits,
)
from backend.workspace.research import fetch, search
from backend.workspace.tools import WORKSPACE_TOOLS, preparations

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from backend.mcp_server.server import ToolServer

TOOLS = (*TASK_TOOLS, *DOCUMENT_TOOLS, *WORKSPACE_TOOLS)
OF_CHAT = tuple(tool for tool in TOOLS if tool not in (search, fetch))
"""The tools that the chat uses. `search` and `fetch` are left out: they are for outside clients, and their results have
no passages that an answer could cite."""
LET_RUNS_END_SECONDS = 2.0
"""How many seconds runs may continue in a process that is shutting down. After that, the process gives up their leases,
so that other processes can continue them."""


class Process:
    """Everything that a process needs to answer messages, whether or not it also serves requests."""

    def __init__(self, settings: Settings, *, is_dedicated: bool = False) -> None:
        """Build all objects from the settings. Set `is_dedicated` in a worker process, which serves no requests."""
        self.database = database = make_database(settings)
        self.installation = Installation(
            database, lambda: find_postgres(settings), migrate_on_start=settings.migrate_on_start
        )
        self.embeddings = Embeddings(database, embedder_maker(settings))
        self.operations = make_operations(settings, database, self.embeddings)
        self.authenticator = make_authenticator(settings, database)
        self.assistant = AgentAssistant(
            model_choice(settings),
            OF_CHAT,
            now=database.now,
            max_steps=settings.max_steps,
            history_characters=settings.history_characters,
            share=self.operations.share,
        )
        self.mcp = McpMount(lambda: mcp_endpoint(settings, self.operations, self.authenticator))
        self.notifications = Notifications(database, keeps_trying=is_dedicated)
        live = Live()
        leases = Leases(database, RUNS, seconds=settings.lease_seconds)
        self.turns = Turns(
            database,
            self.assistant,
            leases,
            guest_turns_per_day=settings.guest_turns_per_day,
            guest_model_turns_per_day=settings.guest_model_turns_per_day,
            history_messages=settings.history_messages,
            still_there=lambda scope, ids: DocumentRepository(scope).still_there(ids),
        )
        self.worker = RunWorker(
            database,
            self.turns,
            leases,
            self.assistant,
            live,
            max_concurrent=settings.max_concurrent_runs,
            on_work=self._on_work,
        )
        self.notifications.subscribe(("news", "work", "cancel"), self.worker.notified)
        self.upkeep = Upkeep(
            self.embeddings,
            settings.embedding_model,
            # With its own, embedded database, the service runs builds of embeddings by itself. With any other, the
            # owner does.
            data_dir=None if settings.database_url else settings.data_dir,
        )
        self.ingestor = Ingestor(
            database,
            self.embeddings,
            limits=reading_limits(settings),
            keeps_originals=settings.store_originals,
        )
        self.ingestion = IngestionWorker(
            self.ingestor,
            Leases(database, DOCUMENTS, seconds=settings.lease_seconds),
            max_concurrent=settings.max_concurrent_ingestions or int(is_dedicated),
            on_work=self._on_work,
            on_grown=self.upkeep.look,
        )
        self.notifications.subscribe(("document",), lambda _kind, _subject: self.ingestion.look_now())
        self.purge = Purge(database, keep_deleted=timedelta(days=settings.document_days), forget=forget_document)
        self.housekeeper = Housekeeper(
            database,
            (
                Chore("deleted_documents", self.purge.all_due, is_waiting=lambda: self.purge.is_put_off),
                Chore(
                    "old_accesses",
                    partial(remove_old, database, access_log.PRUNE, keep=timedelta(days=settings.access_log_days)),
                ),
                Chore(
                    "old_row_changes",
                    partial(remove_old, database, row_changes.PRUNE, keep=timedelta(days=settings.keep_deleted_days)),
                ),
                Chore(
                    "deleted_conversations",
                    partial(remove_deleted_conversations, database, keep=timedelta(days=settings.keep_deleted_days)),
                ),
                Chore("expired_guests", partial(remove_expired_guests, database)),
                Chore(
                    "old_run_events", partial(purge_old_runs, database, keep=timedelta(days=settings.run_events_days))
                ),
            ),
            lease_seconds=settings.lease_seconds,
            idle_seconds=REST_SECONDS if is_dedicated else IDLE_SECONDS,
        )
        self.follower = Follower(
            database,
            live,
            is_listening=lambda: self.notifications.is_listening,
            on_waiting=self.worker.look_soon,
        )
        self._is_going_down = False

    @property
    def not_ready(self) -> str | None:
        """Why no turn can be served now, in a sentence for the service's owner; None if turns can be served."""
        if self._is_going_down:
            return "The server is going down."
        return self.assistant.not_ready if self.installation.is_ready else self.installation.reason

    def go_down(self) -> None:
        """Stop claiming work, and end all event streams, so that their clients reconnect to another process."""
        self._is_going_down = True
        self.worker.stop_claiming()
        self.ingestion.stop_claiming()
        self.housekeeper.stop_claiming()
        self.follower.stop()

    def purge_now(self, user_id: str, document_id: int) -> None:
        """Remove a deleted document. If a run uses it, a chore removes it later. Call this on a worker thread."""
        if not self.purge.one(user_id, document_id):
            from_thread.run_sync(self.housekeeper.look_soon)

    def _on_work(self) -> None:
        """Reopen the connection for notifications, and do due chores.

        There is work, so the database is awake anyway.
        """
        self.notifications.want()
        self.housekeeper.database_is_awake()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Open the database in the background, work until the block ends, and then stop everything."""
        try:
            async with create_task_group() as background:
                background.start_soon(self._serve_database)
                background.start_soon(self.mcp.serve, self.assistant.load)
                try:
                    yield
                finally:
                    self.go_down()
                    async with create_task_group() as stopping:
                        stopping.start_soon(partial(self.worker.stop, seconds=LET_RUNS_END_SECONDS))
                        stopping.start_soon(self.ingestion.stop)
                        stopping.start_soon(self.housekeeper.stop)
                    await self.assistant.close()
                    background.cancel_scope.cancel()
        finally:
            await run_sync(self.installation.close)

    async def _serve_database(self) -> None:
        direct_url = await self.installation.open()
        async with create_task_group() as background:
            background.start_soon(self.notifications.listen, direct_url)
            background.start_soon(self.worker.run)
            background.start_soon(self.ingestion.run)
            background.start_soon(self.housekeeper.run)
            background.start_soon(self.upkeep.run, direct_url)


def make_operations(settings: Settings, database: Database, embeddings: Embeddings) -> Operations:
    """Return the `Operations` that execute every tool, with the functions that prepare some tools' inputs."""
    address = settings.public_url or f"http://{settings.host}:{settings.port}"
    return Operations(
        database,
        preparations=preparations(embeddings.query_vector, address=address, rules=keeping_rules(settings)),
    )


def mcp_endpoint(
    settings: Settings, operations: Operations, authenticator: Authenticator
) -> "tuple[ToolServer, ASGIApp]":
    """Import the MCP SDK; return the MCP server with our tools, and its HTTP endpoint for outside clients."""
    from backend.mcp_server.http import guarded_endpoint
    from backend.mcp_server.server import ToolServer

    server = ToolServer(TOOLS, operations)
    return server, guarded_endpoint(
        server,
        lambda scope: caller_of(scope, authenticator, door="mcp"),
        public_url=settings.public_url,
        origins=settings.cors_origins,
        host=None if settings.listens_publicly else settings.host,
    )
