"""DOCX: paragraphs with the headings of their styles, tables as lines with tabs, footnotes at the end."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import docx
from lxml import etree  # type: ignore[import-untyped]

from backend.documents.parsing.pages import About, Block, Page, one_line, paged, tidied

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
FOOTNOTES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
SIGNS = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
UNREAD = frozenset((FALLBACK, f"{W}del", f"{W}moveFrom", f"{W}pPr", f"{W}rPr", f"{W}instrText", f"{W}sectPr"))
"""What no reader sees, or sees a second time."""

LOWEST = 9


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of a DOCX, which has none of its own until it is printed."""
    document = docx.Document(path)
    levels = _levels(document.styles.element)
    yield About(None, one_line(document.core_properties.title or ""), has_pages=False)
    yield from paged(chain(_blocks(document.element.body, levels), _footnotes(document.part)))


def _blocks(parent: Any, levels: dict[str, int]) -> Iterator[Block]:
    for child in parent.iterchildren():
        if child.tag == f"{W}p":
            if text := tidied(_text(child)).strip():
                level = _level(child, levels)
                yield Block(" ".join(text.split()) if level else text, level)
        elif child.tag == f"{W}tbl":
            yield from _rows(child)
        elif isinstance(child.tag, str) and child.tag not in UNREAD:
            # Content controls, and what was inserted while changes were tracked.
            yield from _blocks(child, levels)
        # What has been read is let go: a long document's pages take more memory than its tree otherwise.
        child.clear()


def _rows(table: Any) -> Iterator[Block]:
    rows = [row for row in table.iter(f"{W}tr") if _owner(row) is table]
    for row in rows:
        cells = [cell for cell in row.iter(f"{W}tc") if _owner(cell, f"{W}tr") is row]
        line = "\t".join(" ".join(_text(cell).split()) for cell in cells).rstrip()
        if line:
            yield Block(line, ends="\n\n" if row is rows[-1] else "\n")


def _owner(part: Any, tag: str = f"{W}tbl") -> Any:
    """Return the nearest element around the part that has the tag: tables stand within tables."""
    return next(part.iterancestors(tag), None)


def _text(paragraph: Any) -> str:
    pieces: list[str] = []
    walk = etree.iterwalk(paragraph, events=("start", "end"))
    for event, element in walk:
        if event == "end":
            if element.tag == f"{W}p" and element is not paragraph:
                pieces.append("\n")
        elif element.tag in UNREAD:
            walk.skip_subtree()
        elif element.tag == f"{W}t":
            pieces.append(element.text or "")
        elif element.tag in SIGNS:
            pieces.append(SIGNS[element.tag])
    return "".join(pieces)


def _level(paragraph: Any, levels: dict[str, int]) -> int:
    properties = paragraph.find(f"{W}pPr")
    if properties is None:
        return 0
    outline = _value(properties.find(f"{W}outlineLvl"))
    if outline.isdecimal():
        return int(outline) + 1 if int(outline) < LOWEST else 0
    return levels.get(_value(properties.find(f"{W}pStyle")), 0)


def _levels(styles: Any) -> dict[str, int]:
    """Return the level of heading that each style makes, also by the style that it is made from."""
    own: dict[str, int] = {}
    above: dict[str, str] = {}
    for style in styles.iterchildren(f"{W}style"):
        name = style.get(f"{W}styleId") or ""
        said = _value(style.find(f"{W}name")).lower()
        outline = _value(style.find(f"{W}pPr/{W}outlineLvl"))
        above[name] = _value(style.find(f"{W}basedOn"))
        if said == "title":
            own[name] = 1
        elif outline.isdecimal():
            own[name] = int(outline) + 1 if int(outline) < LOWEST else 0
        elif said.startswith("heading ") and said[8:].isdecimal():
            own[name] = min(int(said[8:]), LOWEST)
    levels = {}
    for name in above:
        ancestor = name
        for _ in range(10):  # Styles may be based on each other in a circle.
            if ancestor in own or not ancestor:
                break
            ancestor = above.get(ancestor, "")
        levels[name] = own.get(ancestor, 0)
    return levels


def _footnotes(part: Any) -> Iterator[Block]:
    notes = next((rel.target_part for rel in part.rels.values() if rel.reltype == FOOTNOTES), None)
    if notes is None:
        return
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    for note in etree.fromstring(notes.blob, parser).iterchildren(f"{W}footnote"):
        if text := tidied(_text(note)).strip():
            yield Block(text)


def _value(element: Any) -> str:
    return "" if element is None else element.get(f"{W}val") or ""
