"""PDF, read page by page with PDFium. Headings come from the outline or, without an outline, from the size of lines."""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from backend.documents.reading.parsing.limits import LONGEST_PAGE, LONGEST_TITLE, MOST_HEADINGS, Limits, Refused
from backend.documents.reading.parsing.pages import About, Heading, Page, one_line

MOST_BOOKMARKS = 5_000
MOST_LOOKED_AT = 2_000
"""The most lines that are examined on a page, and the most objects on a page without text."""

OUTLINES = 50
"""A page without text that has at least this many drawn shapes is assumed to have its letters drawn as shapes."""

LARGER = ((1.7, 1), (1.35, 2), (1.2, 3))
"""Pairs of a line height, relative to the page's usual height, and the heading level that the height indicates."""

MOST_GUESSED = 20
"""The most headings of one page that are recognized by size. A page with more large lines is a poster or a table."""

_HYPHEN = re.compile(r"([\w-]*)\ufffe(?:\r?\n)?(?=([\w-]*))")
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_MADE_UP = re.compile(r"\(?(anonymous|unspecified|untitled|no title)\)?\s*\d*", re.IGNORECASE)
_END_OF_FILE = b"%%EOF"


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    height: float
    top: float


def read(path: str, limits: Limits, from_page: int) -> Iterator[About | Page]:
    """Yield facts about the file, then its pages from `from_page` on.

    If `from_page` is not 1, the earlier pages up to the first page with text are yielded first. From these pages the
    caller learns whether the whole file is scanned and has only pictures.
    """
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        is_locked = error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        raise Refused("encrypted" if is_locked else "damaged") from None
    pages = len(document)
    if pages > limits.pages:
        raise Refused("too_many_pages", limit=limits.pages)
    yield About(pages, _title(document), has_pages=True)
    outline = _outline(document)
    is_whole = _is_whole(path)
    for number in range(1, min(from_page, pages + 1)):
        page = _page(document, number, outline)
        yield page
        if page.text:
            break
    for number in range(from_page, pages + 1):
        page = _page(document, number, outline)
        if not page.text and not page.is_scanned and not is_whole:
            # The end of the file is missing, and it may have held this page's text.
            raise Refused("damaged_page", page=number, pages=pages)
        yield page


def _page(document: pypdfium2.PdfDocument, number: int, outline: dict[int, list[tuple[int, str]]]) -> Page:
    try:
        page = document[number - 1]
    except pypdfium2.PdfiumError:
        raise Refused("damaged_page", page=number, pages=len(document)) from None
    try:
        lines = _lines(page, number)
        text, starts = _joined(lines)
        if not text:
            return Page(number, "", _placed("", outline.get(number, ())), _shows_pictures(page))
        titles = _placed(text, outline.get(number, ())) if outline else _large(lines, starts)
        return Page(number, text, titles)
    finally:
        page.close()


def _lines(page: pypdfium2.PdfPage, number: int) -> list[_Line]:
    """Return the page's lines. Words that are hyphenated at line ends are rejoined."""
    try:
        content = page.get_textpage()
    except pypdfium2.PdfiumError:
        raise Refused("damaged_page", page=number, pages=len(page.pdf)) from None
    try:
        count = content.count_chars()
        if count > LONGEST_PAGE:
            raise Refused("page_too_long", page=number, limit=LONGEST_PAGE)
        buffer = (ctypes.c_ushort * (count * 2 + 2))()
        units = max(pdfium.FPDFText_GetText(content, 0, count, buffer) - 1, 0)
        raw = bytes(buffer)[: units * 2].decode("utf-16-le", "replace")
        lines: list[_Line] = []
        start = 0
        box = pdfium.FS_RECTF()
        for line in raw.split("\n"):
            text = (line if line.isascii() else _whole_words(line)).strip(" \t\r\xa0")
            if len(lines) < MOST_LOOKED_AT and text:
                # Measure the middle character, because a line may begin with a bullet of another size.
                middle = pdfium.FPDFText_GetCharIndexFromTextIndex(content, start + len(line) // 2)
                pdfium.FPDFText_GetLooseCharBox(content, middle, box)
                lines.append(_Line(text, box.top - box.bottom, box.top))
            elif text:
                lines.append(_Line(text, 0.0, 0.0))
            start += len(line) + 1
        return lines
    finally:
        content.close()


def _whole_words(line: str) -> str:
    return _HYPHEN.sub(_made_whole, line).translate(_LIGATURES)


def _made_whole(divided: re.Match[str]) -> str:
    before, after = divided.groups()
    is_compound = "-" in before or "-" in after or not after[:1].islower()
    return f"{before}-" if is_compound else before


def _joined(lines: list[_Line]) -> tuple[str, list[int]]:
    """Join the lines, with an empty line for each gap on the page; also return the offset of each line."""
    steps = [above.top - line.top for above, line in pairwise(lines)]
    usual = median([step for step in steps if step > 0] or [0.0])
    text: list[str] = []
    starts: list[int] = []
    at = 0
    for line, step in zip(lines, [0.0, *steps], strict=False):
        if text:
            is_gap = step > min(usual * 1.4, line.height * 2.2) > 0
            between = "\n\n" if is_gap else "\n"
            text.append(between)
            at += len(between)
        starts.append(at)
        text.append(line.text)
        at += len(line.text)
    return "".join(text), starts


def _large(lines: list[_Line], starts: list[int]) -> tuple[Heading, ...]:
    """Return as headings the lines that are larger than most of the page's text."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.height, 1)] += len(line.text)
    usual = sizes.most_common(1)[0][0]
    if usual <= 0:
        return ()
    found: list[Heading] = []
    above: _Line | None = None
    for line, start in zip(lines, starts, strict=True):
        level = next((level for ratio, level in LARGER if line.height >= usual * ratio), 0)
        if level and above and found and above.height == line.height and above.top - line.top < 2 * line.height:
            found[-1] = Heading(found[-1].start, level, one_line(f"{found[-1].title} {line.text}"))
            above = line
        elif level and len(line.text) <= LONGEST_TITLE and any(sign.isalpha() for sign in line.text):
            found.append(Heading(start, level, one_line(line.text)))
            above = line
        else:
            above = None
    return tuple(found) if len(found) <= MOST_GUESSED else ()


def _placed(text: str, bookmarks: "list[tuple[int, str]] | tuple[()]") -> tuple[Heading, ...]:
    """Return a page's bookmarks as headings, each where its words occur.

    A bookmark whose words do not occur gets the place of the bookmark before it.
    """
    found = []
    after = 0
    for level, title in bookmarks[:MOST_HEADINGS]:
        words = r"\s+".join(map(re.escape, title.split()))
        place = re.compile(words, re.IGNORECASE).search(text, after)
        after = place.start() if place else after
        found.append(Heading(after, level, title))
    return tuple(found)


def _outline(document: pypdfium2.PdfDocument) -> dict[int, list[tuple[int, str]]]:
    """Return each bookmark's level and title, by the number of the page that the bookmark leads to."""
    outline: dict[int, list[tuple[int, str]]] = {}
    for bookmark in islice(document.get_toc(max_depth=9), MOST_BOOKMARKS):
        target = bookmark.get_dest()
        index = target.get_index() if target else None
        title = one_line(bookmark.get_title())
        if index is not None and title:
            outline.setdefault(index + 1, []).append((bookmark.level + 1, title))
    return outline


def _shows_pictures(page: pypdfium2.PdfPage) -> bool:
    shapes = 0
    for item in islice(page.get_objects(max_depth=3), MOST_LOOKED_AT):
        if item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            return True
        shapes += item.type in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING)
    return shapes >= OUTLINES


def _title(document: pypdfium2.PdfDocument) -> str:
    title = one_line(document.get_metadata_value("Title"))
    return "" if _MADE_UP.fullmatch(title) else title.removeprefix("Microsoft Word - ")


def _is_whole(path: str) -> bool:
    """Return whether the file has a PDF's end marker."""
    with Path(path).open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 2048))
        return _END_OF_FILE in file.read()
