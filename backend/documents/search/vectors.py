"""Which passages' embeddings are nearest to a question's: exactly, or by an approximate index of a large user's."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from backend.documents.embedding.hnsw import EXACT_UP_TO, index_name
from backend.documents.search.holdings import Library, only, statement

OVER_FETCH = 2
"""How many times the wanted number the approximate index is asked for."""
GONE_THROUGH = 20_000
"""Rows of everybody's after which the approximate index gives up, unless the server is set otherwise."""


def nearest(
    session: Session, library: Library, values: dict[str, Any], *, most: int, beside: Sequence[int] = ()
) -> dict[int, float]:
    """Return the cosines of the nearest passages by their ids, `most` of them wherever there are as many.

    With them come those of the passages `beside` them that have an embedding. `values` has the question's `vector`,
    which is of unit length and as Postgres reads it, and the `model_id`.
    """
    values = values | {"most": most, "beside": list(beside)}
    many = most * OVER_FETCH
    if library.sought > EXACT_UP_TO and (dim := _indexed_dim(session, values["model_id"], library.sought, many)):
        near = _approximately(session, library, values | {"dim": dim, "many": many})
        if len(near) == most:
            return near | _cosines(session.execute(statement(_BESIDE, "", "key"), values).scalars())
    return _cosines(session.execute(statement(_EXACTLY, only(library, "v"), "key"), values).scalars())


def _indexed_dim(session: Session, model_id: int, sought: int, many: int) -> int | None:
    """Return the dimensions that the model's index is for; None when it is of no use.

    That is so while it is not complete, and where so many rows are others' that it would give up before it has enough.
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
"""Steps of a distance from 0 to 1, far more than 16-bit numbers tell apart."""

# A passage's distance and its id make one number: such are sorted without copying rows, which saves a sixth of the CPU.
_KEY = f"cast((v.embedding <#> cast(:vector as halfvec)) * {_PRECISION} as bigint) << 32 | v.chunk_id"

_BESIDE = f"""
select {_KEY} as key from chunk_vectors v
where v.user_id = :user_id and v.model_id = :model_id and v.chunk_id = any(cast(:beside as integer[]))
"""  # noqa: S608  # Of constants.

# The approximate index is not for this expression.
_EXACTLY = f"""
(
    select {_KEY} as key from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {{only}} order by key limit :most
)
union all {_BESIDE}
"""  # noqa: S608  # The same.

# The cast has to stand as it does in the index. Its rows come nearly in order, and are put in order exactly.
_APPROXIMATELY = f"""
with near as materialized (
    select {_KEY} as key from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {{only}}
    order by cast(v.embedding as halfvec(:dim)) <#> cast(:vector as halfvec(:dim)) limit :many
)
select key from near order by key limit :most
"""  # noqa: S608  # The same.

# Without iteration a user who has few of all rows would get next to none.
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
