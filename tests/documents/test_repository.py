"""The repository of documents."""

import hashlib
import threading
from typing import Any

import pytest

from backend.documents.quota import KeepingRules, NoRoom, TooManyDocuments, in_words
from backend.documents.repository import DocumentNotFound, DocumentRepository, NewFile
from backend.identity.caller import Caller
from backend.postgres.database import Database, direct_connection
from backend.postgres.notifications import CHANNEL
from tests.conftest import wait_until
from tests.documents.conftest import Shelf

pytestmark = pytest.mark.database


@pytest.fixture
def database(shelf: Shelf) -> Database:
    """A database in which no document is ingested."""
    return shelf.database


@pytest.fixture
def alice(shelf: Shelf) -> Caller:
    """A new user of that database."""
    return shelf.guest()


def file_of(content: bytes, **changes: Any) -> NewFile:
    """Describe a file."""
    described: dict[str, Any] = {
        "filename": "a.txt",
        "original_filename": "a.txt",
        "content_type": "text/plain",
        "file_size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return NewFile(**(described | changes))


@pytest.mark.spec("DOC-3")
def test_a_second_equal_file_waits_for_the_first_and_finds_it(database: Database, alice: Caller) -> None:
    begun = threading.Event()
    found: list[tuple[int, str]] = []

    def second() -> None:
        with database.scope(alice.user_id, alice.zone) as scope:
            begun.set()
            document, kept = DocumentRepository(scope).keep(file_of(b"A"), [b"A"], KeepingRules())
            found.append((document.id, kept))

    with database.scope(alice.user_id, alice.zone) as scope:
        first, kept = DocumentRepository(scope).keep(file_of(b"A"), [b"A"], KeepingRules())
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(10)
        assert (first.id, kept, found) == (1, "new", [])
    thread.join(10)

    assert found == [(1, "there")]


@pytest.mark.spec("DOC-9")
def test_bytes_are_kept_in_slices_or_with_their_document_not_at_all(database: Database, alice: Caller) -> None:
    def broken() -> Any:
        yield b"A" * 10
        raise OSError("The disk is gone.")

    with pytest.raises(OSError, match="gone"), database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).keep(file_of(b"A" * 20), broken(), KeepingRules())
    with database.scope(alice.user_id, alice.zone) as scope:
        repository = DocumentRepository(scope)
        nothing = repository.all(limit=10)
        document, _ = repository.keep(file_of(b"AABBC"), [b"AA", b"BB", b"C"], KeepingRules())
        slices = [repository.find_slice(document.id, number) for number in range(4)]

    assert nothing == []
    assert slices == [b"AA", b"BB", b"C", None]


@pytest.mark.spec("DOC-7")
def test_a_user_may_have_so_many_documents(database: Database, alice: Caller, shelf: Shelf) -> None:
    shelf.query(
        "insert into documents (user_id, id, filename, original_filename, content_type, file_size, sha256, status, "
        "ended_at) select %s, n, n || '.txt', n || '.txt', 'text/plain', 1, n::text, 'ready', now() "
        "from generate_series(1, 10000) n",
        alice.user_id,
    )

    with pytest.raises(TooManyDocuments, match="10,000"), database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).keep(file_of(b"A"), [b"A"], KeepingRules())


@pytest.mark.spec("DOC-7")
def test_room_is_counted_to_the_byte(database: Database, alice: Caller) -> None:
    rules = KeepingRules(most_bytes_of_a_user=10)
    with database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).keep(file_of(b"1234"), [b"1234"], rules)

    with pytest.raises(NoRoom) as refused, database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).keep(file_of(b"1234567"), [b"1234567"], rules)
    with database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).keep(file_of(b"123456"), [b"123456"], rules)
        used = DocumentRepository(scope).used_bytes()

    assert refused.value.members == {"bytes_left": 6}
    assert used == 10
    assert KeepingRules(most_bytes_of_a_user=0).left_of(10, is_guest=True) is None


@pytest.mark.spec("DOC-27")
@pytest.mark.parametrize(
    ("of_a_user", "of_a_guest", "of_guests", "most"),
    [(0, 0, 0, 0), (9, 0, 0, 9), (9, 5, 0, 5), (5, 9, 0, 5), (0, 9, 5, 5), (0, 0, 5, 5)],
)
def test_a_guest_keeps_no_more_than_any_user_or_all_guests(
    of_a_user: int, of_a_guest: int, of_guests: int, most: int
) -> None:
    rules = KeepingRules(
        most_bytes_of_a_user=of_a_user, most_bytes_of_a_guest=of_a_guest, most_bytes_of_guests=of_guests
    )

    assert (rules.most_of(is_guest=True), rules.most_of(is_guest=False)) == (most, of_a_user)


@pytest.mark.spec("DOC-6")
@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (26_214_400, "25 MiB"),
        (26_214_399, "24.9 MiB"),
        (268_435_456, "256 MiB"),
        (1_073_741_823, "1,023.9 MiB"),
        (1_073_741_824, "1 GiB"),
        (27_055_206_400, "25.1 GiB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size: int, said: str) -> None:
    assert in_words(size) == said


@pytest.mark.spec("DOC-1")
def test_a_new_document_is_told_to_every_process(database: Database, alice: Caller, shelf: Shelf) -> None:
    listener = direct_connection(shelf.superuser_url)
    driver: Any = listener.driver_connection
    listener.cursor().execute(f"listen {CHANNEL}")

    with database.scope(alice.user_id, alice.zone) as scope:
        document, _ = DocumentRepository(scope).keep(file_of(b"A"), [b"A"], KeepingRules())
        news = f"document {document.id}"

    def heard() -> bool:
        driver.poll()
        return any(told.payload == news for told in driver.notifies)

    try:
        wait_until(heard)
    finally:
        listener.close()


@pytest.mark.spec("DOC-21")
def test_a_deleted_document_asks_its_ingestion_to_stop(database: Database, alice: Caller) -> None:
    with database.scope(alice.user_id, alice.zone) as scope:
        repository = DocumentRepository(scope)
        document, _ = repository.keep(file_of(b"A"), [b"A"], KeepingRules())
        repository.delete(document.id)

        with pytest.raises(DocumentNotFound):
            repository.delete(document.id)
        assert repository.get(document.id, even_deleted=True).cancel_requested
