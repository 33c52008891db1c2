"""The owner's build command: it adds another model's vectors beside the current ones, and the index for large users."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from backend.documents.embedding.embedder import Embedder, prefixed
from backend.documents.embedding.hnsw import EXACT_UP_TO, index_ddl, index_name
from backend.errors import Conflict, DatabaseUnavailable
from backend.postgres.database import OWNER_ROLE, make_engine

BATCH = 64
"""Passages that are embedded and committed together."""
BUILD_MEMORY = "256MB"
"""The memory that PostgreSQL may use to build an index."""
UNDER_WAY_STATUS = os.EX_TEMPFAIL
"""The exit status when another build is running. The service does not treat this status as a failure."""


class BuildUnderWay(Conflict):
    """Another build is running in this database."""

    def __init__(self) -> None:
        super().__init__(
            "Another build of embeddings is running in this database, so this one changed nothing. Wait until it has "
            "ended, then start this one again."
        )


@dataclass(frozen=True, slots=True)
class Due:
    """The work that a build would have to do."""

    wanted: str
    in_use: str
    is_missing_any: bool
    """Whether some passages have no vector from the wanted model."""
    is_index_due: bool
    """Whether some user has too many passages for exact search to be fast, and the wanted model has no index."""

    @property
    def is_any(self) -> bool:
        """Whether there is anything to do."""
        return self.wanted != self.in_use or self.is_missing_any or self.is_index_due


class Builds:
    """Builds and switches models with the login of the tables' owner, who can access the passages of all users."""

    def __init__(self, url: str) -> None:
        """`url` is the database URL with the owner's login."""
        self._url = url

    def due(self, wanted: str | None) -> Due:
        """Return what must be built before the `wanted` model can be used. If `wanted` is None, check the model in use.

        Raises SQLAlchemy's errors if the login is not the owner's.
        """
        with self._owner() as engine:
            return self._due(engine, wanted)

    def _due(self, engine: Engine, wanted: str | None) -> Due:
        with _as_owner(engine) as connection:
            models = connection.execute(text("select id, name, is_current from embedding_models")).all()
            [in_use] = [model.name for model in models if model.is_current]
            name = wanted or in_use
            model_id = next((model.id for model in models if model.name == name), 0)
            missing = connection.execute(text(_MISSING), _missing(model_id, _FIRST, most=1)).first()
            is_large = connection.execute(text(_LARGEST)).scalar_one() > EXACT_UP_TO
            is_index_due = is_large and not _is_indexed(connection, model_id)
        return Due(name, in_use, is_missing_any=missing is not None, is_index_due=is_index_due)

    def build(
        self,
        wanted: str | None,
        make: Callable[[str], Embedder],
        *,
        tell: Callable[[str], None] = lambda _sentence: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Embed all passages with a model, make it the model in use, and build its index if one is due.

        `wanted` names the model; None means the model in use. If a build stops or fails, its committed work is kept,
        and the next build continues from there. Returns whether the build was completed.

        Raises:
            BuildUnderWay: Another build is running; nothing was changed.
            DatabaseUnavailable: The connection that blocks other builds was lost.
        """
        with self._owner() as engine, _alone(engine) as require_alone:
            # Read inside the lock, because another build may just have changed which model is in use.
            embedder = make(self._due(engine, wanted).wanted)
            model_id = self._register(engine, embedder)
            self._forget_others(engine, model_id)
            done, last = 0, _FIRST
            while True:
                if is_stopped():
                    return False
                require_alone()
                rows = self._embed_some(engine, embedder, model_id, last)
                if rows:
                    done, last = done + len(rows), (rows[-1].user_id, rows[-1].id)
                    tell(f"{done:,} passages embedded by {embedder.id}.")
                elif self._swap(engine, model_id):
                    break
                else:
                    # Passages were added before the place that this build has reached.
                    last = _FIRST
            tell(f"{embedder.id} is in use.")
            self._index(engine, model_id, embedder.dim, tell)
        return True

    def _embed_some(
        self, engine: Engine, embedder: Embedder, model_id: int, after: tuple[str, int]
    ) -> Sequence[Row[Any]]:
        with _as_owner(engine) as connection:
            rows = connection.execute(text(_MISSING), _missing(model_id, after, most=BATCH)).all()
        vectors = embedder.embed([prefixed(row.headings, row.content) for row in rows], "passage") if rows else []
        with _as_owner(engine) as connection:
            for row, vector in zip(rows, vectors, strict=True):
                # A passage may have been purged meanwhile; then the vector has no row to refer to.
                connection.execute(text(_KEEP), {**row._mapping, "model": model_id, "vector": str(vector)})
        return rows

    def _register(self, engine: Engine, embedder: Embedder) -> int:
        with _as_owner(engine) as connection:
            return int(
                connection.execute(
                    text(
                        "insert into embedding_models (name, dim) values (:name, :dim) "
                        "on conflict (name) do update set dim = excluded.dim returning id"
                    ),
                    {"name": embedder.id, "dim": embedder.dim},
                ).scalar_one()
            )

    def _forget_others(self, engine: Engine, model_id: int) -> None:
        """Delete all vectors except those of `model_id` and the model in use; do nothing if `model_id` is in use."""
        with _as_owner(engine) as connection:
            others = connection.execute(
                text(
                    "select id from embedding_models where not is_current and id <> :id "
                    "and not exists (select from embedding_models where id = :id and is_current)"
                ),
                {"id": model_id},
            ).scalars()
            ids = others.all()
        for other in ids:
            with _as_owner(engine) as connection:
                # In its own short transaction, because nobody can search until the transaction commits.
                connection.execute(text(f"drop index if exists {index_name(other)}"))
            with _as_owner(engine) as connection:
                connection.execute(text("delete from chunk_vectors where model_id = :id"), {"id": other})
                connection.execute(text("delete from embedding_models where id = :id"), {"id": other})

    def _swap(self, engine: Engine, model_id: int) -> bool:
        """Make this the model in use, and return True. If a passage has no vector of this model, return False."""
        with _as_owner(engine) as connection:
            current = text("select is_current from embedding_models where id = :id")
            if not connection.execute(current, {"id": model_id}).scalar_one():
                # A transaction that adds passages waits for this lock. Then it finds that another model is in use.
                connection.execute(text("lock table chunk_vectors in share row exclusive mode"))
            if connection.execute(text(_MISSING), _missing(model_id, _FIRST, most=1)).first() is not None:
                return False
            connection.execute(
                text("update embedding_models set is_current = false where is_current and id <> :id"), {"id": model_id}
            )
            connection.execute(text("update embedding_models set is_current = true where id = :id"), {"id": model_id})
        return True

    def _index(self, engine: Engine, model_id: int, dim: int, tell: Callable[[str], None]) -> None:
        with _as_owner(engine) as connection:
            if connection.execute(text(_LARGEST)).scalar_one() <= EXACT_UP_TO or _is_indexed(connection, model_id):
                return
        tell("A user has too many passages for a fast exact search: their index is being built.")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"set role {OWNER_ROLE}"))
            connection.execute(text(f"set maintenance_work_mem = '{BUILD_MEMORY}'"))
            # An aborted build leaves an invalid index behind. That index is useless and blocks a new one.
            connection.execute(text(f"drop index if exists {index_name(model_id)}"))
            # The index is built concurrently, because that takes minutes and passages can be added meanwhile.
            connection.execute(text(index_ddl(model_id, dim, concurrently=True)))
            # The settings are reset, because a pooler may pass the connection on to others with its settings unchanged.
            connection.execute(text("reset all"))
            connection.execute(text("reset role"))
        tell("The index is in use.")

    @contextmanager
    def _owner(self) -> Iterator[Engine]:
        engine = make_engine(self._url)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def _alone(engine: Engine) -> Iterator[Callable[[], None]]:
    """Block other builds until the block ends; yield a function that raises once the connection is lost."""
    with engine.connect() as holder:
        # A transaction-level lock, because a pooler in transaction mode lends a session to others between transactions.
        # Between statements this transaction has no snapshot, so neither a vacuum nor an index build waits for it.
        holder.execute(text("set local idle_in_transaction_session_timeout = 0"))
        lock = text("select pg_try_advisory_xact_lock(hashtext('docutalk embeddings build'))")
        if not holder.execute(lock).scalar_one():
            raise BuildUnderWay

        def require_alone() -> None:
            try:
                holder.execute(text("select 1"))
            except DBAPIError as error:
                raise DatabaseUnavailable from error

        yield require_alone


@contextmanager
def _as_owner(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        connection.execute(text(f"set local role {OWNER_ROLE}"))
        yield connection


def _is_indexed(connection: Connection, model_id: int) -> bool:
    """Return whether the model's index exists and is complete."""
    found = connection.execute(
        text("select indisvalid from pg_catalog.pg_index where indexrelid = to_regclass(:name)"),
        {"name": f"public.{index_name(model_id)}"},
    )
    return bool(found.scalar_one_or_none())


_FIRST = ("", 0)


def _missing(model_id: int, after: tuple[str, int], *, most: int) -> dict[str, Any]:
    return {"model": model_id, "user_id": after[0], "id": after[1], "most": most}


_LARGEST = "select coalesce(max(n), 0) from (select sum(chunks) as n from documents group by user_id) as users"
_MISSING = """
    select c.user_id, c.id, c.document_id, c.headings, c.content from chunks c where not exists (
        select from chunk_vectors v
        where v.user_id = c.user_id and v.chunk_id = c.id and v.model_id = :model)
    and (c.user_id, c.id) > (:user_id, :id)
    order by c.user_id, c.id limit :most
"""
_KEEP = """
    insert into chunk_vectors (user_id, model_id, chunk_id, document_id, embedding)
    select user_id, :model, id, document_id, cast(:vector as halfvec) from chunks
    where user_id = :user_id and id = :id for key share on conflict do nothing
"""
