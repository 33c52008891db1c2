"""XLSX: each sheet becomes one or more pages that begin with its name and header. Formulas become their values."""

from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]

from backend.documents.reading.parsing.limits import Refused
from backend.documents.reading.parsing.pages import About, Page, one_line
from backend.documents.reading.parsing.plain import as_line, table

MOST_ROWS = 1_048_576
"""The most rows that a sheet can have."""


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of the sheets, in order."""
    # The file is opened here, because the library accepts only paths with an extension that it knows.
    with Path(path).open("rb") as file:
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        yield About(None, one_line(workbook.properties.title or ""), has_pages=True)
        number = 0
        for sheet in workbook.worksheets:
            # The size that a sheet declares is ignored: it may claim 17 billion cells.
            sheet.reset_dimensions()
            for page in table(_lines(sheet), first=number + 1, title=one_line(sheet.title)):
                number = page.number
                yield page


def _lines(sheet: Any) -> Iterator[str]:
    for number, row in enumerate(sheet.iter_rows(values_only=True)):
        if number > MOST_ROWS:
            raise Refused("damaged")
        if line := as_line([_shown(value) for value in row]):
            yield line


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float():
            return f"{value:.15g}"
        case datetime():
            is_day = value.time() == time()
            return value.date().isoformat() if is_day else value.isoformat(sep=" ", timespec="minutes")
        case date() | time():
            return value.isoformat()
    return str(value)
