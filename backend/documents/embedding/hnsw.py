"""The approximate index over a model's embeddings: when to use it, and the owner's statement that creates it."""

EXACT_UP_TO = 10_000
"""Up to this many passages of a user, every embedding is compared. That takes about half a millisecond per thousand."""


def index_name(model_id: int) -> str:
    """Return the name of the approximate index over a model's embeddings."""
    return f"ix_chunk_vectors_hnsw_{model_id}"


def index_ddl(model_id: int, dim: int, *, concurrently: bool = False) -> str:
    """Return the statement with which the owner creates the approximate index over a model's embeddings.

    The index compares inner products. For vectors of unit length they equal cosines, and they are the fastest to
    compute. The build uses more candidates than pgvector's default, so that a search misses less than one percent of
    the neighbors.
    """
    return (
        f"create index {'concurrently ' if concurrently else ''}if not exists {index_name(model_id)} "
        f"on chunk_vectors using hnsw "
        f"((embedding::halfvec({dim})) halfvec_ip_ops) with (m = 16, ef_construction = 100) "
        f"where model_id = {model_id}"
    )
