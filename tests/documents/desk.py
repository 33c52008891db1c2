"""Ingestion in a separate database, with embedders, files and timing chosen by each test."""

import asyncio
import hashlib
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from anyio.to_thread import run_sync

from backend.documents.embedding.current import Embeddings
from backend.documents.embedding.embedder import Embedder, Kind
from backend.documents.embedding.models.bundled import BundledEmbedder
from backend.documents.embedding.models.known import UNRELATED
from backend.documents.ingestion.index_pages import BATCH_PASSAGES
from backend.documents.ingestion.ingestor import Ingestor
from backend.documents.ingestion.worker import IngestionWorker
from backend.documents.language import UNSURE
from backend.documents.models import DOCUMENTS
from backend.documents.purge import Purge
from backend.documents.quota import KeepingRules
from backend.documents.reading.reader import Limits
from backend.documents.repository import SLICE_BYTES, DocumentRepository, NewFile
from backend.identity.caller import Caller
from backend.jobs.housekeeping import Chore, Housekeeper
from backend.jobs.leases import Leases
from backend.postgres.database import Database, Scope
from tests.conftest import query, wait_until
from tests.documents.files import TEXT
from tests.documents.indexed import ENTRY

BUNDLED = BundledEmbedder()
"""Shared by all tests, because loading it takes a second."""
UTC = ZoneInfo("UTC")
SENTENCE = "The keeper of lighthouse number {} writes down the wind, the tide and every passing ship of the day. "


def long_text(passages: int) -> str:
    """Return a text that is divided into about this many passages."""
    return "\n\n".join((SENTENCE * 8).format(*[number] * 8) for number in range(passages))


class TinyEmbedder:
    """Eight dimensions, computed at once; it can be delayed and can fail, like a provider."""

    max_tokens = 256
    unrelated: ClassVar = {UNSURE: UNRELATED}
    at_once = BATCH_PASSAGES
    dim = 8

    def __init__(self, name: str = "tiny", *, before: Callable[[int], None] = lambda _calls: None) -> None:
        """`before` is called with the number of each call, from 1, and may wait or raise."""
        self.id = name
        self.calls = 0
        self.texts: list[str] = []
        self._before = before

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:  # noqa: ARG002  # The same for both.
        """Return a vector for each text, computed from its letters."""
        self.calls += 1
        self._before(self.calls)
        self.texts += texts
        return [_unit([1 + sum(map(ord, text[place :: self.dim])) % 97 for place in range(self.dim)]) for text in texts]

    def count(self, text: str) -> int:
        """Return the approximate number of a text's tokens."""
        return len(text) // 4 + 1


def _unit(values: list[int]) -> list[float]:
    length = math.hypot(*values)
    return [value / length for value in values]


@dataclass
class Held:
    """Blocks a thread at its n-th call until the thread is released."""

    at: int
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, calls: int) -> None:
        """Wait, if it is this call."""
        if calls == self.at:
            self.reached.set()
            assert self.let_go.wait(30), "Nobody let go."

    async def until_reached(self) -> None:
        """Wait until the thread is blocked."""
        assert await run_sync(self.reached.wait, 20), "The call was never made."


@dataclass
class Desk:
    """One process, as far as ingestion goes."""

    ingestor: Ingestor
    purge: Purge
    ingestion: IngestionWorker
    housekeeper: Housekeeper
    leases: Leases


def desk(
    database: Database,
    *,
    embedders: Sequence[Embedder] = (BUNDLED,),
    max_concurrent: int = 1,
    lease_seconds: float = 15,
    keeps_originals: bool = True,
    limits: Limits | None = None,
    forget: Callable[[Scope, int], bool] = lambda _scope, _id: True,
    keep_deleted: timedelta = timedelta(days=30),
) -> Desk:
    """Make the parts of a process; its loop is not running yet."""
    made = {one.id: one for one in embedders}
    ingestor = Ingestor(
        database,
        Embeddings(database, made.__getitem__),
        limits=limits or Limits(),
        keeps_originals=keeps_originals,
    )
    purge = Purge(database, keep_deleted=keep_deleted, forget=forget)
    leases = Leases(database, DOCUMENTS, seconds=lease_seconds)
    ingestion = IngestionWorker(ingestor, leases, max_concurrent=max_concurrent)
    chore = Chore("deleted_documents", purge.all_due, is_waiting=lambda: purge.is_put_off)
    housekeeper = Housekeeper(database, [chore], lease_seconds=lease_seconds)
    return Desk(ingestor, purge, ingestion, housekeeper, leases)


@asynccontextmanager
async def at_work(*desks: Desk) -> AsyncIterator[None]:
    """Let processes look for documents until the block ends."""
    looking = [asyncio.create_task(at.run()) for one in desks for at in (one.ingestion, one.housekeeper)]
    try:
        yield
    finally:
        for one in desks:
            await one.ingestion.stop()
            await one.housekeeper.stop()
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)


async def until(condition: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Return the condition's value as soon as it is true; the condition may query the database."""
    return await run_sync(partial(wait_until, condition, seconds=seconds))


def keep(
    database: Database,
    caller: Caller,
    content: str | bytes,
    *,
    name: str = "log.txt",
    content_type: str = TEXT,
    rules: KeepingRules | None = None,
) -> int:
    """Store a file as an upload does, and return its document's number."""
    data = content.encode() if isinstance(content, str) else content
    file = NewFile(
        filename=name,
        original_filename=name,
        content_type=content_type,
        file_size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    slices = [data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES)]
    with database.scope(caller.user_id, UTC) as scope:
        document, _ = DocumentRepository(scope).keep(file, slices, rules or KeepingRules())
        return document.id


@dataclass(frozen=True)
class Shelf:
    """Reads documents past the policies, as superuser."""

    url: str

    def ask(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run a statement as superuser."""
        return query(self.url, statement, *arguments)

    def row(self, caller: Caller, document_id: int, columns: str = "status, reason") -> tuple[Any, ...]:
        """Return columns of a document's row."""
        statement = f"select {columns} from documents where user_id = %s and id = %s"  # noqa: S608
        [row] = self.ask(statement, caller.user_id, document_id)
        return row

    def is_(self, status: str, caller: Caller, document_id: int) -> Callable[[], bool]:
        """Return a condition that is true when a document has this status."""
        return lambda: self.row(caller, document_id, "status")[0] == status

    def passages(self, caller: Caller, document_id: int) -> list[tuple[int, int | None, int, int, str]]:
        """Return index, page, start, end and text of a document's passages, in order."""
        return self.ask(
            'select chunk_index, page_number, start, "end", content from chunks '
            "where user_id = %s and document_id = %s order by chunk_index, id",
            caller.user_id,
            document_id,
        )

    def assert_whole(self, user_id: str, document_id: int) -> int:
        """Fail unless a ready document is completely indexed, exactly once; return the number of its passages."""
        mine = (user_id, document_id)
        [(status, is_read, pages, pages_read, pages_cut, chunks, words)] = self.ask(
            "select status, is_read, pages, pages_read, pages_cut, chunks, words from documents "
            "where user_id = %s and id = %s",
            *mine,
        )
        assert (status, is_read) == ("ready", True)
        assert pages == pages_read == pages_cut
        numbers = self.ask(
            "select number from document_pages where user_id = %s and document_id = %s order by 1", *mine
        )
        assert [number for (number,) in numbers] == list(range(1, pages + 1))
        passages = self.ask(
            'select c.chunk_index, c.id, c.content, c.start, c."end" from chunks c '
            "where user_id = %s and document_id = %s order by c.id",
            *mine,
        )
        assert [row[0] for row in passages] == list(range(chunks))
        assert len({(row[2], row[3], row[4], row[0]) for row in passages}) == chunks
        self._assert_covers(mine, passages)
        vectors = self.ask(
            "select chunk_id from chunk_vectors where user_id = %s and document_id = %s and model_id = "
            "(select id from embedding_models where is_current) order by 1",
            *mine,
        )
        assert [chunk_id for (chunk_id,) in vectors] == [row[1] for row in passages]
        rows = self.ask("select entries from postings where user_id = %s and document_id = %s", *mine)
        entries = [entry for (packed,) in rows for entry in ENTRY.iter_unpack(packed)]
        assert sum(count for _, count, _ in entries) == words
        assert sorted({chunk_id for chunk_id, _, _ in entries}) == [row[1] for row in passages]
        return int(chunks)

    def _assert_covers(self, mine: tuple[str, int], passages: list[tuple[Any, ...]]) -> None:
        """Fail unless the passages, in order, cover everything on the pages except blanks."""
        pages = self.ask(
            "select content from document_pages where user_id = %s and document_id = %s order by number", *mine
        )
        assert "".join("".join(row[2] for row in passages).split()) == "".join(
            "".join(content for (content,) in pages).split()
        )


def assert_rising(numbers: Sequence[int]) -> None:
    """Fail unless no number is less than the one before it."""
    assert all(one <= other for one, other in pairwise(numbers))


@contextmanager
def model_in_use(shelf: Shelf, name: str, dim: int) -> Iterator[int]:
    """Make a model the one in use until the block ends, and yield its id."""
    [(before,)] = shelf.ask("select id from embedding_models where is_current")
    use(shelf, name, dim)
    try:
        yield int(shelf.ask("select id from embedding_models where is_current")[0][0])
    finally:
        shelf.ask("update embedding_models set is_current = false where is_current")
        shelf.ask("update embedding_models set is_current = true where id = %s", before)


def use(shelf: Shelf, name: str, dim: int) -> None:
    """Make another model the one in use, as the end of a build does."""
    shelf.ask(
        "with old as (update embedding_models set is_current = false where is_current and name <> %s returning 1) "
        "select count(*) from old",
        name,
    )
    shelf.ask(
        "insert into embedding_models (name, dim, is_current) values (%s, %s, true) "
        "on conflict (name) do update set is_current = true",
        name,
        dim,
    )


def delete(database: Database, caller: Caller, document_id: int) -> None:
    with database.scope(caller.user_id, UTC) as scope:
        DocumentRepository(scope).delete(document_id)


def lapse(shelf: Shelf) -> None:
    """Make every lease expire, as those of a dead process do."""
    shelf.ask("update documents set lease_until = now() - interval '1 second' where lease_until is not null")
