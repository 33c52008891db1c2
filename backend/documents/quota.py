"""How much may be kept of documents, for one user and for all together, and whether originals are."""

from dataclasses import dataclass

from backend.errors import Conflict, DocuTalkError

MOST_DOCUMENTS = 10_000
"""Documents that a user may have, the deleted ones included that are not purged yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingRules:
    """How much may be kept, and whether originals stay once they are read."""

    most_bytes_of_a_user: int = 268_435_456
    """0 is no limit."""
    most_bytes_of_a_guest: int = 0
    """0 is as many as any user."""
    most_bytes_of_guests: int = 0
    """Of all guests together; 0 is no limit."""
    most_bytes: int = 0
    """Of everybody together; 0 is no limit."""
    store_originals: bool = True

    def most_of(self, *, is_guest: bool) -> int:
        """Return how many bytes one user may keep; 0 is no limit."""
        of_guest = (self.most_bytes_of_a_guest, self.most_bytes_of_guests) if is_guest else ()
        return min((most for most in (self.most_bytes_of_a_user, *of_guest) if most), default=0)

    def left_of(self, used: int, *, is_guest: bool) -> int | None:
        """Return how many bytes a user who keeps so many may still keep; None where there is no limit."""
        most = self.most_of(is_guest=is_guest)
        return max(most - used, 0) if most else None


class TooManyDocuments(Conflict):
    """The user has as many documents as one may have."""

    def __init__(self) -> None:
        super().__init__(f"There are {MOST_DOCUMENTS:,} documents, which is the limit. Delete some for good.")


class NoRoom(DocuTalkError):
    """The file would pass what may be kept: by the user, by all guests, or by everybody."""

    status = 413
    code = "quota_exceeded"

    def __init__(self, sentence: str, *, left: int | None = None) -> None:
        super().__init__(sentence)
        if left is not None:
            self.members["bytes_left"] = left


def in_words(size: int) -> str:
    """Return a number of bytes as a person says it: exactly below a KiB, then in KiB, MiB or GiB, rounded down."""
    if size < 1024:
        return f"{size:,} bytes"
    if size < 1024 * 1024:
        return f"{size // 1024:,} KiB"
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    whole, rest = divmod(size * 10 // unit, 10)
    return f"{whole:,}.{rest} {name}" if rest else f"{whole:,} {name}"
