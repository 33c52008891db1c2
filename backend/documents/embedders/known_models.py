"""What is known of embedding models beforehand: dimensions, how much they read, and how they want to be asked."""

from typing import Any

from backend.documents.embedding import Kind

# By a part of the name; the first that fits counts. Dimensions as the model makes them, tokens as it reads them.
_MODELS: tuple[tuple[str, int, int], ...] = (
    ("text-embedding-3-small", 1536, 8191),
    ("text-embedding-3-large", 3072, 8191),
    ("text-embedding-ada-002", 1536, 8191),
    ("gemini-embedding", 3072, 2048),
    ("text-embedding-004", 768, 2048),
    ("text-embedding-005", 768, 2048),
    ("nomic-embed-text", 768, 2048),
    ("mxbai-embed-large", 1024, 512),
    ("all-minilm", 384, 256),
    ("bge-m3", 1024, 8192),
    ("voyage-3-lite", 512, 32_000),
    ("voyage-3", 1024, 32_000),
    ("mistral-embed", 1024, 8192),
    ("embed-english-v3", 1024, 512),
    ("embed-multilingual-v3", 1024, 512),
    ("embed-v4", 1536, 128_000),
)
TOKENS_OF_OTHERS = 512
"""What a model that is not well known surely reads."""

# Models that were trained with words before each text, by a part of the name: before a query, before a passage.
_PREFIXES: tuple[tuple[str, str, str], ...] = (
    ("e5-", "query: ", "passage: "),
    ("nomic-embed-text", "search_query: ", "search_document: "),
    ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
    ("embeddinggemma", "task: search result | query: ", "title: none | text: "),
)

# The cosine up to which texts have nothing to do with each other, by a part of the name, where it is far from the
# usual. Measured with questions and passages of XQuAD that do not belong together.
_UNRELATED: tuple[tuple[str, float], ...] = (("multilingual-e5-", 0.79),)
UNRELATED = 0.2
"""That of the bundled model; it stands for those of others, which were not measured."""

# Providers that take the kind as a parameter: its name, for a query, for a passage.
_TASKS: dict[str, tuple[str, str, str]] = {
    "gemini": ("task_type", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"),
    "vertex_ai": ("task_type", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"),
    "cohere": ("input_type", "search_query", "search_document"),
    "voyage": ("input_type", "query", "document"),
    "nvidia_nim": ("input_type", "query", "passage"),
}


def dimensions_of(model: str) -> int | None:
    """Return the length of a model's vectors, or None where that has to be learned."""
    return next((dim for part, dim, _ in _MODELS if part in model.lower()), None)


def tokens_of(model: str) -> int:
    """Return how many tokens of a text a model reads; for one that is not well known, what is safe."""
    return next((tokens for part, _, tokens in _MODELS if part in model.lower()), TOKENS_OF_OTHERS)


def prefixes_of(model: str) -> dict[Kind, str]:
    """Return the words that a model wants before a query and before a passage."""
    for part, query, passage in _PREFIXES:
        if part in model.lower():
            return {"query": query, "passage": passage}
    return {"query": "", "passage": ""}


def unrelated_of(model: str) -> float:
    """Return the cosine up to which, by a model, two texts have nothing to do with each other."""
    return next((cosine for part, cosine in _UNRELATED if part in model.lower()), UNRELATED)


def task_of(provider: str, model: str, kind: Kind) -> dict[str, Any]:
    """Return the parameter by which a provider is told what a text is, if it takes one."""
    if provider not in _TASKS or "gemini-embedding-2" in model:
        return {}
    name, query, passage = _TASKS[provider]
    return {name: query if kind == "query" else passage}
