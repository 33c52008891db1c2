"""How much of a file may be read, and the error with which a parser refuses a file."""

from dataclasses import dataclass

LONGEST_PAGE = 1_000_000
"""The most characters of one page, in a format that has pages."""

USUAL_PAGE = 8_000
"""Approximate characters of one page, in a format that has no pages."""

LONGEST_TITLE = 200
MOST_HEADINGS = 500
"""The most headings of one page that are kept."""

MOST_PARTS = 10_000
"""The most files inside an office document."""

MOST_UNPACKED = 512 * 1024 * 1024
"""The most bytes of all files inside an office document together, unpacked."""

HIGHEST_RATIO = 200
"""The most that an office document may grow when it is unpacked, as a multiple of its size. Text compresses to about a
tenth, endless zeros to a thousandth."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for reading one file."""

    seconds: int = 120
    """The most seconds of waiting for the child, and the most seconds of the child's CPU time."""

    memory_mb: int = 1024
    pages: int = 5_000
    characters: int = 20_000_000


class Refused(Exception):
    """The file is not read further. `reason` is a key of `reasons.SENTENCES`."""

    def __init__(self, reason: str, **numbers: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.numbers = numbers
