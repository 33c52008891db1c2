"""Read a document's bytes into pages, from the first page that is not stored, in batches of one transaction each."""

import json
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import text

from backend.documents.ingestion.attempt import Attempt, Interrupted, Stopped, step
from backend.documents.language import language_of
from backend.documents.reading.reader import About, Heading, Limits, Page, Unreadable, read
from backend.postgres.database import Database

BATCH_PAGES = 20
BATCH_CHARACTERS = 200_000
"""A batch of pages is stored once it has `BATCH_PAGES` pages or this many characters."""
LANGUAGE_CHARACTERS = 3_000


class PageReader:
    """Reads documents, on the caller's thread."""

    def __init__(self, database: Database, *, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    def read(self, work: Attempt, is_stopped: Stopped) -> Attempt:
        """Store the pages that are not stored yet, and return the document, now marked as read.

        Raises:
            Unreadable: The file cannot be read, or has no text.
            LeaseLost: Another process works on the document now, or the document is gone.
            Unavailable: The document cannot be finished now.
        """
        with tempfile.TemporaryDirectory(prefix="docutalk-") as directory:
            path = Path(directory, "document")
            self._fetch(work, path)
            self._store_pages(work, path, is_stopped)
        with self._database.transaction(work.lease.user_id) as session:
            sample = session.execute(
                text(
                    "select coalesce(string_agg(content, ' ' order by number), '') from (select content, number "
                    "from document_pages where user_id = :user_id and document_id = :id and content ~ '[^[:space:]]' "
                    "order by number limit 20) as first"
                ),
                {"user_id": work.lease.user_id, "id": work.lease.id},
            ).scalar_one()
        if not sample.strip():
            raise Unreadable(
                "It has no text that could be searched: its pages are pictures, scanned perhaps. Run text recognition "
                "(OCR) on it and upload the result."
            )
        with self._database.transaction(work.lease.user_id) as session:
            return step(
                session,
                work.lease,
                "is_read = true, pages = pages_read, language = :language",
                language=language_of(sample[:LANGUAGE_CHARACTERS]),
            )

    def _fetch(self, work: Attempt, path: Path) -> None:
        with path.open("wb") as file:
            for number in range(1_000_000):
                with self._database.transaction(work.lease.user_id) as session:
                    piece = session.execute(
                        text(
                            "select content from document_bytes where user_id = :user_id and document_id = :id "
                            "and number = :number"
                        ),
                        {"user_id": work.lease.user_id, "id": work.lease.id, "number": number},
                    ).scalar_one_or_none()
                if piece is None:
                    return
                file.write(piece)

    def _store_pages(self, work: Attempt, path: Path, is_stopped: Stopped) -> None:
        batch: list[Page] = []
        size = 0
        first = work.pages_read + 1
        pages = read(path, work.content_type, from_page=first, limits=self._limits, is_stopped=is_stopped)
        with closing(pages):
            for item in pages:
                if is_stopped():
                    raise Interrupted
                if isinstance(item, About):
                    self._note(work, item)
                    continue
                batch.append(item)
                size += len(item.text)
                if len(batch) >= BATCH_PAGES or size >= BATCH_CHARACTERS:
                    self._store(work, batch)
                    batch, size = [], 0
        self._store(work, batch)

    def _note(self, work: Attempt, about: About) -> None:
        with self._database.transaction(work.lease.user_id) as session:
            step(
                session,
                work.lease,
                "pages = :pages, has_pages = :has_pages, title = case when title = '' then :title else title end",
                # Every attempt gets this far, even one that then fails, so this step is no progress.
                is_progress=False,
                pages=about.pages,
                has_pages=about.has_pages,
                title=about.title[:200],
            )

    def _store(self, work: Attempt, pages: list[Page]) -> None:
        if not pages:
            return
        with self._database.transaction(work.lease.user_id) as session:
            # The step comes first because it locks the document's row.
            step(session, work.lease, "pages_read = :pages_read", pages_read=pages[-1].number)
            session.execute(
                _PAGES,
                {
                    "user_id": work.lease.user_id,
                    "id": work.lease.id,
                    "numbers": [page.number for page in pages],
                    "contents": [page.text for page in pages],
                    "headings": [_as_json(page.headings) for page in pages],
                    "scanned": [page.is_scanned for page in pages],
                },
            )


def _as_json(headings: Iterable[Heading]) -> str:
    return json.dumps([asdict(heading) for heading in headings], ensure_ascii=False)


_PAGES = text(
    """
    insert into document_pages (user_id, document_id, number, content, headings, is_scanned)
    select :user_id, :id, p.number, p.content, cast(p.headings as json), p.is_scanned
    from unnest(
        cast(:numbers as integer[]), cast(:contents as text[]), cast(:headings as text[]), cast(:scanned as boolean[])
    ) as p (number, content, headings, is_scanned)
    """
)
