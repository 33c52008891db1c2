"""The HTTP application: the routes and middleware around the `Process` that does the work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from backend import VERSION
from backend import log as logs
from backend.api_router import OPERATION_HEADER
from backend.conversations.routes import conversation_routes
from backend.documents.routes import UPLOAD_PATHS, document_routes
from backend.documents.upload.form import UploadLimits
from backend.edge.authentication import bearer_token, sign_in
from backend.edge.every_request import EveryRequest, Metrics
from backend.edge.health import health_routes
from backend.edge.own_hosts import OwnHosts
from backend.edge.problems import install_problems
from backend.edge.proxies import Proxies
from backend.edge.strangers import Strangers, Visitors
from backend.identity.routes import identity_routes
from backend.process import Process
from backend.runs.repository import RunRepository
from backend.runs.routes import run_routes
from backend.settings import Settings
from backend.signals import go_down_on_signal
from backend.tasks.routes import named_task_routes, task_routes
from backend.web.routes import web_routes
from backend.wire.native import chat_routes, event_stream
from backend.wiring import keeping_rules, model_choice
from backend.workspace.routes import conversation_change_routes, undo_routes


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the whole application. Without `settings`, the settings are read from the environment."""
    settings = settings or Settings.load()
    logs.configure("DEBUG" if settings.debug else settings.log_level)
    process = Process(settings)
    metrics = Metrics()
    proxies = Proxies(settings.trusted_proxies)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with go_down_on_signal(process.go_down):
            async with process.at_work():
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
    signed_in = sign_in(process.authenticator)
    app.include_router(web_routes(name="DocuTalk", version=VERSION, docs="/docs", health="/health", mcp="/mcp"))
    app.include_router(
        health_routes(
            process.database,
            metrics,
            model=model_choice(settings).shown,
            not_ready=lambda: process.not_ready,
            metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
        )
    )
    app.include_router(
        identity_routes(
            process.database,
            process.authenticator,
            signed_in,
            address_of=lambda request: proxies.client_of(request.scope),
            token_of=lambda request: bearer_token(request.scope["headers"]),
            model_notice=process.turns.model_notice,
        )
    )
    app.include_router(task_routes(process.operations, signed_in))
    app.include_router(named_task_routes(process.operations, signed_in))
    app.include_router(
        document_routes(
            process.operations,
            process.database,
            signed_in,
            limits=UploadLimits(most_bytes=settings.max_upload_bytes),
            rules=keeping_rules(settings),
            on_added=process.ingestion.look_now,
            purge=process.purge_now,
        )
    )
    app.include_router(
        conversation_routes(
            process.database,
            signed_in,
            models_of=lambda scope, run_ids: RunRepository(scope).models(run_ids),
            share=process.operations.share,
        )
    )
    app.include_router(
        run_routes(
            process.database,
            process.worker,
            process.follower,
            signed_in,
            stream_of=event_stream,
            share=process.operations.share,
        )
    )
    app.include_router(
        chat_routes(process.worker, process.follower, signed_in, wait_seconds=settings.chat_wait_seconds)
    )
    app.include_router(conversation_change_routes(process.operations, signed_in))
    app.include_router(undo_routes(process.operations, signed_in, on_undone=process.ingestion.look_now))
    app.router.routes.append(process.mcp.route)
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
        expose_headers=[
            "X-Request-ID",
            "Retry-After",
            "Location",
            "Mcp-Session-Id",
            "WWW-Authenticate",
            OPERATION_HEADER,
        ],
    )
    app.add_middleware(
        EveryRequest,
        metrics=metrics,
        strangers=Strangers(proxies),
        visitors=Visitors(proxies, settings.max_connections_per_address),
        upload_paths=UPLOAD_PATHS,
    )
    return app
