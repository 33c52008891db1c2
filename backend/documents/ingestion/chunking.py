"""Cut pages into passages. Each passage is embedded, found and cited separately."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING

from backend.documents.embedding.embedder import Embedder, prefixed

if TYPE_CHECKING:
    from backend.documents.reading.reader import Page

MOST_CHARACTERS = 1_000
"""The most characters of a passage: two or three paragraphs. One embedding can still represent that much text."""
USUAL_CHARACTERS = 900
"""The most characters of one part of a long section. The parts have about equal lengths, so that no part is tiny."""
SHORT = 300
"""A section with fewer characters is joined to the next section, because a heading alone answers nothing."""
BLOCK = 16_000
"""The most characters passed to the splitter in one call. The splitter's time grows with the square of the length, and
it holds the interpreter's lock meanwhile."""
MOST_HEADING_CHARACTERS = 200
MOST_TITLE_CHARACTERS = 80
HEADINGS_SHARE = 4
"""The headings get at most a quarter of the tokens that the model reads. The passage gets the rest."""

OpenHeadings = list[tuple[int, str]]
"""Level and title of each heading above a place in the text, outermost heading first."""
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a page's text."""

    start: int
    end: int
    text: str
    """The page's text from start to end, exactly."""
    headings: str
    """The document's title and the headings that apply to the whole passage, at most 200 characters."""


def cut(page: "Page", *, title: str, path: OpenHeadings, embedder: Embedder) -> list[Passage]:
    """Return a page's passages, in order. Every character that is not blank is in exactly one passage.

    Passages end at the ends of sections, paragraphs or sentences where possible. Each passage fits into the model
    together with its headings, unless even a single character does not fit.

    Args:
        page: A page as the parser returned it.
        title: The document's title.
        path: The headings that apply at the page's start. The call changes the list to those that apply at its end.
        embedder: The model that counts tokens and sets the limit.

    Raises:
        EmbeddingRefused: The model cannot be loaded to count tokens.
    """
    headed = _Headings(page, path)
    named = cache(lambda above: _joined([title, *above], embedder))
    passages: list[Passage] = []
    for start, end in _spans(page):
        headings = named(headed.above(start, end))
        for place, text in _fitted(page.text[start:end], headings, embedder):
            # The splitter treats ASCII's separator characters as letters, so it does not strip them.
            begin = start + place + len(text) - len(text.lstrip())
            if bare := text.strip():
                passages.append(Passage(begin, begin + len(bare), bare, headings))
    headed.go_through()
    return passages


def follow(page: "Page", path: OpenHeadings) -> None:
    """Update `path` to the headings that apply at the page's end, as `cut` does. The page's text is not needed."""
    _Headings(page, path).go_through()


class _Headings:
    """Follows the headings of a page from its beginning to its end."""

    def __init__(self, page: "Page", path: OpenHeadings) -> None:
        self._coming = sorted(page.headings, key=lambda heading: heading.start, reverse=True)
        self._path = path

    def above(self, start: int, end: int) -> tuple[str, ...]:
        """Return the titles that apply to all of the text from `start` to `end`.

        Call this for one span after the other, in their order.
        """
        self._go_to(start)
        at_start = list(self._path)
        self._go_to(end - 1)
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(at_start, self._path, strict=False))
        return tuple(title for (_, title), _ in shared)

    def go_through(self) -> None:
        """Follow the headings to the end of the page."""
        while self._coming:
            self._go_to(self._coming[-1].start)

    def _go_to(self, place: int) -> None:
        while self._coming and self._coming[-1].start <= place:
            heading = self._coming.pop()
            while self._path and self._path[-1][0] >= heading.level:
                self._path.pop()
            self._path.append((heading.level, heading.title))


def _spans(page: "Page") -> Iterator[Span]:
    """Yield the spans of a page's passages, measured in characters, because counting tokens would cost far more."""
    from semantic_text_splitter import TextSplitter

    for section_start, section_end in _sections(page):
        for start, end in _blocks(page.text, section_start, section_end):
            parts = math.ceil((end - start) / USUAL_CHARACTERS)
            least = math.ceil((end - start) / parts)
            for place, text in TextSplitter((least, MOST_CHARACTERS)).chunk_indices(page.text[start:end]):
                yield start + place, start + place + len(text)


def _sections(page: "Page") -> Iterator[Span]:
    """Yield spans that cover the page. Each span after the first begins at a heading.

    Each span before the last has at least `SHORT` characters.
    """
    begin = 0
    for place in sorted(heading.start for heading in page.headings):
        if place - begin >= SHORT:
            yield begin, place
            begin = place
    if begin < len(page.text):
        yield begin, len(page.text)


def _blocks(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield spans that cover a section. Each span ends at an empty line, a line's end or a blank, if one is nearby."""
    while end - start > BLOCK:
        ends = (text.rfind(mark, start + BLOCK // 2, start + BLOCK) for mark in ("\n\n", "\n", " "))
        block_end = next((place + 1 for place in ends if place >= 0), start + BLOCK)
        yield start, block_end
        start = block_end
    yield start, end


def _fitted(text: str, headings: str, embedder: Embedder) -> Iterator[tuple[int, str]]:
    """Yield a passage with its place, or the passage's parts with their places if the whole has too many tokens."""
    tokens = embedder.count(prefixed(headings, text))
    if tokens <= embedder.max_tokens:
        yield 0, text
        return
    from semantic_text_splitter import TextSplitter

    taken = embedder.count(headings)
    parts = math.ceil((tokens - taken) / (embedder.max_tokens - taken))
    least = taken + math.ceil((tokens - taken) / parts)
    splitter = TextSplitter.from_callback(
        lambda part: embedder.count(prefixed(headings, part)), (min(least, embedder.max_tokens), embedder.max_tokens)
    )
    yield from splitter.chunk_indices(text)


def _joined(titles: list[str], embedder: Embedder) -> str:
    """Return titles in one line, shortened until they fit. Titles in the middle are dropped first."""
    parts = [" ".join(title.split())[:MOST_TITLE_CHARACTERS].rstrip() for title in titles]
    parts = [part for place, part in enumerate(parts) if part and part not in parts[:place]]
    while True:
        joined = " > ".join(parts)
        fits = embedder.count(joined) <= embedder.max_tokens // HEADINGS_SHARE
        if not parts or (fits and len(joined) <= MOST_HEADING_CHARACTERS):
            return joined
        if len(parts) > 2:
            del parts[1]
        else:
            parts = [half for part in parts if (half := part[: len(part) // 2].rstrip())]
