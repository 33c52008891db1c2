"""Markdown: the source text, unchanged, with its headings."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from backend.documents.reading.parsing.limits import USUAL_PAGE
from backend.documents.reading.parsing.pages import About, Block, Page, one_line, paged, tidied
from backend.documents.reading.parsing.plain import lines, opened

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING = re.compile(r"(?:^|[ \t])#+$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*$")
_NO_PARAGRAPH = re.compile(r"\s*(?:[-*+>|]|\d{1,9}[.)]\s)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT = ("---", "...")
LONGEST_SETEXT = 3
"""The most lines of an underlined (setext) heading."""


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of a Markdown text, with the source unchanged."""
    with opened(path) as file:
        # Only the first 100 blocks are searched for a title, because a title comes early.
        first = (block for block in islice(_blocks(lines(file)), 100) if block.level == 1)
        title = next((block.title for block in first), "")
        file.seek(0)
        yield About(None, title, has_pages=False)
        yield from paged(_blocks(lines(file)))


def _blocks(source: Iterable[str]) -> Iterator[Block]:
    held: list[str] = []
    length = 0
    fence = ""
    for number, ended in enumerate(source):
        line = ended.rstrip("\n")
        is_front = number == 0 and line.rstrip() == _FRONT[0]
        if fence or is_front:
            held.append(line)
            is_closed = not is_front and _closes(line, fence)
            fence = _FRONT[0] if is_front else "" if is_closed else fence
            if is_closed:
                yield from _paragraph(held, ends="\n")
                held, length = [], 0
        elif mark := _FENCE.match(line):
            held.append(line)
            fence = mark[1]
        elif heading := _ATX.match(line):
            yield from _paragraph(held)
            held, length = [], 0
            title = one_line(_CLOSING.sub("", (heading[2] or "").rstrip()))
            yield Block(line.rstrip(), len(heading[1]) if title else 0, title=title)
        elif held and _UNDERLINE.match(line) and len(held) <= LONGEST_SETEXT and not _NO_PARAGRAPH.match(held[0]):
            level = 1 if "=" in line else 2
            yield Block("\n".join([*held, line]), level, title=one_line(" ".join(held)))
            held, length = [], 0
        elif line.strip():
            held.append(line)
        else:
            yield from _paragraph(held)
            held, length = [], 0
        length += len(line)
        if length > USUAL_PAGE:
            yield from _paragraph(held)
            held, length = [], 0
    yield from _paragraph(held)


def _closes(line: str, fence: str) -> bool:
    if fence == _FRONT[0]:
        return line.rstrip() in _FRONT
    bare = line.strip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def _paragraph(held: list[str], *, ends: str = "\n\n") -> Iterator[Block]:
    if text := tidied("\n".join(held)):
        yield Block(text, ends=ends)
