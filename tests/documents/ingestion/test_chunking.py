"""Pages are cut into passages."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.documents.embedding.choose import embedder
from backend.documents.embedding.embedder import DEFAULT, Embedder, prefixed
from backend.documents.ingestion.chunking import OpenHeadings, Passage, cut
from backend.documents.reading.parsing.pages import Heading, Page

BUNDLED = embedder(DEFAULT, keys={}, base_url=None, timeout_seconds=10)
REMOTE = embedder("openai/text-embedding-3-small", keys={}, base_url=None, timeout_seconds=10)
PROSE = (
    "The committee met on Tuesday to discuss the budget. It heard from three engineers, who explained why the bridge "
    "would cost more than had been planned. Nobody was content with the answer.\n\n"
)


def passages_of(
    text: str,
    *headings: tuple[int, int, str],
    title: str = "Report",
    path: OpenHeadings | None = None,
    model: Embedder = BUNDLED,
) -> list[Passage]:
    page = Page(number=1, text=text, headings=tuple(Heading(*heading) for heading in headings))
    passages = cut(page, title=title, path=[] if path is None else path, embedder=model)
    assert_cover(text, passages)
    return passages


def assert_cover(text: str, passages: list[Passage]) -> None:
    """Check that passages are spans of the text, in order and without blanks around, and that they leave out none."""
    seen = 0
    for passage in passages:
        assert text[passage.start : passage.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert text[seen : passage.start].strip() == ""
        seen = passage.end
    assert text[seen:].strip() == ""


def with_headings(*parts: tuple[int, str, str], before: str = "") -> tuple[str, list[tuple[int, int, str]]]:
    """Return a page's text of (level, title, body), and its headings."""
    text, headings = before, []
    for level, title, body in parts:
        headings.append((len(text), level, title))
        text += f"{title}\n\n{body}\n\n"
    return text, headings


@pytest.mark.spec("EMB-1", "EMB-2")
@given(
    st.text(
        st.sampled_from(["a", "Z", "é", "漢", "🎉", "\u0301", "ש", " ", "\t", "\n", ".", "\u00a0", "\u2028"]),
        max_size=3_000,
    )
    | st.text(max_size=500),
    st.lists(st.tuples(st.integers(0, 3_100), st.integers(1, 9), st.text(max_size=50)), max_size=5),
)
def test_any_page_is_cut_without_loss(text: str, headings: list[tuple[int, int, str]]) -> None:
    for passage in passages_of(text, *headings):
        assert len(passage.text) <= 1_000
        assert BUNDLED.count(prefixed(passage.headings, passage.text)) <= 256


@pytest.mark.spec("EMB-1")
@pytest.mark.parametrize("text", ["", " \n\t ", "\n" * 10_000, "\u3000\u00a0\u2028", "\x1f", "\x1c \x1d"])
def test_a_blank_page_has_no_passages(text: str) -> None:
    assert passages_of(text) == []


@pytest.mark.spec("EMB-2")
@pytest.mark.parametrize(
    "text",
    [PROSE * 30, "漢字仮名交じり文。" * 300, "שלום עולם " * 300, "x1!" * 1_000, "สวัสดีชาวโลก" * 200],
    ids=range(5),
)
@pytest.mark.parametrize("model", [BUNDLED, REMOTE], ids=["bundled", "remote"])
def test_passages_fit_the_model_with_their_headings(text: str, model: Embedder) -> None:
    path = [(level, "A heading of several words") for level in range(1, 7)]
    passages = passages_of(text, path=path, model=model)

    assert len(passages) > 2
    for passage in passages:
        assert model.count(prefixed(passage.headings, passage.text)) <= model.max_tokens
        assert len(passage.text) <= 1_000
    assert min(len(passage.text) for passage in passages) > 40


@pytest.mark.spec("EMB-3")
def test_headings_stay_open_until_one_of_their_level_comes() -> None:
    path: OpenHeadings = []
    text, headings = with_headings(
        (1, "Bridges", PROSE * 3), (2, "Cost", PROSE * 3), (3, "Steel", PROSE * 3), (2, "Time", PROSE * 3)
    )
    first = passages_of(text, *headings, path=path)
    assert path == [(1, "Bridges"), (2, "Time")]

    text, headings = with_headings((2, "Risks", PROSE * 3), (1, "Roads", PROSE * 3), before=PROSE * 3)
    second = passages_of(text, *headings, path=path)
    assert path == [(1, "Roads")]

    assert [passage.headings for passage in first] == [
        "Report > Bridges",
        "Report > Bridges > Cost",
        "Report > Bridges > Cost > Steel",
        "Report > Bridges > Time",
    ]
    assert [passage.headings for passage in second] == [
        "Report > Bridges > Time",
        "Report > Bridges > Risks",
        "Report > Roads",
    ]


@pytest.mark.spec("EMB-3", "EMB-4")
def test_short_sections_are_joined_under_what_they_share() -> None:
    text, headings = with_headings((1, "Prices", ""), (2, "Tea", "Two euros."), (2, "Coffee", "Three euros."))

    [passage] = passages_of(text, *headings)

    assert passage.text == "Prices\n\n\n\nTea\n\nTwo euros.\n\nCoffee\n\nThree euros."
    assert passage.headings == "Report > Prices"


@pytest.mark.spec("EMB-4")
def test_passages_end_where_paragraphs_and_sentences_do() -> None:
    for passage in passages_of(PROSE * 40):
        assert passage.text.endswith("Nobody was content with the answer.")
    for passage in passages_of(PROSE.replace("\n", " ") * 40):
        assert passage.text.endswith(".")


@pytest.mark.spec("EMB-4")
def test_a_section_that_is_a_little_too_long_leaves_no_scrap() -> None:
    one, other = passages_of("Some words stand here. " * 47)

    assert min(len(one.text), len(other.text)) > 400


@pytest.mark.spec("EMB-5")
@pytest.mark.parametrize("title", ["", "x" * 5_000, "漢" * 5_000, "a\nb\t c", "🎉" * 300, "Report"])
def test_titles_are_shortened_and_leave_room(title: str) -> None:
    path = [(level, f"{title} {level}") for level in range(1, 9)]

    for passage in passages_of(PROSE * 4, title=title, path=path):
        assert len(passage.headings) <= 200
        assert BUNDLED.count(passage.headings) <= 64
        assert passage.headings == " ".join(passage.headings.split())
        assert prefixed(passage.headings, passage.text).endswith(passage.text)
        assert not passage.headings or passage.headings[0] == (title.strip() or "1")[0]


@pytest.mark.spec("EMB-5")
def test_without_title_and_headings_the_text_stands_alone() -> None:
    [passage] = passages_of("Two words.", title=" ")

    assert passage == Passage(0, 10, "Two words.", "")
    assert prefixed("", "Two words.") == "Two words."


@pytest.mark.spec("EMB-6")
@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, " " * 1_000_000, "👩‍👩‍👧" * 40_000, "a" + "\u0301" * 200_000, "שלום עולם " * 5_000, "a\n" * 20_000],
    ids=["word", "blanks", "emoji", "marks", "rtl", "lines"],
)
def test_hostile_pages_are_cut_in_bounded_time(text: str) -> None:
    began = time.process_time()

    passages_of(text)

    assert time.process_time() - began < 4


@pytest.mark.spec("EMB-6")
def test_headings_without_end_are_cut_in_bounded_time() -> None:
    headings = [(place * 20, place % 9 + 1, f"heading {place} " * 20) for place in range(5_000)]
    began = time.process_time()

    assert len(passages_of("a heading and words " * 5_000, *headings)) < 500

    assert time.process_time() - began < 4


@pytest.mark.spec("EMB-7")
def test_cutting_costs_little_beside_embedding() -> None:
    BUNDLED.embed([PROSE], "passage")
    began = time.thread_time()
    passages = passages_of(PROSE * 60, path=[(1, "Bridges")])
    cutting = (time.thread_time() - began) / len(passages)

    texts = [prefixed(passage.headings, passage.text) for passage in passages[:5]]
    began = time.thread_time()
    BUNDLED.embed(texts, "passage")
    embedding = (time.thread_time() - began) / len(texts)

    assert cutting < embedding / 10
