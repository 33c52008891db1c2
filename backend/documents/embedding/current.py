"""The embedding model in use. The database decides which model that is, not this process's configuration."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import text
from sqlmodel import Session

from backend.documents.embedding.embedder import Embedder, QueryVector
from backend.postgres.database import Database

log = structlog.get_logger()

TRUSTED_SECONDS = 5.0
"""Seconds for which a process uses its cached answer. After a switch, a build keeps the old vectors for longer."""


@dataclass(frozen=True, slots=True)
class Current:
    """The model in use."""

    model_id: int
    embedder: Embedder


def current_model(session: Session) -> tuple[int, str]:
    """Return the id and name of the model in use."""
    found = session.execute(text("select id, name from embedding_models where is_current")).one()
    return found.id, found.name


class Embeddings:
    """Embeds with the model in use."""

    def __init__(self, database: Database, make: Callable[[str], Embedder]) -> None:
        """`make` creates an embedder from a model's name."""
        self._database = database
        self._make = make
        self._embedders: dict[str, Embedder] = {}
        self._known: tuple[int, str] | None = None
        self._known_at = float("-inf")
        self._lock = threading.Lock()

    def embedder(self, name: str) -> Embedder:
        """Return the model with this name, creating it on first use."""
        with self._lock:
            if name not in self._embedders:
                self._embedders[name] = self._make(name)
            return self._embedders[name]

    def current(self, *, refresh: bool = False) -> Current:
        """Return the model in use, as the database reports it.

        Cached for `TRUSTED_SECONDS`; `refresh=True` asks the database now.

        Raises:
            Unavailable: The database does not answer.
        """
        if refresh or self._known is None or time.monotonic() - self._known_at > TRUSTED_SECONDS:
            with self._database.transaction(None) as session:
                self._known = current_model(session)
            self._known_at = time.monotonic()
        model_id, name = self._known
        return Current(model_id, self.embedder(name))

    def choose(self, name: str) -> bool:
        """Make the named model the one in use if no passage has been embedded yet; return whether it is in use now."""
        if self.current(refresh=True).embedder.id == name:
            return True
        dim = self.embedder(name).dim
        with self._database.transaction(None) as session:
            chosen = session.execute(
                text("select choose_embedding_model(:name, :dim)"), {"name": name, "dim": dim}
            ).scalar_one()
        self._known = None
        return bool(chosen)

    def query_vector(self, arguments: dict[str, Any]) -> QueryVector:
        """Embed the `query` in a tool's validated arguments."""
        current = self.current()
        [values] = current.embedder.embed([arguments["query"]], "query")
        return QueryVector(current.model_id, values, current.embedder.unrelated)
