"""Plain text and delimited tables. The encoding is detected, and the lines are kept."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from backend.documents.reading.parsing.limits import USUAL_PAGE, Refused
from backend.documents.reading.parsing.pages import About, Block, Page, paged, tidied

SAMPLE = 256 * 1024
"""Bytes from which the encoding is guessed."""

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DELIMITERS = (",", ";", "\t", "|")
LONGEST_FIELD = 1_000_000
USUAL = "cp1252"
RARE = (
    *("hp_roman8", "mac_cyrillic", "mac_greek", "mac_iceland", "mac_latin2", "mac_roman", "mac_turkish"),
    *("cp037", "cp1026", "cp1140", "cp273", "cp424", "cp500", "cp875"),
)
"""Old machines' encodings. They can decode almost any bytes, so they are excluded from guessing."""

FEW = 8
"""Control and replacement characters that are tolerated even in a short text."""

_STRANGE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of a text, with each paragraph on one page if the paragraph fits."""
    with opened(path) as file:
        yield About(None, "", has_pages=False)
        yield from paged(Block(paragraph) for paragraph in paragraphs(file))


def paragraphs(file: TextIO) -> Iterator[str]:
    """Yield the paragraphs between empty lines; a long paragraph comes in pieces."""
    held: list[str] = []
    length = 0
    for line in lines(file):
        if line.strip() and length < USUAL_PAGE:
            held.append(line)
            length += len(line)
            continue
        if text := tidied("".join(held)):
            yield text
        held, length = ([line], len(line)) if line.strip() else ([], 0)
    if text := tidied("".join(held)):
        yield text


def lines(file: TextIO) -> Iterator[str]:
    """Yield the lines; a line longer than a page comes in pieces."""
    return iter(lambda: file.readline(USUAL_PAGE), "")


def read_table(path: str) -> Iterator[About | Page]:
    """Yield pages of a CSV file's rows as lines with tabs. Every page begins with the first row, the header."""
    csv.field_size_limit(LONGEST_FIELD)
    with opened(path, newline="") as file:
        delimiter = _delimiter(file.read(SAMPLE // 4))
        file.seek(0)
        yield About(None, "", has_pages=False)
        rows = (line for row in csv.reader(file, delimiter=delimiter) if (line := as_line(row)))
        try:
            yield from table(rows)
        except csv.Error:
            raise Refused("damaged") from None


def table(rows: Iterator[str], *, first: int = 1, title: str = "") -> Iterator[Page]:
    """Divide rows into pages numbered from `first`. Each page begins with the title and the first row, the header."""
    header = next(rows, "")
    if not header:
        return
    head = header[: USUAL_PAGE // 4]
    blocks = [Block(title, level=1, ends="\n")] if title else []
    blocks += [Block(header, ends="\n")]

    def all_blocks() -> Iterator[Block]:
        yield from blocks
        for row in rows:
            yield Block(row, ends="\n")

    yield from paged(all_blocks(), repeat=f"{title}\n{head}" if title else head, first=first)


def as_line(cells: list[str]) -> str:
    """Return a row's cells as one line with tabs, without the empty cells at the row's end."""
    return "\t".join(" ".join(cell.split()) for cell in cells).rstrip()


def opened(path: str, *, newline: str | None = None) -> TextIO:
    """Open a text file in its detected encoding; raise Refused if the file is not text."""
    encoding = encoding_of(Path(path))
    errors = "surrogatepass" if encoding == "utf-8" else "replace"
    return Path(path).open(encoding=encoding, errors=errors, newline=newline)


def encoding_of(path: Path) -> str:
    """Return a file's encoding: from its byte order mark, or else UTF-8 if the bytes are valid, or else guessed.

    Raises:
        Refused: The file is not text.
    """
    with path.open("rb") as file:
        sample = file.read(SAMPLE)
    for mark, encoding in BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    encoding = "utf-8" if _is_utf8(path) else _guessed(sample)
    text = sample.decode(encoding, "replace")
    if len(_STRANGE.findall(text)) > max(len(text) // 10, FEW):
        raise Refused("not_text")
    return encoding


def _is_utf8(path: Path) -> bool:
    # Surrogates are accepted: a program that writes them means UTF-8, and the rest of its text is fine.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    try:
        with path.open("rb") as file:
            for part in iter(lambda: file.read(SAMPLE), b""):
                decoder.decode(part)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    # English text in UTF-16 is also valid UTF-8, with a NUL between the letters.
    with path.open("rb") as file:
        sample = file.read(SAMPLE)
    return sample.count(0) <= len(sample) // 10


def _guessed(sample: bytes) -> str:
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if sample[offset::2].count(0) > len(sample) // 4 and sample[1 - offset :: 2].count(0) < len(sample) // 50:
            return encoding
    import charset_normalizer

    found = charset_normalizer.from_bytes(sample[: SAMPLE // 4], cp_exclusion=list(RARE))
    best = found.best()
    if best is None:
        raise Refused("not_text")
    # Of several encodings that fit about equally well, prefer the most common one.
    likely = [match for match in found if match.chaos <= best.chaos + 0.1]
    return USUAL if any(USUAL in match.could_be_from_charset for match in likely) else best.encoding


def _delimiter(sample: str) -> str:
    """Return the delimiter that divides the first rows most consistently into the same number of cells, at least 2."""
    best = (0.0, 0, ",")
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in islice(csv.reader(sample.splitlines(), delimiter=delimiter), 100) if row]
        except csv.Error:
            continue
        if not rows:
            continue
        width, times = Counter(map(len, rows)).most_common(1)[0]
        if width > 1 and (times / len(rows), width) > best[:2]:
            best = (times / len(rows), width, delimiter)
    return best[2]
