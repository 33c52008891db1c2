"""Pages, and how a text without pages is divided into pages."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from backend.documents.reading.parsing.limits import LONGEST_TITLE, MOST_HEADINGS, USUAL_PAGE

_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_GAP = re.compile(r"\n{3,}")
_BORDERS = ("\n", ". ", "\t", " ")
"""Where to cut a block that is too long, best first."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in a page's text, or a heading that applies from the page's start."""

    start: int
    """Characters from the start of the page's text."""

    level: int
    """From 1, the highest level, to 9."""

    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page's text. `number` counts from 1."""

    number: int
    text: str
    headings: tuple[Heading, ...] = ()
    is_scanned: bool = False
    """Whether the page shows pictures and has no text."""


@dataclass(frozen=True, slots=True)
class About:
    """Facts about a file, known before its pages are read."""

    pages: int | None
    title: str
    has_pages: bool
    """Whether a person would recognize the page numbers."""


BULLET = "- "
"""Starts every list item in the text, whatever mark the original shows."""
INDENT = " " * len(BULLET)
"""Starts each line of a list item after the first line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, table row or heading of a text without pages."""

    text: str
    level: int = 0
    """The level of a heading; 0 if the block is not a heading."""

    ends: str = "\n\n"
    """The separator between this block and the next one."""

    title: str = ""
    """The heading's words, if `text` also has markup."""


def tidied(text: str) -> str:
    """Return the text with LF line breaks, no trailing blanks, and at most one empty line in a row."""
    if text.isprintable():  # Most paragraphs are: they have no line breaks, and no blanks except spaces.
        return text.rstrip(" ")
    lines = _LINE_BREAK.sub("\n", text).split("\n")
    return _GAP.sub("\n\n", "\n".join(line.rstrip(" \t\xa0") for line in lines)).strip("\n")


def bulleted(text: str) -> str:
    """Return the text of a list item with its bullet and its further lines indented."""
    return BULLET + text.removeprefix(BULLET).replace("\n", f"\n{INDENT}")


def one_line(text: str) -> str:
    """Return the text as a title: on one line, cut to `LONGEST_TITLE` characters."""
    return " ".join(text[: LONGEST_TITLE * 4].split())[:LONGEST_TITLE]


def paged(blocks: Iterable[Block], *, repeat: str = "", first: int = 1) -> Iterator[Page]:
    """Divide blocks into pages of about USUAL_PAGE characters, numbered from `first`.

    Pages end between blocks where possible. The same blocks always give the same pages. Every page except the first
    starts with `repeat`. The first page must have the text `repeat` as its first block.
    """
    page = _Draft(first)
    for block in blocks:
        for part in _parts(block):
            if page.has_room_for(part):
                page.add(part)
            else:
                yield page.finished()
                page = _Draft(page.number + 1, repeat)
                page.add(part)
    if page.has_own:
        yield page.finished()


def _parts(block: Block) -> Iterator[Block]:
    """Cut a block that is longer than a page into parts, at ends of words unless a line is very long."""
    rest = block.text
    if len(rest) <= USUAL_PAGE:
        yield block
        return
    while len(rest) > USUAL_PAGE:
        border = next((at for sign in _BORDERS if (at := rest.rfind(sign, USUAL_PAGE // 2, USUAL_PAGE)) > 0), -1)
        cut = border + 1 if border > 0 else USUAL_PAGE
        yield replace(block, text=rest[:cut].rstrip(), ends="\n")
        block = Block("", ends=block.ends)
        rest = rest[cut:]
    yield replace(block, text=rest)


class _Draft:
    """A page that is being filled."""

    def __init__(self, number: int, repeat: str = "") -> None:
        self.number = number
        self.has_own = False
        self._pieces = [repeat, "\n"] if repeat else []
        self._length = sum(map(len, self._pieces))
        self._headings: list[Heading] = []

    def has_room_for(self, block: Block) -> bool:
        """Return whether the block fits on this page. A heading does not fit once this page is half full."""
        if not self.has_own:
            return True
        is_half_full = self._length > USUAL_PAGE // 2
        return self._length + len(block.text) <= USUAL_PAGE and not (block.level and is_half_full)

    def add(self, block: Block) -> None:
        if block.level and len(self._headings) < MOST_HEADINGS:
            self._headings.append(Heading(self._length, block.level, block.title or one_line(block.text)))
        self._pieces += [block.text, block.ends]
        self._length += len(block.text) + len(block.ends)
        self.has_own = True

    def finished(self) -> Page:
        return Page(self.number, "".join(self._pieces).rstrip(), tuple(self._headings))
