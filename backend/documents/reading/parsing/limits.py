"""How much of a file may be read, and how a parser says why it does not read one."""

from dataclasses import dataclass

LONGEST_PAGE = 1_000_000
"""Characters of one page of a format that has pages of its own."""

USUAL_PAGE = 8_000
"""Characters, about, of a page where the format has none."""

LONGEST_TITLE = 200
MOST_HEADINGS = 500
"""Headings of one page."""

MOST_PARTS = 10_000
"""Files in an office document."""

MOST_UNPACKED = 512 * 1024 * 1024
"""Bytes of all files in an office document."""

HIGHEST_RATIO = 200
"""Times its own size that an office document may unpack to; text packs to a tenth, endless zeros to a thousandth."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may take."""

    seconds: int = 120
    """Of waiting for the child, and of its processor time."""

    memory_mb: int = 1024
    pages: int = 5_000
    characters: int = 20_000_000


class Refused(Exception):
    """The file is not read on; the reason is a name that the parent has a sentence for."""

    def __init__(self, reason: str, **numbers: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.numbers = numbers
