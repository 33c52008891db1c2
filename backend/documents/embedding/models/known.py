"""Facts about embedding models: their dimensions, how many tokens they read, and how their texts must be marked."""

from collections.abc import Mapping
from typing import Any

from backend.documents.embedding.embedder import Kind
from backend.documents.language import UNSURE

# Each entry has a part of a model's name, the model's dimensions, and the number of tokens it reads. The first entry
# whose part is in the name counts.
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
"""Tokens that any model can be assumed to read."""

# Models that were trained with words before each text. Each entry has a part of a model's name, the words before a
# query, and the words before a passage.
_PREFIXES: tuple[tuple[str, str, str], ...] = (
    ("e5-", "query: ", "passage: "),
    ("nomic-embed-text", "search_query: ", "search_document: "),
    ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
    ("embeddinggemma", "task: search result | query: ", "title: none | text: "),
)

UNRELATED = 0.2
"""The cosine up to which two texts are unrelated, for a model that was not measured."""

# The cosine up to which a passage is unrelated to a question, by a part of the model's name and the passage's language;
# `simple` stands for all other languages. Measured between questions and paragraphs of different articles of XQuAD.
#
# all-MiniLM-L6-v2: the 99th percentile. In a language that the model does not know, an answer is no nearer to its
# question than other texts are.
#
# multilingual-e5-small: the 95th percentile. All cosines of this model lie within .2 of each other, and one answer in
# twenty is below the 99th percentile.
#
# Catalan and the languages after it are not in XQuAD. Their figures are 95th percentiles from Tatoeba, with five
# sentences to a passage. In the nine languages that are in both collections, Tatoeba's 95th percentile is within .08 of
# XQuAD's 99th. Nepali is in neither collection and has Hindi's figure.
_UNRELATED: tuple[tuple[str, dict[str, float]], ...] = (
    (
        "all-minilm",
        {
            UNSURE: 0.27,
            "english": 0.27,
            "german": 0.39,
            "spanish": 0.52,
            "romanian": 0.56,
            "russian": 0.64,
            "turkish": 0.66,
            "arabic": 0.72,
            "hindi": 0.76,
            "greek": 0.80,
            "catalan": 0.51,
            "irish": 0.51,
            "french": 0.53,
            "basque": 0.57,
            "hungarian": 0.57,
            "italian": 0.57,
            "lithuanian": 0.58,
            "portuguese": 0.58,
            "swedish": 0.59,
            "dutch": 0.61,
            "finnish": 0.61,
            "indonesian": 0.65,
            "norwegian": 0.65,
            "danish": 0.67,
            "serbian": 0.72,
            "nepali": 0.76,
            "tamil": 0.80,
            "armenian": 0.86,
        },
    ),
    (
        "multilingual-e5-",
        {
            UNSURE: 0.79,
            "english": 0.77,
            "german": 0.79,
            "russian": 0.79,
            "arabic": 0.80,
            "greek": 0.80,
            "hindi": 0.80,
            "spanish": 0.80,
            "turkish": 0.81,
        },
    ),
)

# Providers with a parameter for the kind of text. Each entry has the parameter's name, its value for a query, and its
# value for a passage.
_TASKS: dict[str, tuple[str, str, str]] = {
    "gemini": ("task_type", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"),
    "vertex_ai": ("task_type", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"),
    "cohere": ("input_type", "search_query", "search_document"),
    "voyage": ("input_type", "query", "document"),
    "nvidia_nim": ("input_type", "query", "passage"),
}


def dimensions_of(model: str) -> int | None:
    """Return the length of a model's vectors, or None if it is not known."""
    return next((dim for part, dim, _ in _MODELS if part in model.lower()), None)


def tokens_of(model: str) -> int:
    """Return how many tokens of a text a model reads; a safe number for an unknown model."""
    return next((tokens for part, _, tokens in _MODELS if part in model.lower()), TOKENS_OF_OTHERS)


def prefixes_of(model: str) -> dict[Kind, str]:
    """Return the words that a model expects before a query and before a passage."""
    for part, query, passage in _PREFIXES:
        if part in model.lower():
            return {"query": query, "passage": passage}
    return {"query": "", "passage": ""}


def unrelated_of(model: str) -> Mapping[str, float]:
    """Return the cosine up to which a passage is unrelated to a question, by the passage's language."""
    return next((cosines for part, cosines in _UNRELATED if part in model.lower()), {UNSURE: UNRELATED})


def task_of(provider: str, model: str, kind: Kind) -> dict[str, Any]:
    """Return the parameter that tells a provider whether a text is a query or a passage, if it takes one."""
    if provider not in _TASKS or "gemini-embedding-2" in model:
        return {}
    name, query, passage = _TASKS[provider]
    return {name: query if kind == "query" else passage}
