"""Texts become vectors, by providers' models over real HTTP."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.documents.embedding.choose import embedder
from backend.documents.embedding.embedder import DEFAULT, MULTILINGUAL, Embedder, EmbeddingFailed, EmbeddingRefused
from backend.documents.embedding.models.known import task_of
from backend.documents.language import CONFIGURATIONS, UNSURE
from backend.errors import Unavailable
from tests.documents.embedding_server import EmbeddingServer, Refusal, Silence, answers, embedding_server, first

OPENAI = "openai/text-embedding-3-small"
OPENAI_KEY = "key of openai"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    """The provider's server; LiteLLM is loaded here, so that no test's time includes it."""
    with embedding_server(answers(1536)) as running:
        remote(running).embed(["load"], "query")
        yield running


@pytest.fixture
def provider(server: EmbeddingServer) -> Callable[..., EmbeddingServer]:
    """Makes the provider follow a script, and forgets earlier requests."""

    def follow(script: Any) -> EmbeddingServer:
        server.script = script
        for told in (server.requests, server.keys, server.paths):
            told.clear()
        return server

    return follow


def remote(server: EmbeddingServer, name: str = OPENAI, *, timeout_seconds: int = 10) -> Embedder:
    keys = {"openai": OPENAI_KEY, "gemini": "key of gemini"}
    return embedder(name, keys=keys, base_url=server.url, timeout_seconds=timeout_seconds)


def assert_unit(vectors: list[list[float]], dim: int) -> None:
    for vector in vectors:
        assert len(vector) == dim
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.spec("EMB-20")
def test_openai_embeds_in_the_order_of_the_texts(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(answers(1536))
    model = remote(server)

    vectors = model.embed(["one", "and two", "three in all"], "passage")

    assert_unit(vectors, 1536)
    assert vectors == [model.embed([text], "query")[0] for text in ("one", "and two", "three in all")]
    assert model.dim == 1536
    assert server.requests[0]["model"] == "text-embedding-3-small"
    assert server.requests[0]["input"] == ["one", "and two", "three in all"]
    assert "dimensions" not in server.requests[0]
    assert set(server.keys) == {f"Bearer {OPENAI_KEY}"}
    assert model.embed([], "passage") == []


@pytest.mark.spec("EMB-20")
@pytest.mark.parametrize("model", ["openai/text-embedding-3-large", "openai/my-own"])
def test_a_name_may_ask_for_dimensions(provider: Callable[..., EmbeddingServer], model: str) -> None:
    server = provider(lambda request: answers(request["dimensions"])(request))

    asked = remote(server, f"{model}@1024")

    assert asked.id == f"{model}@1024"
    assert asked.dim == 1024
    assert server.requests == []
    assert_unit(asked.embed(["text"], "passage"), 1024)
    assert remote(server, "openai/text-embedding-3-large").dim == 3072


@pytest.mark.spec("EMB-21")
def test_unknown_dimensions_are_learned_by_one_call(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(answers(77))
    model = remote(server, "openai/my-own")

    assert (model.dim, model.dim) == (77, 77)

    assert len(server.requests) == 1


@pytest.mark.spec("EMB-22")
def test_batches_are_bounded_and_long_texts_are_cut(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(answers(8))
    texts = ["x"] * 150 + ["語" * 400] * 150 + ["y" * 1_000_000]

    vectors = remote(server, "openai/my-own").embed(texts, "passage")

    sent = [request["input"] for request in server.requests]
    assert len(vectors) == len(texts)
    assert max(map(len, sent)) == 100
    assert all(sum(len(text.encode()) for text in batch) <= 60_000 for batch in sent)
    assert max(len(text) for batch in sent for text in batch) < 512 * 3


@pytest.mark.spec("EMB-23")
def test_a_limit_is_waited_for_as_long_as_the_provider_says(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(first(Refusal(429, {"Retry-After": "1"}), then=answers(1536)))
    began = time.monotonic()

    vectors = remote(server).embed(["text"], "passage")

    assert_unit(vectors, 1536)
    assert len(server.requests) == 2
    assert time.monotonic() - began >= 1


@pytest.mark.spec("EMB-23")
@pytest.mark.parametrize("status", [408, 500, 503, 529])
def test_a_failing_provider_is_asked_again(provider: Callable[..., EmbeddingServer], status: int) -> None:
    server = provider(first(Refusal(status), then=answers(1536)))

    assert_unit(remote(server).embed(["text"], "passage"), 1536)

    assert len(server.requests) == 2


@pytest.mark.spec("EMB-23")
def test_a_query_gives_up_in_time(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(first(then=lambda _: Silence(90)))
    began = time.monotonic()

    with pytest.raises(EmbeddingFailed, match="does not answer right now") as caught:
        remote(server, timeout_seconds=1).embed(["text"], "query")

    assert time.monotonic() - began < 45
    assert isinstance(caught.value, Unavailable)
    assert caught.value.retry_after


@pytest.mark.spec("EMB-23")
def test_a_provider_that_wants_hours_is_not_waited_for(provider: Callable[..., EmbeddingServer]) -> None:
    server = provider(lambda _: Refusal(429, {"Retry-After": "1800"}))

    with pytest.raises(EmbeddingFailed) as caught:
        remote(server).embed(["text"], "passage")

    assert caught.value.retry_after == 1800
    assert len(server.requests) == 1


@pytest.mark.spec("EMB-23")
def test_nobody_at_the_address_is_a_failure_and_no_crash() -> None:
    model = embedder(OPENAI, keys={}, base_url="http://127.0.0.1:9/v1", timeout_seconds=1)

    with pytest.raises(EmbeddingFailed):
        model.embed(["text"], "query")


@pytest.mark.spec("EMB-24")
@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (400, "EMBEDDING_MODEL"), (404, "EMBEDDING_MODEL")],
)
def test_a_refusal_is_not_tried_again_and_names_the_setting(
    provider: Callable[..., EmbeddingServer], status: int, words: str
) -> None:
    server = provider(lambda _: Refusal(status))

    with pytest.raises(EmbeddingRefused, match=words) as caught:
        remote(server).embed(["text"], "passage")

    assert len(server.requests) == 1
    assert "sk-secret" not in str(caught.value)


@pytest.mark.spec("EMB-24")
@pytest.mark.parametrize("name", ["nobody/knows-this", "neither", "@12", "a/b/c@0", "\n"])
def test_a_name_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(EmbeddingRefused, match=r"EMBEDDING_MODEL"):
        embedder(name, keys={}, base_url=None, timeout_seconds=5).embed(["text"], "query")


@pytest.mark.spec("EMB-25")
@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1.0]],
        [[1.0, 0.0], [1.0]],
        [[0.0, 0.0]] * 2,
        [[math.nan, 1.0]] * 2,
        [[math.inf, 1.0]] * 2,
        [[1.0, 0.0]] * 3,
    ],
)
def test_an_answer_that_does_not_fit_is_not_used(
    provider: Callable[..., EmbeddingServer], vectors: list[list[float]]
) -> None:
    server = provider(lambda _: vectors)

    with pytest.raises(EmbeddingFailed, match="unusable answer"):
        remote(server, "openai/my-own").embed(["one", "two"], "passage")


@pytest.mark.spec("EMB-25")
def test_other_dimensions_than_before_are_not_used(provider: Callable[..., EmbeddingServer]) -> None:
    model = remote(provider(answers(8)), "openai/my-own")
    model.embed(["text"], "passage")
    provider(answers(9))

    for asked in (model, remote(provider(answers(9)))):
        with pytest.raises(EmbeddingFailed, match="9 dimensions instead of"):
            asked.embed(["text"], "passage")


@pytest.mark.spec("EMB-26")
@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("openai/my-e5-large", "query: text", "passage: text"),
        ("ollama/nomic-embed-text", "search_query: text", "search_document: text"),
        (OPENAI, "text", "text"),
    ],
)
def test_models_with_prefixes_get_them(
    provider: Callable[..., EmbeddingServer], monkeypatch: pytest.MonkeyPatch, name: str, query: str, passage: str
) -> None:
    server = provider(lambda request: answers(768 if "nomic" in request["model"] else 1536)(request))
    monkeypatch.setenv("OLLAMA_API_BASE", server.root)

    remote(server, name).embed(["text"], "query")
    remote(server, name).embed(["text"], "passage")

    assert [request["input"] for request in server.requests] == [[query], [passage]]


@pytest.mark.spec("EMB-26")
@pytest.mark.parametrize(
    ("provider_name", "model", "sent"),
    [
        ("gemini", "gemini-embedding-001", {"task_type": "RETRIEVAL_QUERY"}),
        ("cohere", "embed-v4.0", {"input_type": "search_query"}),
        ("voyage", "voyage-3.5", {"input_type": "query"}),
    ],
)
def test_litellm_takes_what_a_provider_is_told(provider_name: str, model: str, sent: dict[str, str]) -> None:
    from litellm.utils import get_optional_params_embeddings

    told = get_optional_params_embeddings(
        model=model, custom_llm_provider=provider_name, **task_of(provider_name, model, "query")
    )

    assert told == sent
    assert task_of(provider_name, model, "passage") not in ({}, sent)
    assert task_of("openai", "text-embedding-3-small", "query") == {}


@pytest.mark.spec("EMB-27")
@pytest.mark.parametrize(
    "text", ["files/abc", "gs://bucket/file.pdf", "data:image/png;base64,AAAA", "https://x.test/a"]
)
def test_what_looks_like_a_file_is_text(provider: Callable[..., EmbeddingServer], text: str) -> None:
    from litellm.llms.vertex_ai.gemini_embeddings.batch_embed_content_transformation import _is_multimodal_input

    server = provider(answers(1536))

    remote(server).embed([text], "query")

    [sent] = server.requests[0]["input"]
    assert sent == f"Text: {text}"
    assert not _is_multimodal_input([sent])


@pytest.mark.spec("EMB-28")
def test_ollama_is_asked_at_its_own_address_without_a_key(
    provider: Callable[..., EmbeddingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = provider(answers(1024))
    monkeypatch.setenv("OLLAMA_API_BASE", f"{server.root}/")
    model = embedder(
        "ollama/mxbai-embed-large:335m",
        keys={"openai": OPENAI_KEY},
        base_url="http://127.0.0.1:9/v1",
        timeout_seconds=9,
    )

    assert_unit(model.embed(["text"], "passage"), 1024)

    assert server.paths == ["/v1/embeddings"]
    assert server.requests[0]["model"] == "mxbai-embed-large:335m"
    assert OPENAI_KEY not in server.keys[0]


@pytest.mark.spec("EMB-29")
def test_vectors_that_the_database_cannot_index_are_refused(provider: Callable[..., EmbeddingServer]) -> None:
    model = remote(provider(answers(4096)), "openai/my-own")

    with pytest.raises(EmbeddingRefused, match="4,000 dimensions"):
        assert model.dim


@pytest.mark.spec("EMB-30")
@pytest.mark.parametrize(
    ("name", "language", "unrelated"),
    [
        (DEFAULT, "english", 0.27),
        (DEFAULT, "greek", 0.8),
        (DEFAULT, UNSURE, 0.27),
        (MULTILINGUAL, UNSURE, 0.79),
        ("ollama/all-minilm", "german", 0.39),
        ("ollama/jeffh/intfloat-multilingual-e5-large", "turkish", 0.81),
        ("openai/text-embedding-3-small", UNSURE, 0.2),
    ],
)
def test_a_model_says_how_near_unrelated_texts_are_in_a_language(name: str, language: str, unrelated: float) -> None:
    model = embedder(name, keys={}, base_url=None, timeout_seconds=1)

    assert model.unrelated[language] == unrelated
    assert set(model.unrelated) <= {UNSURE, *CONFIGURATIONS.values()}
