"""Any embedding model that LiteLLM can call."""

import math
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from backend.documents.embedding.embedder import EmbeddingFailed, EmbeddingRefused, Kind
from backend.documents.embedding.models.known import dimensions_of, prefixes_of, task_of, tokens_of, unrelated_of
from backend.plain_text import storable
from backend.retry_after import asked_to_wait

log = structlog.get_logger()

MOST_TEXTS = 100
"""Texts in one call."""
MOST_TOKENS = 20_000
"""Estimated tokens in one call. Google's limit is the lowest."""
ATTEMPTS = {"passage": 5, "query": 3}
"""Attempts for one call. A query gets fewer attempts, because somebody is waiting for the answer."""
LONGEST_WAIT = 60.0
"""The longest time in seconds to wait before a retry. If a provider asks for more, the call fails."""
MOST_DIMENSIONS = 4_000
"""The most dimensions that a database page, and an index, can hold."""
BYTES_PER_TOKEN = 3
"""The UTF-8 bytes that the estimate counts as one token. English has four or five bytes per token and Chinese three or
fewer, so estimates tend to be high."""

_NAME = re.compile(r"(?P<model>.+?)(?:@(?P<dimensions>[1-9]\d{1,3}))?")
_REFERENCE = re.compile(r"\s*(?:data:|files/|gs://|s3://|https?://)", re.IGNORECASE)


class RemoteEmbedder:
    """A provider's model, called over the network, with our own retries instead of LiteLLM's."""

    def __init__(self, name: str, *, keys: dict[str, str], base_url: str | None, timeout_seconds: int) -> None:
        parts = _NAME.fullmatch(name)
        self.id = name
        self._model = parts["model"] if parts else name
        self._dimensions = int(parts["dimensions"]) if parts and parts["dimensions"] else None
        self.max_tokens = tokens_of(self._model)
        self.unrelated = unrelated_of(self._model)
        self.at_once = MOST_TEXTS
        self._dim = self._dimensions or dimensions_of(self._model)
        self._keys = keys
        self._base_url = base_url
        self._timeout = timeout_seconds
        self._litellm: Any = None
        self._provider = ""
        self._route: dict[str, Any] = {}
        self._loading = threading.Lock()

    @property
    def dim(self) -> int:
        """The length of a vector. For an unknown model, one call finds the length.

        Raises:
            EmbeddingFailed: The provider does not answer.
            EmbeddingRefused: The provider refuses, or the vectors are too long for the database.
        """
        if self._dim is None:
            self.embed(["How long is a vector?"], "query")
        if self._dim is None or self._dim > MOST_DIMENSIONS:
            raise EmbeddingRefused(
                f"The embedding model {self.id} makes vectors of more than {MOST_DIMENSIONS:,} dimensions, which the "
                f"database cannot index. Use another EMBEDDING_MODEL, or fewer dimensions: {self._model}@1024."
            )
        return self._dim

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Return a vector of length 1 for each text, in as few calls as the limits allow, one after the other.

        Raises:
            EmbeddingFailed: The provider does not answer after several attempts, or its answer is malformed.
            EmbeddingRefused: The provider refuses the request.
        """
        self._load()
        deadline = time.monotonic() + self._timeout if kind == "query" else math.inf
        prefix = prefixes_of(self._model)[kind]
        vectors: list[list[float]] = []
        for batch in self._batches([self._sent(text, prefix) for text in texts]):
            vectors += self._checked(self._asked(batch, kind, deadline), wanted=len(batch))
        return vectors

    def count(self, text: str) -> int:
        """Estimate a text's tokens from its UTF-8 bytes, three to a token."""
        return len(storable(text).encode()) // BYTES_PER_TOKEN + 1

    def _sent(self, text: str, prefix: str) -> str:
        cut = storable(text).encode()[: (self.max_tokens - 1) * BYTES_PER_TOKEN - len(prefix)].decode(errors="ignore")
        # LiteLLM treats text that looks like a file's address as a file to fetch, and would use our API key for it. The
        # text comes from a person and must stay text.
        return prefix + (f"Text: {cut}" if not prefix and _REFERENCE.match(cut) else cut)

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        tokens = 0
        for text in texts:
            more = self.count(text)
            if batch and (len(batch) == MOST_TEXTS or tokens + more > MOST_TOKENS):
                yield batch
                batch, tokens = [], 0
            batch.append(text)
            tokens += more
        if batch:
            yield batch

    def _asked(self, texts: list[str], kind: Kind, deadline: float) -> Any:
        import openai

        for attempt in range(1, ATTEMPTS[kind] + 1):
            left = deadline - time.monotonic()
            try:
                return self._litellm.embedding(
                    input=texts,
                    timeout=max(min(self._timeout, left), 0.1),
                    **self._route,
                    **task_of(self._provider, self._model, kind),
                )
            except (openai.OpenAIError, TimeoutError) as error:
                failure = self._failure(error)
                asked = asked_to_wait(error)
                log.warning("embedding_failed", code=failure.code, attempt=attempt, error=type(error).__name__)
                # With jitter, so that calls which failed together are not retried together.
                wait = asked if asked is not None else 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                is_last = attempt == ATTEMPTS[kind] or wait > LONGEST_WAIT or time.monotonic() + wait > deadline
                if isinstance(failure, EmbeddingRefused) or is_last:
                    raise failure from error
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _checked(self, response: Any, *, wanted: int) -> list[list[float]]:
        """Return the answer's vectors in the order of the texts, each of length 1."""
        try:
            rows = sorted(((row["index"], row["embedding"]) for row in response.data), key=lambda row: row[0])
            vectors = [[float(value) for value in values] for _, values in rows]
        except (KeyError, TypeError, ValueError):
            vectors, rows = [], []
        lengths = [math.hypot(*vector) for vector in vectors]
        dims = {len(vector) for vector in vectors}
        is_whole = [place for place, _ in rows] == list(range(wanted)) and len(dims) == 1
        if not is_whole or not all(0 < length < math.inf for length in lengths):
            raise EmbeddingFailed(
                f"The provider of the embedding model {self.id} gave an unusable answer.", retry_after=60
            )
        if dims != {self._dim or len(vectors[0])}:
            raise EmbeddingFailed(
                f"The embedding model {self.id} makes vectors of {len(vectors[0])} dimensions instead of {self._dim}. "
                "Ask the administrator to check EMBEDDING_MODEL and what the provider serves under this name.",
                retry_after=60,
            )
        self._dim = len(vectors[0])
        return [[value / length for value in vector] for vector, length in zip(vectors, lengths, strict=True)]

    def _failure(self, error: Exception) -> EmbeddingFailed | EmbeddingRefused:
        """Convert a provider's error into ours. The provider's text is never shown, because it may quote the key."""
        status = getattr(error, "status_code", None) or 503
        if status in (401, 403):
            return EmbeddingRefused(
                f"The provider of the embedding model {self.id} rejected the API key. Ask the administrator to "
                f"check {self._provider.upper()}_API_KEY, or to set EMBEDDING_MODEL to another model."
            )
        if status in (408, 409, 429) or status >= 500:
            return EmbeddingFailed(
                f"The provider of the embedding model {self.id} does not answer right now. Try again soon.",
                retry_after=math.ceil(asked_to_wait(error) or 10),
            )
        return EmbeddingRefused(
            f"The provider of the embedding model {self.id} refused the request (HTTP {status}). Ask the "
            "administrator to check EMBEDDING_MODEL and the provider's settings."
        )

    def _load(self) -> None:
        """Import LiteLLM and find the model's provider. The import takes seconds."""
        with self._loading:
            if self._litellm is not None:
                return
            # Set before the import, or LiteLLM fetches a price map from the network.
            os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

            import litellm
            import openai

            litellm.suppress_debug_info = True
            litellm.telemetry = False
            # LiteLLM ignores a call's own "no retries" parameter, but follows this default.
            litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]  # Read there, declared nowhere.
            try:
                model, self._provider, *_ = litellm.get_llm_provider(self._model)
            except openai.BadRequestError:
                raise EmbeddingRefused(
                    f"The embedding model {self.id} is unknown. Set EMBEDDING_MODEL to all-MiniLM-L6-v2, which is "
                    "bundled, or to a name with its provider, such as openai/text-embedding-3-small."
                ) from None
            self._route = self._routed(model)
            self._litellm = litellm

    def _routed(self, model: str) -> dict[str, Any]:
        key = self._keys.get(self._provider)
        route: dict[str, Any] = {"model": self._model, "api_key": key}
        if self._dimensions is not None:
            route |= {"dimensions": self._dimensions, "allowed_openai_params": ["dimensions"]}
        base_url = self._base_url if self._provider == "openai" else None
        if self._provider == "ollama":
            # Ollama also has an OpenAI-compatible API. LiteLLM's own client for Ollama ignores timeouts.
            base_url = f"{os.environ.get('OLLAMA_API_BASE', 'http://127.0.0.1:11434').rstrip('/')}/v1"
            route["model"] = f"openai/{model}"
        if self._provider in ("openai", "ollama"):
            # OpenAI's client does not start without a key. With the key "none", the provider reports that the key is
            # wrong.
            route |= {"api_key": key or "none", "api_base": base_url, "encoding_format": "float"}
        return route
