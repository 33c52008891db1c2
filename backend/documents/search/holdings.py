"""Which documents and passages of a user can be searched, and which rows a search may return."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import TextualSelect, column, text
from sqlmodel import Session

Reason = Literal["no_documents", "still_indexing", "no_text", "filtered_out", "below_threshold"]
"""Why a search returned no passage."""


@dataclass(frozen=True, slots=True)
class Library:
    """The counts of what a user can search."""

    passages: Mapping[str, int]
    """The number of passages in each language, over all documents that are ready."""
    words: int
    """The number of words in all documents that are ready."""
    sought: int = 0
    """The number of passages in the documents to search."""
    is_filtered: bool = False
    """Whether the search is limited to some documents."""
    has_hidden: bool = False
    """Whether some stored passages belong to documents that are deleted or not ready."""
    is_growing: bool = False
    """Whether some of the documents to search are still being indexed."""

    @property
    def average_length(self) -> float:
        """Average number of words in a passage, at least 1."""
        return max(self.words / max(sum(self.passages.values()), 1), 1.0)


def library_of(session: Session, values: dict[str, Any]) -> Library | Reason:
    """Return the user's library, or the reason why there is nothing to search."""
    rows = session.execute(_LIBRARY, values).all()
    library = Library(
        passages={row.language: row.passages for row in rows if row.passages},
        words=sum(row.words for row in rows),
        sought=sum(row.sought for row in rows),
        is_filtered=values["document_ids"] is not None,
        has_hidden=any(row.hidden for row in rows),
        is_growing=any(row.growing for row in rows),
    )
    if library.sought:
        return library
    if library.is_growing:
        return "still_indexing"
    if any(row.wanted for row in rows):
        return "no_text"
    return "filtered_out" if any(row.shown for row in rows) else "no_documents"


def only(library: Library, table: str, *, filtered: bool = True) -> str:
    """Return an SQL condition that limits `table` to documents a search may return, or "" if it may return all.

    The condition costs one lookup for each passage. If a document is deleted after this check, its passages are left
    out later, when the found passages are read.
    """
    is_filtered = filtered and library.is_filtered
    if not is_filtered and not library.has_hidden:
        return ""
    asked = " and d.id = any(cast(:document_ids as integer[]))" if is_filtered else ""
    return f"and {table}.document_id in ({_READY}{asked})"


@cache
def statement(template: str, condition: str, *columns: str) -> TextualSelect:
    """Return the statement `template` with `condition` in the place of `{only}`.

    The columns are named so that SQLAlchemy need not find them out at each execution. That would take a fifth of the
    statement's time.
    """
    return text(template.format(only=condition)).columns(*map(column, columns))


_READY = "select d.id from documents d where d.user_id = :user_id and d.status = 'ready' and d.deleted_at is null"

_LIBRARY = text(
    """
    with mine as (
        select d.language, d.chunks, d.words, d.deleted_at is null as shown,
               d.deleted_at is null and d.status = 'ready' as ready,
               d.deleted_at is null and d.status in ('pending', 'processing') as growing,
               cast(:document_ids as integer[]) is null or d.id = any(cast(:document_ids as integer[])) as wanted
        from documents d where d.user_id = :user_id
    )
    select language, coalesce(sum(chunks) filter (where ready), 0) as passages,
           coalesce(sum(words) filter (where ready), 0) as words,
           coalesce(sum(chunks) filter (where ready and wanted), 0) as sought,
           bool_or(shown) as shown, bool_or(shown and wanted) as wanted, bool_or(growing and wanted) as growing,
           bool_or(chunks > 0 and not ready) as hidden
    from mine group by language
    """
)
