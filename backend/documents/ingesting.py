"""One document's ingestion: its bytes become pages, its pages passages, each batch in a transaction of its own.

What is committed is never done again: pages are read from the first that is not stored, and passages are embedded from
the place in the text up to which it is indexed.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlmodel import Session

from backend.database import Database
from backend.documents.chunking import Passage, cut, prefixed
from backend.documents.embeddings import Current, Embeddings, current_model
from backend.documents.index import Index, IndexedPassage
from backend.documents.language import language_of
from backend.documents.reading import About, Heading, Limits, Page, Unreadable, read
from backend.errors import DocuTalkError, Unavailable
from backend.leases import MOST_FRUITLESS_ATTEMPTS, Lease, LeaseLost

BATCH_PASSAGES = 16
"""Passages that are embedded and committed at once: about a second of work, which is lost at most."""
BATCH_PAGES = 20
BATCH_CHARACTERS = 200_000
"""Pages are stored as soon as so many, or so much text, have been read."""
LANGUAGE_CHARACTERS = 3_000

Stopped = Callable[[], bool]
"""Tells whether the work is to stop."""

_ZONE = ZoneInfo("UTC")
_SEEN = "filename, content_type, title, language, is_read, has_pages, pages_read, pages_cut, chunks"
_FENCE = "user_id = :user_id and id = :id and attempt = :attempt and ended_at is null and deleted_at is null"


class ModelSwapped(Unavailable):
    """Another embedding model came into use in between."""

    code = "embedding_model_swapped"

    def __init__(self) -> None:
        super().__init__("Another embedding model came into use.", retry_after=1)


class Interrupted(Unavailable):
    """The work was told to stop."""

    code = "ingestion_interrupted"

    def __init__(self) -> None:
        super().__init__("The work was told to stop.", retry_after=1)


@dataclass(frozen=True, slots=True)
class Ingesting:
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

    @property
    def name(self) -> str:
        """The name by which its row is known across users."""
        return f"{self.lease.user_id} {self.lease.id}"


class Ingestor:
    """Does the work of ingestion, on the thread of whoever calls."""

    def __init__(self, database: Database, embeddings: Embeddings, *, limits: Limits, keeps_originals: bool) -> None:
        """Take the parts."""
        self._database = database
        self._embeddings = embeddings
        self._limits = limits
        self._keeps_originals = keeps_originals

    def are_left(self) -> bool:
        """Tell whether any document of anybody is still to be ingested."""
        with self._database.transaction(None) as session:
            return bool(session.execute(text("select is_any_document_left()")).scalar_one())

    def begin(self, session: Session, lease: Lease) -> Ingesting:
        """Begin an attempt at a document, in the transaction that claimed it."""
        row = session.execute(
            text(
                "update documents set status = 'processing', updated_at = now() "  # noqa: S608
                f"where user_id = :user_id and id = :id returning {_SEEN}"
            ),
            {"user_id": lease.user_id, "id": lease.id},
        ).one()
        return Ingesting(lease, **row._mapping)

    def ingest(self, work: Ingesting, is_stopped: Stopped) -> str:
        """Go on with a document until it is ready or failed, and return which.

        Raises:
            LeaseLost: Somebody else works on it now, or it is gone.
            Unavailable: It cannot be finished now.
        """
        try:
            if work.lease.is_hopeless:
                raise Unreadable(
                    f"It could not be read: {MOST_FRUITLESS_ATTEMPTS} attempts came to nothing. "
                    "Upload it again, or in another format."
                )
            if not work.is_read:
                work = self._read(work, is_stopped)
            self._index(work, is_stopped)
        except (LeaseLost, Unavailable):
            raise
        except DocuTalkError as error:
            self._end(work, status="failed", reason=str(error))
            return "failed"
        self._end(work, status="ready", reason=None)
        return "ready"

    def crashed(self, work: Ingesting) -> None:
        """Say of a document that a defect of ours kept it from being read."""
        self._end(
            work,
            status="failed",
            reason="Something went wrong on our side while reading it. Upload it again, or in another format.",
        )

    def spare(self, lease: Lease) -> None:
        """Let an attempt that failed by no fault of the document's not lead to its being given up."""
        with self._database.transaction(lease.user_id) as session:
            session.execute(
                text(f"update documents set fruitless = least(fruitless, :most) where {_FENCE}"),  # noqa: S608
                {
                    "user_id": lease.user_id,
                    "id": lease.id,
                    "attempt": lease.attempt,
                    "most": MOST_FRUITLESS_ATTEMPTS - 1,
                },
            )

    def _read(self, work: Ingesting, is_stopped: Stopped) -> Ingesting:
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
            row = self._step(
                session,
                work.lease,
                "is_read = true, pages = pages_read, language = :language",
                language=language_of(sample[:LANGUAGE_CHARACTERS]),
            )
        return Ingesting(work.lease, **row)

    def _fetch(self, work: Ingesting, path: Path) -> None:
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

    def _store_pages(self, work: Ingesting, path: Path, is_stopped: Stopped) -> None:
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

    def _note(self, work: Ingesting, about: About) -> None:
        with self._database.transaction(work.lease.user_id) as session:
            self._step(
                session,
                work.lease,
                "pages = :pages, has_pages = :has_pages, title = case when title = '' then :title else title end",
                # Each attempt comes as far as this.
                is_progress=False,
                pages=about.pages,
                has_pages=about.has_pages,
                title=about.title[:200],
            )

    def _store(self, work: Ingesting, pages: list[Page]) -> None:
        if not pages:
            return
        with self._database.transaction(work.lease.user_id) as session:
            # The fence comes first: it locks the row, so that nobody takes the document over in between.
            self._step(session, work.lease, "pages_read = :pages_read", pages_read=pages[-1].number)
            session.execute(
                text(
                    "insert into document_pages (user_id, document_id, number, content, headings, is_scanned) "
                    "values (:user_id, :id, :number, :content, cast(:headings as json), :is_scanned)"
                ),
                [_row(work.lease, page) for page in pages],
            )

    def _index(self, work: Ingesting, is_stopped: Stopped) -> None:
        batch: list[tuple[Page, Passage]] = []
        indexed = work.chunks
        for page, passage in self._passages(work):
            if is_stopped():
                raise Interrupted
            batch.append((page, passage))
            if len(batch) == BATCH_PASSAGES:
                self._add(work, batch, is_stopped, first=indexed, pages_cut=page.number - 1)
                indexed += len(batch)
                batch = []
        if batch:
            self._add(work, batch, is_stopped, first=indexed, pages_cut=batch[-1][0].number)

    def _passages(self, work: Ingesting) -> Iterator[tuple[Page, Passage]]:
        """Yield the passages that are not indexed.

        They may be cut otherwise than those that are, by another model's limits: so where to go on is a place in the
        text, and not a number of passages. Pages before it are cut too, for the headings that are open behind them.
        """
        path: list[tuple[int, str]] = []
        embedder = self._embeddings.current().embedder
        title = work.title or work.filename
        place = self._indexed_up_to(work)
        for page in self._pages(work):
            for passage in cut(page, title=title, path=path, embedder=embedder):
                rest = _after(passage, place) if page.number == work.pages_cut + 1 else passage
                if rest is not None and page.number > work.pages_cut:
                    yield page, rest

    def _indexed_up_to(self, work: Ingesting) -> int:
        """Return the place in the first page that is not all indexed up to which it is."""
        with self._database.transaction(work.lease.user_id) as session:
            end = session.execute(
                text(
                    'select coalesce(max("end"), 0) from chunks '
                    "where user_id = :user_id and document_id = :id and page = :page"
                ),
                {"user_id": work.lease.user_id, "id": work.lease.id, "page": work.pages_cut + 1},
            ).scalar_one()
        return int(end)

    def _pages(self, work: Ingesting) -> Iterator[Page]:
        last = 0
        while True:
            with self._database.transaction(work.lease.user_id) as session:
                rows = session.execute(
                    text(
                        "select number, content, headings, is_scanned from document_pages "
                        "where user_id = :user_id and document_id = :id and number > :last order by number limit :most"
                    ),
                    {"user_id": work.lease.user_id, "id": work.lease.id, "last": last, "most": BATCH_PAGES},
                ).all()
            for row in rows:
                yield Page(row.number, row.content, tuple(Heading(**each) for each in row.headings), row.is_scanned)
                last = row.number
            if not rows:
                return

    def _add(
        self, work: Ingesting, batch: list[tuple[Page, Passage]], is_stopped: Stopped, *, first: int, pages_cut: int
    ) -> None:
        """Embed and index a batch, whose first passage gets the number `first`."""
        try:
            current = self._embeddings.current()
            self._keep(work, batch, current, _embedded(batch, current, is_stopped), first=first, pages_cut=pages_cut)
        except ModelSwapped:
            current = self._embeddings.current(anew=True)
            self._keep(work, batch, current, _embedded(batch, current, is_stopped), first=first, pages_cut=pages_cut)

    def _keep(
        self,
        work: Ingesting,
        batch: list[tuple[Page, Passage]],
        current: Current,
        vectors: list[list[float]],
        *,
        first: int,
        pages_cut: int,
    ) -> None:
        passages = [
            IndexedPassage(
                page=page.number,
                page_number=page.number if work.has_pages else None,
                chunk_index=number,
                start=passage.start,
                end=passage.end,
                content=passage.text,
                headings=passage.headings,
                vector=vector,
            )
            for number, ((page, passage), vector) in enumerate(zip(batch, vectors, strict=True), first)
        ]
        with self._database.scope(work.lease.user_id, _ZONE) as scope:
            # The fence comes first here too.
            self._step(scope.session, work.lease, "pages_cut = :pages_cut", pages_cut=pages_cut)
            added = Index(scope).add(
                int(work.lease.id), language=work.language, model_id=current.model_id, passages=passages
            )
            if current_model(scope.session)[0] != current.model_id:
                raise ModelSwapped
            self._step(
                scope.session,
                work.lease,
                "chunks = chunks + :chunks, words = words + :words",
                chunks=added.chunks,
                words=added.words,
            )

    def _step(
        self, session: Session, lease: Lease, change: str, *, is_progress: bool = True, **values: Any
    ) -> dict[str, Any]:
        """Change the document's row as a step of this attempt, which was not in vain if that is progress.

        Returns the row.

        Raises:
            LeaseLost: It is somebody else's now, or the row is gone.
        """
        row = session.execute(
            text(
                f"update documents set {change}, fruitless = case when :is_progress then 0 else fruitless end, "  # noqa: S608
                f"updated_at = now() where {_FENCE} returning {_SEEN}"
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
        return dict(row._mapping)

    def _end(self, work: Ingesting, *, status: str, reason: str | None) -> None:
        with self._database.transaction(work.lease.user_id) as session:
            self._step(
                session,
                work.lease,
                "status = :status, reason = :reason, ended_at = now(), lease_owner = null, lease_until = null, "
                "pages_cut = case when :status = 'ready' then pages_read else pages_cut end",
                status=status,
                reason=reason,
            )
            if not self._keeps_originals:
                named = {"user_id": work.lease.user_id, "id": work.lease.id}
                session.execute(
                    text("delete from document_bytes where user_id = :user_id and document_id = :id"), named
                )
                session.execute(
                    text("update documents set is_original_kept = false where user_id = :user_id and id = :id"), named
                )


def _embedded(batch: list[tuple[Page, Passage]], current: Current, is_stopped: Stopped) -> list[list[float]]:
    """Embed a batch, a few passages at a time, so that a process that goes down need not wait for all of them."""
    texts = [prefixed(passage.headings, passage.text) for _, passage in batch]
    vectors: list[list[float]] = []
    while len(vectors) < len(texts):
        if is_stopped():
            raise Interrupted
        some = texts[len(vectors) : len(vectors) + current.embedder.at_once]
        vectors += current.embedder.embed(some, "passage")
    return vectors


def _after(passage: Passage, place: int) -> Passage | None:
    """Return what of a passage stands after a place in its page; None if that is nothing."""
    if passage.start >= place:
        return passage
    rest = passage.text[place - passage.start :].lstrip()
    return Passage(passage.end - len(rest), passage.end, rest, passage.headings) if rest else None


def _row(lease: Lease, page: Page) -> dict[str, Any]:
    headings = [{"start": each.start, "level": each.level, "title": each.title} for each in page.headings]
    return {
        "user_id": lease.user_id,
        "id": lease.id,
        "number": page.number,
        "content": page.text,
        "headings": json.dumps(headings, ensure_ascii=False),
        "is_scanned": page.is_scanned,
    }
