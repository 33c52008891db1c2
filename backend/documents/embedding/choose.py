"""Choose the embedding model for a name."""

from backend.documents.embedding.embedder import DEFAULT, MULTILINGUAL, Embedder


def embedder(name: str, *, keys: dict[str, str], base_url: str | None, timeout_seconds: int) -> Embedder:
    """Return the named model: the bundled model, the model of the extra `multilingual`, or any that LiteLLM knows.

    The call is cheap: libraries and weights are loaded at first use.

    Args:
        name: `all-MiniLM-L6-v2`, `multilingual-e5-small`, or a LiteLLM name such as `openai/text-embedding-3-small`.
            `@` and a number after a LiteLLM name set the number of dimensions: `openai/text-embedding-3-large@1024`.
        keys: API keys by LiteLLM's provider prefix. LiteLLM finds the keys of other providers in the environment.
        base_url: URL of an OpenAI-compatible server, for models of the provider `openai`.
        timeout_seconds: The most seconds for one call of a remote model, and for all calls for one query together.
    """
    if name == DEFAULT:
        from backend.documents.embedding.models.bundled import BundledEmbedder

        return BundledEmbedder()
    if name == MULTILINGUAL:
        from backend.documents.embedding.models.multilingual import MultilingualEmbedder

        return MultilingualEmbedder()
    from backend.documents.embedding.models.remote import RemoteEmbedder

    return RemoteEmbedder(name, keys=keys, base_url=base_url, timeout_seconds=timeout_seconds)
