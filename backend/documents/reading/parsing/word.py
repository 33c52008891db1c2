"""DOCX: paragraphs, headings by style, tables as lines with tabs, and footnotes at the end."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import docx
from lxml import etree  # type: ignore[import-untyped]

from backend.documents.reading.parsing.pages import About, Block, Page, bulleted, one_line, paged, tidied

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
FOOTNOTES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
SIGNS = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
UNREAD = frozenset((FALLBACK, f"{W}del", f"{W}moveFrom", f"{W}pPr", f"{W}rPr", f"{W}instrText", f"{W}sectPr"))
"""Elements that a reader of the document does not see, or that repeat other text."""

LOWEST = 9


@dataclass(frozen=True, slots=True)
class Style:
    """The kind of a paragraph."""

    level: int = 0
    """The heading's level; 0 for a paragraph that is not a heading."""
    is_item: bool = False
    """Whether the paragraph is a list item."""


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of a DOCX file. They are divided here, because a DOCX file has no pages until it is printed."""
    document = docx.Document(path)
    styles = _styles(document.styles.element)
    yield About(None, one_line(document.core_properties.title or ""), has_pages=False)
    yield from paged(chain(_blocks(document.element.body, styles), _footnotes(document.part)))


def _blocks(parent: Any, styles: dict[str, Style]) -> Iterator[Block]:
    for child in parent.iterchildren():
        if child.tag == f"{W}p":
            if text := tidied(_text(child)).strip():
                style = _style(child, styles)
                if style.level:
                    yield Block(" ".join(text.split()), style.level)
                else:
                    yield Block(bulleted(text) if style.is_item else text)
        elif child.tag == f"{W}tbl":
            yield from _rows(child)
        elif isinstance(child.tag, str) and child.tag not in UNREAD:
            # Text in content controls, and insertions from tracked changes.
            yield from _blocks(child, styles)
        # Free the element that was read. Otherwise a long document's pages would take more memory than its tree.
        child.clear()


def _rows(table: Any) -> Iterator[Block]:
    rows = [row for row in table.iter(f"{W}tr") if _owner(row) is table]
    for row in rows:
        cells = [cell for cell in row.iter(f"{W}tc") if _owner(cell, f"{W}tr") is row]
        line = "\t".join(" ".join(_text(cell).split()) for cell in cells).rstrip()
        if line:
            yield Block(line, ends="\n\n" if row is rows[-1] else "\n")


def _owner(part: Any, tag: str = f"{W}tbl") -> Any:
    """Return the nearest enclosing element with this tag. Tables can be nested."""
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


def _style(paragraph: Any, styles: dict[str, Style]) -> Style:
    """Return a paragraph's kind, from its own properties or else from its style."""
    properties = paragraph.find(f"{W}pPr")
    if properties is None:
        return Style()
    by_name = styles.get(_value(properties.find(f"{W}pStyle")), Style())
    level, is_item = _said(properties)
    return Style(by_name.level if level is None else level, by_name.is_item if is_item is None else is_item)


def _styles(styles: Any) -> dict[str, Style]:
    """Return the kind of paragraph that each style produces, including the properties that the style inherits."""
    own: dict[str, tuple[int | None, bool | None]] = {}
    above: dict[str, str] = {}
    for style in styles.iterchildren(f"{W}style"):
        name = style.get(f"{W}styleId") or ""
        said = _value(style.find(f"{W}name")).lower()
        properties = style.find(f"{W}pPr")
        level, is_item = (None, None) if properties is None else _said(properties)
        above[name] = _value(style.find(f"{W}basedOn"))
        if said == "title":
            level = 1
        elif level is None and said.startswith("heading ") and said[8:].isdecimal():
            level = min(int(said[8:]), LOWEST)
        own[name] = level, is_item
    return {name: _inherited(name, own, above) for name in above}


def _inherited(name: str, own: dict[str, tuple[int | None, bool | None]], above: dict[str, str]) -> Style:
    level: int | None = None
    is_item: bool | None = None
    for _ in range(10):  # Bounded, because styles may be based on each other in a circle.
        said = own.get(name, (None, None))
        level = said[0] if level is None else level
        is_item = said[1] if is_item is None else is_item
        name = above.get(name, "")
    return Style(level or 0, bool(is_item))


def _said(properties: Any) -> tuple[int | None, bool | None]:
    """Return a paragraph's heading level, and whether it is a list item. A value that is not set is None."""
    outline = _value(properties.find(f"{W}outlineLvl"))
    level = (int(outline) + 1 if int(outline) < LOWEST else 0) if outline.isdecimal() else None
    numbering = properties.find(f"{W}numPr")
    # List number 0 means no list. A paragraph with this number opts out of its style's list.
    is_item = None if numbering is None else _value(numbering.find(f"{W}numId")) != "0"
    return level, is_item


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
