"""The approximate index of a model's embeddings: when it pays, and how its owner makes it."""

EXACT_UP_TO = 10_000
"""Up to so many passages every embedding is compared, at about half a millisecond for a thousand."""


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
