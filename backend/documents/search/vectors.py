"""Find the passages whose embeddings are nearest to a question's embedding, exactly or with an approximate index."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from backend.documents.embedding.hnsw import EXACT_UP_TO, index_name
from backend.documents.search.holdings import Library, only, statement

OVER_FETCH = 2
"""The approximate index is asked for this many times the wanted number of rows."""
GONE_THROUGH = 20_000
"""The approximate index gives up after this many rows, counting all users' rows. This is pgvector's default for
`hnsw.max_scan_tuples`."""


def nearest(
    session: Session, library: Library, values: dict[str, Any], *, most: int, beside: Sequence[int] = ()
) -> dict[int, float]:
    """Return the cosine similarities of the `most` nearest passages, by passage id; of all passages if there are fewer.

    The result also includes the passages in `beside`, if they have an embedding. `values` must contain `model_id` and
    `vector`, the question's unit-length embedding as a Postgres literal.
    """
    values = values | {"most": most, "beside": list(beside)}
    many = most * OVER_FETCH
    if library.sought > EXACT_UP_TO and (dim := _indexed_dim(session, values["model_id"], library.sought, many)):
        near = _approximately(session, library, values | {"dim": dim, "many": many})
        if len(near) == most:
            return near | _cosines(session.execute(statement(_BESIDE, "", "key"), values).scalars())
    return _cosines(session.execute(statement(_EXACTLY, only(library, "v"), "key"), values).scalars())


def _indexed_dim(session: Session, model_id: int, sought: int, many: int) -> int | None:
    """Return the dimensions of the model's approximate index, or None if the index is useless for this search.

    The index is useless while it is incomplete. It is also useless if so many of its rows belong to other users that it
    would give up before finding enough rows.
    """
    values = {"name": f"public.{index_name(model_id)}", "id": model_id, "enough": sought * GONE_THROUGH / many}
    return session.execute(_INDEXED, values).scalar_one_or_none()


def _approximately(session: Session, library: Library, values: dict[str, Any]) -> dict[int, float]:
    for setting in _SETTINGS:
        session.execute(setting)
    near = _cosines(session.execute(statement(_APPROXIMATELY, only(library, "v"), "key"), values).scalars())
    session.execute(_SORTING)
    return near


def _cosines(keys: Iterable[int]) -> dict[int, float]:
    return {key & 0xFFFFFFFF: -(key >> 32) / _PRECISION for key in keys}


_PRECISION = 1 << 30
"""The number of steps between the distances 0 and 1. The steps are far finer than 16-bit floats."""

# A passage's distance and id are packed into one number. Such numbers are sorted without copying rows, which saves a
# sixth of the CPU time.
_KEY = f"cast((v.embedding <#> cast(:vector as halfvec)) * {_PRECISION} as bigint) << 32 | v.chunk_id"

_BESIDE = f"""
select {_KEY} as key from chunk_vectors v
where v.user_id = :user_id and v.model_id = :model_id and v.chunk_id = any(cast(:beside as integer[]))
"""  # noqa: S608  # Built from constants.

# This expression does not match the approximate index, so the search is exact.
_EXACTLY = f"""
(
    select {_KEY} as key from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {{only}} order by key limit :most
)
union all {_BESIDE}
"""  # noqa: S608  # Built from constants.

# The cast must match the index's expression. The index returns rows nearly in order, so the outer query sorts them.
_APPROXIMATELY = f"""
with near as materialized (
    select {_KEY} as key from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {{only}}
    order by cast(v.embedding as halfvec(:dim)) <#> cast(:vector as halfvec(:dim)) limit :many
)
select key from near order by key limit :most
"""  # noqa: S608  # Built from constants.

# Without iterative scans, a user who owns only a few of all rows would get almost no results.
_SETTINGS = (
    text("set local hnsw.iterative_scan = relaxed_order"),
    text("set local hnsw.ef_search = 100"),
    text("set local enable_sort = off"),
)
_SORTING = text("set local enable_sort = on")

_INDEXED = text(
    """
    select m.dim from embedding_models m
    join pg_catalog.pg_index i on i.indexrelid = to_regclass(:name)
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    where m.id = :id and i.indisvalid and c.reltuples <= :enough
    """
)
