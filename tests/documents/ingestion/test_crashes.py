"""Processes are killed and told to go down in the middle of a document; another one goes on from what is committed."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.postgres.embedded import EmbeddedPostgres
from tests.conftest import signed_in_guest, wait_until
from tests.documents.desk import Shelf
from tests.documents.files import pdf
from tests.own_database import OwnDatabase, own_database
from tests.process import Process, started

pytestmark = pytest.mark.slow

WORKER = (sys.executable, "-m", "backend.cli", "worker")
LEASE_SECONDS = 2
PARAGRAPH = (
    "On page {} of the log the keeper of the northern lighthouse notes wind, tide, fog and every ship in sight. "
)
PAGES = 600
"""Of a PDF that takes some seconds to read and a minute to embed."""


@pytest.fixture(scope="module")
def log_book() -> bytes:
    """A PDF that takes a while."""
    return pdf(*("\n".join([PARAGRAPH.format(number)] * 14) for number in range(1, PAGES + 1)))


@pytest.fixture
def own(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[OwnDatabase]:
    with own_database(cluster, template, f"crashes_{worker_id}") as made:
        yield made


@pytest.fixture
def settings(own: OwnDatabase) -> dict[str, Any]:
    """What the processes are given."""
    return {
        "DATABASE_URL": own.url,
        "MIGRATE_ON_START": "false",
        "LEASE_SECONDS": LEASE_SECONDS,
        "MODEL": "offline",
        "GUEST_TURNS_PER_DAY": 0,
        "MAX_UPLOAD_BYTES": 100_000_000,
    }


@pytest.fixture
def shelf(own: OwnDatabase) -> Shelf:
    return Shelf(own.superuser_url)


def uploaded(guest: httpx.Client, content: bytes, name: str = "log.pdf") -> int:
    return int(guest.post("/api/documents", files=[("file", (name, content))]).raise_for_status().json()["id"])


def state(shelf: Shelf) -> tuple[Any, ...]:
    """Return how far the only document is."""
    [row] = shelf.ask("select status, is_read, pages_read, chunks, attempt from documents order by id limit 1")
    return row


def is_reading(shelf: Shelf) -> bool:
    _, is_read, pages_read, _, _ = state(shelf)
    return not is_read and 0 < pages_read < PAGES


def is_indexing(shelf: Shelf) -> bool:
    _, is_read, _, chunks, _ = state(shelf)
    return bool(is_read and chunks >= 32)


def children_of(process: Process) -> list[int]:
    """List the processes that a process has started."""
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
    others = Path(f"/proc/{process.popen.pid}/task").glob("*/children")
    return [*map(int, {*children, *(pid for place in others for pid in place.read_text().split())})]


def shrunk(shelf: Shelf) -> None:
    """Leave out most pages that have no passages yet, so that a test need not wait for all of them."""
    shelf.ask(
        "with d as (update documents set pages = pages_cut + 8, pages_read = pages_cut + 8 where is_read "
        "and pages_read > pages_cut + 8 returning user_id, id, pages) "
        "delete from document_pages p using d where p.user_id = d.user_id and p.document_id = d.id "
        "and p.number > d.pages"
    )


@pytest.mark.spec("ING-16")
@pytest.mark.parametrize(
    ("moment", "command"),
    [
        pytest.param(is_reading, (), id="reading-serve"),
        pytest.param(is_indexing, WORKER, id="indexing-worker"),
        pytest.param(is_reading, WORKER, id="reading-worker", marks=pytest.mark.long),
        pytest.param(is_indexing, (), id="indexing-serve", marks=pytest.mark.long),
    ],
)
def test_after_a_kill_another_process_goes_on_from_what_is_committed(
    tmp_path: Path,
    shelf: Shelf,
    settings: dict[str, Any],
    log_book: bytes,
    moment: Callable[[Shelf], bool],
    command: tuple[str, ...],
) -> None:
    with started(tmp_path, name="first", **settings) as first:
        first.wait_serving()
        with signed_in_guest(first.url) as guest:
            user_id, document_id = guest.get("/api/me").json()["id"], uploaded(guest, log_book)
        wait_until(lambda: moment(shelf), seconds=60)
        children = children_of(first)
        first.kill()
    before = state(shelf)
    # The child that reads ends with its parent, in whatever it is.
    assert bool(children) == (moment is is_reading)
    wait_until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists() and is_alive(pid)], seconds=5)
    assert before[0] == "processing"
    pages = shelf.ask("select number, md5(content), xmin::text from document_pages order by number")
    passages = shelf.ask("select id, md5(content), xmin::text from chunks order by id")

    with started(tmp_path, *command, name="second", **settings) as second:
        wait_until(lambda: state(shelf)[1], seconds=90)
        wait_until(lambda: state(shelf)[3] > before[3], seconds=90)
        assert second.stop(signal.SIGTERM) == 0
    shrunk(shelf)
    with started(tmp_path, *command, name="third", **settings):
        wait_until(lambda: state(shelf)[0] == "ready", seconds=120)

    chunks = shelf.assert_whole(user_id, document_id)
    assert chunks >= before[3]
    # What was committed before the kill is the very rows that are there now.
    kept = shelf.ask("select number, md5(content), xmin::text from document_pages order by number")
    assert kept[: len(pages)] == pages[: len(kept)]
    assert shelf.ask("select id, md5(content), xmin::text from chunks order by id")[: len(passages)] == passages


@pytest.mark.long
@pytest.mark.spec("ING-18")
def test_after_a_kill_in_a_pause_both_documents_are_finished(
    tmp_path: Path, shelf: Shelf, settings: dict[str, Any], log_book: bytes
) -> None:
    owners = []
    with started(tmp_path, name="first", **settings) as first:
        first.wait_serving()
        with signed_in_guest(first.url) as anna, signed_in_guest(first.url) as ben:
            for guest, content in ((anna, log_book), (ben, pdf(*[PARAGRAPH.format(1) * 14] * 40))):
                owners.append((guest.get("/api/me").json()["id"], uploaded(guest, content)))
                wait_until(lambda: is_indexing(shelf), seconds=90)
        paused = "select 1 from documents where user_id = %s and status = 'pending' and chunks > 0"
        wait_until(lambda: shelf.ask(paused, owners[0][0]), seconds=90)
        first.kill()
    rows = "select user_id, id, md5(content), xmin::text from chunks"
    before = set(shelf.ask(rows))
    shrunk(shelf)

    with started(tmp_path, *WORKER, name="second", **settings):
        wait_until(lambda: shelf.ask("select status from documents") == [("ready",)] * 2, seconds=180)

    assert len(before) >= 64
    assert before <= set(shelf.ask(rows))
    assert sum(shelf.assert_whole(*owner) for owner in owners) == len(shelf.ask(rows))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.spec("ING-8")
@pytest.mark.parametrize(
    ("moment", "is_worker"),
    [
        pytest.param(is_indexing, False, id="indexing-serve"),
        pytest.param(is_reading, True, id="reading-worker"),
        pytest.param(is_reading, False, id="reading-serve", marks=pytest.mark.long),
        pytest.param(is_indexing, True, id="indexing-worker", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_a_process_in_the_middle_of_a_document_within_ten_seconds(
    tmp_path: Path,
    shelf: Shelf,
    settings: dict[str, Any],
    log_book: bytes,
    moment: Callable[[Shelf], bool],
    is_worker: bool,
) -> None:
    aside = {"MAX_CONCURRENT_INGESTIONS": 0} if is_worker else {}
    with started(tmp_path, name="service", **(settings | aside)) as service:
        service.wait_serving()
        with signed_in_guest(service.url) as guest:
            uploaded(guest, log_book)
        if not is_worker:
            wait_until(lambda: moment(shelf), seconds=60)
            status = service.stop(signal.SIGTERM)
        else:
            with started(tmp_path, *WORKER, name="worker", **settings) as worker:
                wait_until(lambda: moment(shelf), seconds=90)
                status = worker.stop(signal.SIGTERM)

    assert status == 0
    [left] = shelf.ask("select status, lease_owner, lease_until, fruitless from documents")
    assert left == ("pending", None, None, 0)


@pytest.mark.spec("ING-17")
def test_the_service_answers_while_a_large_document_is_ingested(
    tmp_path: Path, shelf: Shelf, settings: dict[str, Any], log_book: bytes
) -> None:
    answered = 0

    def answers_and_indexes() -> bool:
        nonlocal answered
        assert guest.get("/health").status_code == 200
        reply = guest.post("/api/chat", json={"message": "Show me all my tasks"}).raise_for_status().json()
        assert (reply["status"], "milk" in reply["response"].lower()) == ("completed", True)
        answered += 1
        return answered >= 10 and is_indexing(shelf)

    with started(tmp_path, **settings) as service:
        service.wait_serving()
        with signed_in_guest(service.url) as guest:
            guest.post("/api/chat", json={"message": "Add a task to buy milk"}).raise_for_status()
            uploaded(guest, log_book)
            wait_until(lambda: is_reading(shelf), seconds=60)
            wait_until(answers_and_indexes, seconds=180)
            # Had the answers waited for the document, it would be ready by now.
            assert state(shelf)[0] == "processing"
        assert service.popen.poll() is None
