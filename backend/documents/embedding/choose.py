"""Which embedding model a name stands for."""

from backend.documents.embedding.embedder import DEFAULT, MULTILINGUAL, Embedder


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
