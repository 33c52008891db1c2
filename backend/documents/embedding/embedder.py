"""The interface of an embedding model, its errors and its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from backend.errors import DocuTalkError, Unavailable

DEFAULT = "all-MiniLM-L6-v2"
"""The bundled model: English, offline, in process."""
MULTILINGUAL = "multilingual-e5-small"
"""The model of the extra `multilingual`: a hundred languages, offline, in process."""

Kind = Literal["passage", "query"]
"""What a text is used for; some models embed a question differently from a passage."""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A question's embedding, of unit length."""

    model_id: int
    values: list[float]
    unrelated: Mapping[str, float]
    """The cosine up to which a passage is unrelated to a question, by the language of the passage's document. `simple`
    stands for all languages that are not listed."""


class EmbeddingFailed(Unavailable):
    """The model or its provider does not answer, or the answer is unusable. Retrying later may help."""

    code = "embedding_failed"


class EmbeddingRefused(DocuTalkError):
    """The model cannot be used as it is configured. The message names the setting to change; retrying does not help."""

    status = 502
    code = "embedding_refused"


class Embedder(Protocol):
    """An embedding model, which threads may share. It loads its files and libraries at first use."""

    @property
    def id(self) -> str:
        """The model's name in EMBEDDING_MODEL, which is stored with its vectors."""

    @property
    def dim(self) -> int:
        """The length of a vector. For an unknown remote model, one call to the provider finds the length.

        Raises:
            EmbeddingFailed: A call is needed and the provider does not answer.
            EmbeddingRefused: A call is needed and the provider refuses it.
        """

    @property
    def max_tokens(self) -> int:
        """The number of tokens that the model reads from a text; the rest of the text is ignored."""

    @property
    def unrelated(self) -> Mapping[str, float]:
        """The cosine up to which a passage is unrelated to a question, by the passage's language.

        `simple` stands for all languages that are not listed.
        """

    @property
    def at_once(self) -> int:
        """The best number of texts for a call that must return quickly; 1 for a model that runs in this process."""

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Return a vector of length 1 for each text, in order. Blocks, without holding the interpreter's lock.

        Raises:
            EmbeddingFailed: The model gives no usable answer now.
            EmbeddingRefused: The model gives no answer until a setting is changed.
        """

    def count(self, text: str) -> int:
        """Count a text's tokens, including the tokens that the model adds. For remote models this is an estimate."""


def prefixed(headings: str, text: str) -> str:
    """Return a passage's headings followed by its text. This combination is embedded and indexed."""
    return f"{headings}\n\n{text}" if headings else text
