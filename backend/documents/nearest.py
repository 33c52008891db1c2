"""Which passages' embeddings are nearest to a question's: exactly, or by an approximate index of a large user's."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Result, text
from sqlmodel import Session

from backend.documents.holdings import Library, only, statement

EXACT_UP_TO = 10_000
"""Up to so many passages every embedding is compared, at about half a millisecond for a thousand."""
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
            return near | _cosines(session.execute(statement(_BESIDE, "", *_COLUMNS), values))
    return _cosines(session.execute(statement(_EXACTLY, only(library, "v"), *_COLUMNS), values))


def index_name(model_id: int) -> str:
    """Return the name of the approximate index of a model's embeddings."""
    return f"ix_chunk_vectors_hnsw_{model_id}"


def index_ddl(model_id: int, dim: int, *, concurrently: bool = False) -> str:
    """Return the statement by which the owner makes the approximate index of a model's embeddings.

    It compares inner products, which are the cosines of vectors of unit length and the quickest to work out. It pays
    with less than a percent of the neighbors if it is built with more candidates than pgvector takes by itself.
    """
    return (
        f"create index {'concurrently ' if concurrently else ''}if not exists {index_name(model_id)} "
        f"on chunk_vectors using hnsw "
        f"((embedding::halfvec({dim})) halfvec_ip_ops) with (m = 16, ef_construction = 100) "
        f"where model_id = {model_id}"
    )


def _indexed_dim(session: Session, model_id: int, sought: int, many: int) -> int | None:
    """Return the dimensions that the model's index is for; None when it is of no use.

    That is so while it is not complete, and where so many rows are others' that it would give up before it has enough.
    """
    values = {"name": f"public.{index_name(model_id)}", "id": model_id, "enough": sought * GONE_THROUGH / many}
    return session.execute(_INDEXED, values).scalar_one_or_none()


def _approximately(session: Session, library: Library, values: dict[str, Any]) -> dict[int, float]:
    for setting in _SETTINGS:
        session.execute(setting)
    near = _cosines(session.execute(statement(_APPROXIMATELY, only(library, "v"), *_COLUMNS), values))
    session.execute(_SORTING)
    return near


def _cosines(rows: Result[*tuple[Any, ...]]) -> dict[int, float]:
    return {row[0]: -row[1] for row in rows.all()}


_COLUMNS = ("chunk_id", "distance")

_BESIDE = """
select v.chunk_id, v.embedding <#> cast(:vector as halfvec) as distance from chunk_vectors v
where v.user_id = :user_id and v.model_id = :model_id and v.chunk_id = any(cast(:beside as integer[]))
"""

# The sum keeps the planner from taking the approximate index; the distance is worked out once for a row.
_EXACTLY = f"""
(
    select v.chunk_id, (v.embedding <#> cast(:vector as halfvec)) + 0 as distance from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {{only}}
    order by distance, v.chunk_id limit :most
)
union all {_BESIDE}
"""  # noqa: S608  # Of constants.

# The cast has to stand as it does in the index. Its rows come nearly in order, and are put in order exactly.
_APPROXIMATELY = """
with near as materialized (
    select v.chunk_id, v.embedding <#> cast(:vector as halfvec) as distance from chunk_vectors v
    where v.user_id = :user_id and v.model_id = :model_id {only}
    order by cast(v.embedding as halfvec(:dim)) <#> cast(:vector as halfvec(:dim)) limit :many
)
select chunk_id, distance from near order by distance, chunk_id limit :most
"""

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
