"""An attempt at a document. Each step changes the document's row, and only the holder of the lease may change it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from backend.errors import Unavailable
from backend.jobs.leases import Lease, LeaseLost
from backend.jobs.worker import HandedBack

Stopped = Callable[[], bool]
"""Returns whether the work must stop."""
IsOtherWaiting = Callable[[], bool]
"""Returns whether another user's document is waiting and must be worked on now."""

FENCE = "user_id = :user_id and id = :id and attempt = :attempt and ended_at is null and deleted_at is null"
_SEEN = "filename, content_type, title, language, is_read, has_pages, pages_read, pages_cut, chunks"


class Interrupted(Unavailable):
    """The work was asked to stop."""

    code = "ingestion_interrupted"

    def __init__(self) -> None:
        super().__init__("The work was told to stop.", retry_after=1)


class Paused(HandedBack):
    """The document pauses, because another user's document is worked on first."""

    code = "ingestion_paused"

    def __init__(self) -> None:
        super().__init__("Another user's document is worked on first.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A document that this process may work on."""

    lease: Lease
    filename: str
    content_type: str
    title: str
    language: str
    is_read: bool
    has_pages: bool
    pages_read: int
    pages_cut: int
    chunks: int


def begin(session: Session, lease: Lease) -> Attempt:
    """Begin an attempt at a document, in the transaction that claimed the document."""
    row = session.execute(
        text(
            "update documents set status = 'processing', updated_at = now() "  # noqa: S608
            f"where user_id = :user_id and id = :id returning {_SEEN}"
        ),
        {"user_id": lease.user_id, "id": lease.id},
    ).one()
    return Attempt(lease, **row._mapping)


def step(session: Session, lease: Lease, change: str, *, is_progress: bool = True, **values: Any) -> Attempt:
    """Change the document's row as a step of this attempt, and return the changed document.

    The change locks the row, so no other process can take the document over before the transaction ends. With
    `is_progress`, the count of fruitless attempts starts again from 0.

    Raises:
        LeaseLost: Another process works on the document now, or the row is gone.
    """
    row = session.execute(
        text(
            f"update documents set {change}, fruitless = case when :is_progress then 0 else fruitless end, "  # noqa: S608
            f"updated_at = now() where {FENCE} returning {_SEEN}"
        ),
        {
            "user_id": lease.user_id,
            "id": lease.id,
            "attempt": lease.attempt,
            "is_progress": is_progress,
            **values,
        },
    ).one_or_none()
    if row is None:
        raise LeaseLost
    return Attempt(lease, **row._mapping)
