"""How much one user and all users together may store in documents, and whether original files are kept."""

from dataclasses import dataclass

from backend.errors import Conflict, DocuTalkError

MOST_DOCUMENTS = 10_000
"""The most documents of one user, including deleted ones that are not purged yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingRules:
    """How much may be stored, and whether original files are kept after they are read."""

    most_bytes_of_a_user: int = 268_435_456
    """Bytes of one user; 0 means no limit. The limit applies to guests too."""
    most_bytes_of_a_guest: int = 0
    """Bytes of one guest; 0 means that a guest has only the limit of a user."""
    most_bytes_of_guests: int = 0
    """Bytes of all guests together; 0 means no limit."""
    most_bytes: int = 0
    """Bytes of all users together; 0 means no limit."""
    store_originals: bool = True

    def most_of(self, *, is_guest: bool) -> int:
        """Return how many bytes one user may store; 0 means no limit."""
        of_guest = (self.most_bytes_of_a_guest, self.most_bytes_of_guests) if is_guest else ()
        return min((most for most in (self.most_bytes_of_a_user, *of_guest) if most), default=0)

    def left_of(self, used: int, *, is_guest: bool) -> int | None:
        """Return how many more bytes a user who stores `used` bytes may store; None means no limit."""
        most = self.most_of(is_guest=is_guest)
        return max(most - used, 0) if most else None


class TooManyDocuments(Conflict):
    """The user already has as many documents as allowed."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST_DOCUMENTS:,} documents, which is the limit. Delete some permanently.")


class NoRoom(DocuTalkError):
    """Storing the file would exceed the limit of the user, of all guests, or of everybody."""

    status = 413
    code = "quota_exceeded"

    def __init__(self, sentence: str, *, left: int | None = None) -> None:
        super().__init__(sentence)
        if left is not None:
            self.members["bytes_left"] = left


def in_words(size: int) -> str:
    """Format a size for people: exact below 1 KiB, otherwise in KiB, MiB or GiB, rounded down."""
    if size < 1024:
        return f"{size:,} bytes"
    if size < 1024 * 1024:
        return f"{size // 1024:,} KiB"
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    whole, rest = divmod(size * 10 // unit, 10)
    return f"{whole:,}.{rest} {name}" if rest else f"{whole:,} {name}"
