"""The embedding model that the database's vectors are by: it decides, whatever this process was configured with."""

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
"""How long a process goes on with the model that it knows; a build keeps the old vectors for longer than that."""


@dataclass(frozen=True, slots=True)
class Current:
    """The model in use."""

    model_id: int
    embedder: Embedder


def current_model(session: Session) -> tuple[int, str]:
    """Return the id and the name of the model in use."""
    found = session.execute(text("select id, name from embedding_models where is_current")).one()
    return found.id, found.name


class Embeddings:
    """Embeds by the model that is in use."""

    def __init__(self, database: Database, make: Callable[[str], Embedder]) -> None:
        """Take the database, and what makes an embedder of a model's name."""
        self._database = database
        self._make = make
        self._embedders: dict[str, Embedder] = {}
        self._known: tuple[int, str] | None = None
        self._known_at = float("-inf")
        self._lock = threading.Lock()

    def embedder(self, name: str) -> Embedder:
        """Return a model by its name; each is made once."""
        with self._lock:
            if name not in self._embedders:
                self._embedders[name] = self._make(name)
            return self._embedders[name]

    def current(self, *, anew: bool = False) -> Current:
        """Return the model in use, as the database says; as it said a few seconds ago unless `anew`.

        Raises:
            Unavailable: The database does not answer.
        """
        if anew or self._known is None or time.monotonic() - self._known_at > TRUSTED_SECONDS:
            with self._database.transaction(None) as session:
                self._known = current_model(session)
            self._known_at = time.monotonic()
        model_id, name = self._known
        return Current(model_id, self.embedder(name))

    def choose(self, name: str) -> bool:
        """Use a model from now on if no passage was embedded yet, and return whether it is the one in use."""
        if self.current(anew=True).embedder.id == name:
            return True
        dim = self.embedder(name).dim
        with self._database.transaction(None) as session:
            chosen = session.execute(
                text("select choose_embedding_model(:name, :dim)"), {"name": name, "dim": dim}
            ).scalar_one()
        self._known = None
        return bool(chosen)

    def query_vector(self, arguments: dict[str, Any]) -> QueryVector:
        """Embed the `query` among a tool's checked arguments."""
        current = self.current()
        [values] = current.embedder.embed([arguments["query"]], "query")
        return QueryVector(current.model_id, values, current.embedder.unrelated)
