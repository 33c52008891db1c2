"""Ingestion from a PDF to a searchable document: passages per second of CPU, and memory."""

import hashlib
import io
import multiprocessing
import os
import resource
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.documents.embedding.choose import embedder
from backend.documents.embedding.current import Embeddings
from backend.documents.embedding.embedder import Embedder, Kind
from backend.documents.ingestion.attempt import begin
from backend.documents.ingestion.ingestor import Ingestor
from backend.documents.models import DOCUMENTS
from backend.documents.quota import KeepingRules
from backend.documents.reading.reader import Limits
from backend.documents.repository import DocumentRepository, NewFile
from backend.jobs.leases import Leases
from backend.log import configure
from backend.postgres.database import Database
from bench.retrieval.costs import cpu_seconds
from bench.retrieval.shelves import ZONE, Shelves

CHARACTERS = 900
LINE = 90
SECONDS = 3_600.0


@dataclass
class Reading:
    """The ingestion of one document in a process of its own."""

    pages: int
    passages: int = 0
    status: str = ""
    embedding: float = 0.0
    """Seconds of CPU used for embedding."""
    rest: float = 0.0
    """Seconds of CPU used for everything else: parsing in the child, chunking, this process, and its database
    connection."""
    megabytes: float = 0.0
    """The most memory that the process held, in MB."""

    @property
    def per_second(self) -> float:
        """Passages per second of CPU."""
        return self.passages / (self.embedding + self.rest)

    @property
    def rest_share(self) -> float:
        """The share of the CPU that is not used for embedding."""
        return self.rest / (self.embedding + self.rest)


class Timed:
    """An embedder that counts the seconds of CPU it uses."""

    def __init__(self, of: Embedder) -> None:
        """Wrap a model."""
        self.id, self.dim, self.max_tokens = of.id, of.dim, of.max_tokens
        self.unrelated, self.at_once = of.unrelated, of.at_once
        self.seconds = 0.0
        self._of = of

    def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Embed the texts and count the CPU."""
        began = time.process_time()
        try:
            return self._of.embed(texts, kind)
        finally:
            self.seconds += time.process_time() - began

    def count(self, text: str) -> int:
        """Count a text's tokens, which is part of chunking."""
        return self._of.count(text)


def reading(shelves: Shelves, words: str, *, pages: int, model: str) -> Reading:
    """Ingest a PDF with this many pages, each of which makes one passage, and return what it took."""
    user = f"reader of {pages}"
    shelves.add_user(user)
    # Reversed, so that it has none of the book's words.
    _file(shelves, user, "first.pdf", pdf(words[::-1], 1))
    _file(shelves, user, "book.pdf", pdf(words, pages))
    queue: multiprocessing.Queue[Reading] = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_ingest, args=(shelves.url, pages, model, queue))
    process.start()
    try:
        return queue.get(timeout=SECONDS)
    finally:
        process.join(30)


def pdf(words: str, pages: int) -> bytes:
    """Return a PDF with this many pages of about 900 characters of text each."""
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]  # It has no types.

    text = " ".join(words.encode("latin-1", errors="ignore").decode("latin-1").split())
    lines = textwrap.wrap(text, LINE)
    of_a_page = CHARACTERS // LINE
    file = io.BytesIO()
    canvas = Canvas(file)
    for page in range(pages):
        drawn = canvas.beginText(50, 780)
        for place in range(of_a_page):
            drawn.textLine(lines[(page * of_a_page + place) % len(lines)])
        canvas.drawText(drawn)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _file(shelves: Shelves, user: str, name: str, content: bytes) -> None:
    file = NewFile(
        filename=name,
        original_filename=name,
        content_type="application/pdf",
        file_size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    with shelves.user(user) as scope:
        DocumentRepository(scope).keep(file, [content], KeepingRules())


def _ingest(url: str, pages: int, model: str, queue: "multiprocessing.Queue[Reading]") -> None:
    configure("WARNING")
    database = Database(pool_size=1)
    database.open(url)
    embeddings = Embeddings(database, lambda name: embedder(name, keys={}, base_url=None, timeout_seconds=60))
    timed = Timed(embeddings.embedder(model))
    embeddings = Embeddings(database, lambda _name: timed)
    ingestor = Ingestor(database, embeddings, limits=Limits(), keeps_originals=True)
    leases = Leases(database, DOCUMENTS, seconds=SECONDS)
    with database.transaction(None) as session:
        backend = session.connection().connection.driver_connection.get_backend_pid()  # type: ignore[union-attr]
    # What a process loads once, with its first document, does not count for the second.
    first = leases.claim(begin)
    assert first is not None  # noqa: S101  # Both documents were just added.
    ingestor.ingest(first, lambda: False)
    timed.seconds = 0.0
    started = _spent(backend)
    work = leases.claim(begin)
    assert work is not None  # noqa: S101
    found = Reading(pages, status=ingestor.ingest(work, lambda: False))
    found.embedding = timed.seconds
    found.rest = _spent(backend) - started - timed.seconds
    found.megabytes = _most_megabytes()
    with database.scope(work.lease.user_id, ZONE) as scope:
        found.passages = DocumentRepository(scope).get(int(work.lease.id)).chunks
    queue.put(found)


def _most_megabytes() -> float:
    """Return the most memory that this process held, in MB.

    If the kernel does not report it directly, its parent's memory may be included.
    """
    told = Path("/proc/self/status")
    if told.exists():
        [peak] = [line.split()[1] for line in told.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peak) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _spent(backend: int) -> float:
    """Return the seconds of CPU of this process, its children and the server process of its connection."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds(os.getpid()) + children.ru_utime + children.ru_stime + cpu_seconds(backend)
