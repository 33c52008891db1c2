"""What an embedding model does, how it fails, and what it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from backend.errors import DocuTalkError, Unavailable

DEFAULT = "all-MiniLM-L6-v2"
"""The bundled model: English, offline, in process."""
MULTILINGUAL = "multilingual-e5-small"
"""The model of the extra `multilingual`: a hundred languages, offline, in process."""

Kind = Literal["passage", "query"]
"""What a text is: some models embed a question otherwise than what may answer it."""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A question's embedding, of unit length."""

    model_id: int
    values: list[float]
    unrelated: Mapping[str, float]
    """The cosine up to which a passage has nothing to do with a question, by the language of the passage's document;
    `simple` stands for all that are not listed."""


class EmbeddingFailed(Unavailable):
    """The model or its provider does not answer, or answers what nobody can use; trying again later makes sense."""

    code = "embedding_failed"


class EmbeddingRefused(DocuTalkError):
    """The model cannot be used as it is set up; the sentence names the setting, and trying again does not help."""

    status = 502
    code = "embedding_refused"


class Embedder(Protocol):
    """An embedding model. Threads may share one; what it needs is loaded at its first use."""

    @property
    def id(self) -> str:
        """The name in EMBEDDING_MODEL, under which vectors are kept."""

    @property
    def dim(self) -> int:
        """The length of a vector; of a remote model that is not well known it is learned by one call.

        Raises:
            EmbeddingFailed: It has to be learned and the provider does not answer.
            EmbeddingRefused: It has to be learned and the provider refuses.
        """

    @property
    def max_tokens(self) -> int:
        """How many tokens of one text count; what is longer is cut."""

    @property
    def unrelated(self) -> Mapping[str, float]:
        """The cosine up to which a passage has nothing to do with a question, by the passage's language.

        `simple` stands for languages that are not listed.
        """

    @property
    def at_once(self) -> int:
        """How many texts a call should have that must not take long: one, where each is worked out on this core."""

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Return a vector of length 1 for each text, in their order; blocks, without the interpreter's lock.

        Raises:
            EmbeddingFailed: There is no usable answer now.
            EmbeddingRefused: There will be none until a setting is changed.
        """

    def count(self, text: str) -> int:
        """Return how many tokens a text has, those that the model adds included; an estimate for remote models."""


def prefixed(headings: str, text: str) -> str:
    """Return what is embedded and indexed of a passage: it under its headings."""
    return f"{headings}\n\n{text}" if headings else text
