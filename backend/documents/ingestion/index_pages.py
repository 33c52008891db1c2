"""Index a document: cut its pages into passages, embed the passages, and store them, one transaction per batch.

After an interruption, indexing continues at the place where the last stored passage ends.
"""

from collections.abc import Iterator

from sqlalchemy import text

from backend.documents.embedding.current import Current, Embeddings, current_model
from backend.documents.embedding.embedder import prefixed
from backend.documents.ingestion.attempt import Attempt, Interrupted, IsOtherWaiting, Paused, Stopped, step
from backend.documents.ingestion.chunking import Passage, cut, follow
from backend.documents.reading.reader import Heading, Page
from backend.documents.search.index import Index, IndexedPassage
from backend.errors import Unavailable
from backend.postgres.database import UTC, Database

BATCH_PASSAGES = 32
"""Passages that are embedded and committed together. An interruption loses at most one batch: a second of work."""
SLICE_PASSAGES = 2 * BATCH_PASSAGES
"""After this many passages, a few seconds of work, a document pauses if another user's document is waiting."""
PAGES_AT_ONCE = 20


class ModelSwapped(Unavailable):
    """Another embedding model came into use while a batch was being embedded."""

    code = "embedding_model_swapped"

    def __init__(self) -> None:
        super().__init__("Another embedding model came into use.", retry_after=1)


class PageIndexer:
    """Indexes documents, on the caller's thread."""

    def __init__(self, database: Database, embeddings: Embeddings) -> None:
        self._database = database
        self._embeddings = embeddings

    def index(self, work: Attempt, is_stopped: Stopped, is_other_waiting: IsOtherWaiting = lambda: False) -> None:
        """Cut, embed and store the part of a document that is not indexed yet.

        After each slice of `SLICE_PASSAGES` passages, `is_other_waiting` is called.

        Raises:
            EmbeddingRefused: The model cannot be used as it is configured.
            LeaseLost: Another process works on the document now, or the document is gone.
            Paused: `is_other_waiting` returned true. The passages indexed so far are kept.
            Unavailable: The document cannot be finished now.
        """
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
                if (indexed - work.chunks) % SLICE_PASSAGES == 0 and is_other_waiting():
                    raise Paused
        if batch:
            self._add(work, batch, is_stopped, first=indexed, pages_cut=batch[-1][0].number)

    def _passages(self, work: Attempt) -> Iterator[tuple[Page, Passage]]:
        """Yield the passages that are not indexed yet, each with its page.

        A new model may cut passages to other lengths. The point to continue from is therefore a place in the text, not
        a number of passages. The pages before this place are read only for their headings, which may still apply.
        """
        path: list[tuple[int, str]] = []
        embedder = self._embeddings.current().embedder
        title = work.title or work.filename
        place = self._indexed_up_to(work)
        for page in self._pages(work):
            if page.number <= work.pages_cut:
                follow(page, path)
                continue
            for passage in cut(page, title=title, path=path, embedder=embedder):
                rest = _after(passage, place) if page.number == work.pages_cut + 1 else passage
                if rest is not None:
                    yield page, rest

    def _indexed_up_to(self, work: Attempt) -> int:
        """Return the place up to which the first unfinished page is indexed, in characters."""
        with self._database.transaction(work.lease.user_id) as session:
            end = session.execute(
                text(
                    'select coalesce(max("end"), 0) from chunks '
                    "where user_id = :user_id and document_id = :id and page = :page"
                ),
                {"user_id": work.lease.user_id, "id": work.lease.id, "page": work.pages_cut + 1},
            ).scalar_one()
        return int(end)

    def _pages(self, work: Attempt) -> Iterator[Page]:
        """Yield all pages. Pages that are fully indexed have headings but no text."""
        last = 0
        while True:
            with self._database.transaction(work.lease.user_id) as session:
                rows = session.execute(
                    text(
                        "select number, case when number > :cut then content else '' end as content, headings, "
                        "is_scanned from document_pages "
                        "where user_id = :user_id and document_id = :id and number > :last order by number limit :most"
                    ),
                    {
                        "user_id": work.lease.user_id,
                        "id": work.lease.id,
                        "cut": work.pages_cut,
                        "last": last,
                        "most": PAGES_AT_ONCE,
                    },
                ).all()
            for row in rows:
                yield Page(row.number, row.content, tuple(Heading(**each) for each in row.headings), row.is_scanned)
                last = row.number
            if not rows:
                return

    def _add(
        self, work: Attempt, batch: list[tuple[Page, Passage]], is_stopped: Stopped, *, first: int, pages_cut: int
    ) -> None:
        """Embed and store a batch of passages, numbered from `first`."""
        try:
            current = self._embeddings.current()
            self._keep(work, batch, current, _embedded(batch, current, is_stopped), first=first, pages_cut=pages_cut)
        except ModelSwapped:
            current = self._embeddings.current(refresh=True)
            self._keep(work, batch, current, _embedded(batch, current, is_stopped), first=first, pages_cut=pages_cut)

    def _keep(
        self,
        work: Attempt,
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
        with self._database.scope(work.lease.user_id, UTC) as scope:
            # The step comes first because it locks the document's row.
            step(scope.session, work.lease, "pages_cut = :pages_cut", pages_cut=pages_cut)
            added = Index(scope).add(
                int(work.lease.id), language=work.language, model_id=current.model_id, passages=passages
            )
            if current_model(scope.session)[0] != current.model_id:
                raise ModelSwapped
            step(
                scope.session,
                work.lease,
                "chunks = chunks + :chunks, words = words + :words",
                chunks=added.chunks,
                words=added.words,
            )


def _embedded(batch: list[tuple[Page, Passage]], current: Current, is_stopped: Stopped) -> list[list[float]]:
    """Embed a batch, a few passages at a time, so that a process can stop before the whole batch is embedded."""
    texts = [prefixed(passage.headings, passage.text) for _, passage in batch]
    vectors: list[list[float]] = []
    while len(vectors) < len(texts):
        if is_stopped():
            raise Interrupted
        some = texts[len(vectors) : len(vectors) + current.embedder.at_once]
        vectors += current.embedder.embed(some, "passage")
    return vectors


def _after(passage: Passage, place: int) -> Passage | None:
    """Return the part of a passage that comes after a place in its page, or None if there is no such part."""
    if passage.start >= place:
        return passage
    rest = passage.text[place - passage.start :].lstrip()
    return Passage(passage.end - len(rest), passage.end, rest, passage.headings) if rest else None
