"""Pages are cut into passages, which are embedded, found and cited one by one."""

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
"""Characters of a passage: two or three paragraphs, which one embedding can still stand for."""
USUAL_CHARACTERS = 900
"""Long sections are cut into so many parts that each has about as many or fewer, so that no scrap is left over."""
SHORT = 300
"""Characters under which a section is joined to the next one: a heading alone answers nothing."""
BLOCK = 16_000
"""Characters that are cut at once: the splitter's time grows with the square, and it keeps the interpreter's lock."""
MOST_HEADING_CHARACTERS = 200
MOST_TITLE_CHARACTERS = 80
HEADINGS_SHARE = 4
"""The headings get one part in so many of the tokens that the model reads; the rest is for the passage."""

OpenHeadings = list[tuple[int, str]]
"""Level and title of the headings that a place stands under, the outermost first."""
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a page's text."""

    start: int
    end: int
    text: str
    """The page's text from start to end, exactly."""
    headings: str
    """The document's title and the headings that all of the passage stands under; at most 200 characters."""


def cut(page: "Page", *, title: str, path: OpenHeadings, embedder: Embedder) -> list[Passage]:
    """Return the passages of a page, in order; every character of it that is not blank is in exactly one.

    Passages end where sections, paragraphs or sentences do, if that is possible. Each fits the model together with its
    headings, unless a single character does not.

    Args:
        page: A page as it was read out.
        title: The document's.
        path: The headings that are open where the page begins; afterwards those that are open where it ends.
        embedder: Its limits and tokens count.

    Raises:
        EmbeddingRefused: The model that is to count tokens cannot be loaded.
    """
    headed = _Headings(page, path)
    named = cache(lambda above: _joined([title, *above], embedder))
    passages: list[Passage] = []
    for start, end in _spans(page):
        headings = named(headed.above(start, end))
        for place, text in _fitted(page.text[start:end], headings, embedder):
            # The splitter takes the separators of ASCII for letters.
            begin = start + place + len(text) - len(text.lstrip())
            if bare := text.strip():
                passages.append(Passage(begin, begin + len(bare), bare, headings))
    headed.go_through()
    return passages


def follow(page: "Page", path: OpenHeadings) -> None:
    """Change the open headings as `cut` does, without cutting the page; of its text nothing is needed."""
    _Headings(page, path).go_through()


class _Headings:
    """Follows the headings of a page from its beginning to its end."""

    def __init__(self, page: "Page", path: OpenHeadings) -> None:
        self._coming = sorted(page.headings, key=lambda heading: heading.start, reverse=True)
        self._path = path

    def above(self, start: int, end: int) -> tuple[str, ...]:
        """Return the titles that are open all the way from start to end; spans have to be asked for in order."""
        self._go_to(start)
        at_start = list(self._path)
        self._go_to(end - 1)
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(at_start, self._path, strict=False))
        return tuple(title for (_, title), _ in shared)

    def go_through(self) -> None:
        """Go on to the end of the page."""
        while self._coming:
            self._go_to(self._coming[-1].start)

    def _go_to(self, place: int) -> None:
        while self._coming and self._coming[-1].start <= place:
            heading = self._coming.pop()
            while self._path and self._path[-1][0] >= heading.level:
                self._path.pop()
            self._path.append((heading.level, heading.title))


def _spans(page: "Page") -> Iterator[Span]:
    """Yield the spans of a page's passages by their characters alone: counting tokens all along costs far more."""
    from semantic_text_splitter import TextSplitter

    for section_start, section_end in _sections(page):
        for start, end in _blocks(page.text, section_start, section_end):
            parts = math.ceil((end - start) / USUAL_CHARACTERS)
            least = math.ceil((end - start) / parts)
            for place, text in TextSplitter((least, MOST_CHARACTERS)).chunk_indices(page.text[start:end]):
                yield start + place, start + place + len(text)


def _sections(page: "Page") -> Iterator[Span]:
    """Yield spans that cover the page: each but the first begins at a heading, and each but the last is not short."""
    begin = 0
    for place in sorted(heading.start for heading in page.headings):
        if place - begin >= SHORT:
            yield begin, place
            begin = place
    if begin < len(page.text):
        yield begin, len(page.text)


def _blocks(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield spans that cover a section: each ends at an empty line, a line's end or a blank, if there is one nearby."""
    while end - start > BLOCK:
        ends = (text.rfind(mark, start + BLOCK // 2, start + BLOCK) for mark in ("\n\n", "\n", " "))
        block_end = next((place + 1 for place in ends if place >= 0), start + BLOCK)
        yield start, block_end
        start = block_end
    yield start, end


def _fitted(text: str, headings: str, embedder: Embedder) -> Iterator[tuple[int, str]]:
    """Yield a passage and its place; or, where it has more tokens than fit, its parts and theirs."""
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
    """Return titles in one line, shortened until they fit: those in the middle go first."""
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
