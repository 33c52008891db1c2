"""What an embedding model does, how it fails, and which one a name stands for."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from backend.errors import DocuTalkError, Unavailable

DEFAULT = "all-MiniLM-L6-v2"
"""The bundled model: English, offline, in process."""
MULTILINGUAL = "multilingual-e5-small"
"""The model of the extra `multilingual`: a hundred languages, offline, in process."""

Kind = Literal["passage", "query"]
"""What a text is: some models embed a question otherwise than what may answer it."""


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


def embedder(name: str, *, keys: dict[str, str], base_url: str | None, timeout_seconds: int) -> Embedder:
    """Return the model of a name: the bundled one, the extra's, or any that LiteLLM knows.

    Cheap: libraries and weights are loaded at the first use.

    Args:
        name: `all-MiniLM-L6-v2`, `multilingual-e5-small`, or a LiteLLM name such as `openai/text-embedding-3-small`.
            `@` and a number behind a LiteLLM name ask for so many dimensions: `openai/text-embedding-3-large@1024`.
        keys: API keys by the provider's LiteLLM prefix; LiteLLM finds those of others in the environment.
        base_url: Where an OpenAI-compatible server is, for models of OpenAI's provider.
        timeout_seconds: For one call of a remote model, and for all that is done about a query.
    """
    if name == DEFAULT:
        from backend.documents.embedding.models.bundled import BundledEmbedder

        return BundledEmbedder()
    if name == MULTILINGUAL:
        from backend.documents.embedding.models.multilingual import MultilingualEmbedder

        return MultilingualEmbedder()
    from backend.documents.embedding.models.remote import RemoteEmbedder

    return RemoteEmbedder(name, keys=keys, base_url=base_url, timeout_seconds=timeout_seconds)
