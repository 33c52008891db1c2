"""The routes that report whether the service is alive, whether it can serve, and its metrics."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from backend import VERSION
from backend.edge.every_request import Metrics
from backend.edge.own_hosts import LOOPBACK_ADDRESSES
from backend.edge.problems import problem
from backend.errors import NotFound
from backend.postgres.database import Database

ANSWER_SECONDS = 3.0
"""Seconds that `/ready` and `/health/db` wait for the database. Load balancers wait about as long for an answer."""
LEFT_BY_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via", "cf-connecting-ip")


def health_routes(
    database: Database,
    metrics: Metrics,
    *,
    model: str,
    not_ready: Callable[[], str | None],
    metrics_token: str | None,
) -> APIRouter:
    """Return the routes `/health`, `/health/db`, `/ready` and `/metrics`.

    Args:
        database: The database whose reachability and pool are reported.
        metrics: The metrics to report.
        model: The model's name as users see it.
        not_ready: Returns why no turn could be served now, or None if turns are served.
        metrics_token: The token for reading the metrics. Without a token, only this machine may read the metrics, and
            not through a proxy.
    """
    router = APIRouter(tags=["health"])
    answers = Question(database.is_reachable).is_answered

    @router.get("/health", summary="Whether the process is alive; touches nothing else")
    async def health() -> dict[str, str]:
        return {"status": "healthy", "version": VERSION, "model": model}

    @router.get("/health/db", summary="Whether the database answers")
    async def health_of_database() -> JSONResponse:
        if not await answers():
            return JSONResponse({"status": "unhealthy", "database": "unreachable", "database_ok": False}, 503)
        status: dict[str, Any] = {"status": "healthy", "database": "connected", "database_ok": True}
        return JSONResponse({**status, "pool_status": database.pool_status()})

    @router.get("/ready", summary="Whether a turn could be served now")
    async def ready() -> Response:
        reason = not_ready()
        # The database is queried only if it is in doubt. Load balancers call this route all the time, and each query
        # would wake a sleeping serverless database.
        if reason is None and database.is_in_doubt and not await answers():
            reason = "The database does not answer."
        if reason is not None:
            return problem(503, "not_ready", reason, headers={"Retry-After": "3"})
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Counts and times for Prometheus", include_in_schema=False)
    def metrics_of_process(request: Request, authorization: Annotated[str, Header()] = "") -> Response:
        if metrics_token is not None:
            allowed = secrets.compare_digest(authorization.encode(), f"Bearer {metrics_token}".encode())
        else:
            is_forwarded = any(name in request.headers for name in LEFT_BY_PROXIES)
            allowed = request.client is not None and request.client.host in LOOPBACK_ADDRESSES and not is_forwarded
        if not allowed:
            raise NotFound("There is nothing at this address.", hint="GET /docs lists what there is.")
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


class Question:
    """Finds out whether the database answers. Any number of requests share one query, one thread and one connection."""

    def __init__(self, is_reachable: Callable[[], bool]) -> None:
        self._is_reachable = is_reachable
        self._asked: asyncio.Task[bool] | None = None

    async def is_answered(self) -> bool:
        """Return whether the database answers within `ANSWER_SECONDS`."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(run_sync(self._is_reachable, abandon_on_cancel=True))
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked), ANSWER_SECONDS)
        except TimeoutError:
            return False
