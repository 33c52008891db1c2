"""Uploading documents."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from backend.documents.quota import KeepingRules
from backend.identity.accounts import TokenRepository
from tests.conftest import wait_until
from tests.documents.conftest import MOST_BYTES, MOST_BYTES_OF_A_USER, Shelf, open_shelf
from tests.documents.uploading import BOUNDARY, by_hand, form, kept, listed, open_in, posted, sent, told

MEBI = 1024 * 1024
FIELDS = {
    "id",
    "filename",
    "original_filename",
    "content_type",
    "file_size",
    "status",
    "reason",
    "pages",
    "chunks",
    "progress",
    "created_at",
    "updated_at",
}
A_FILE = b'Content-Disposition: form-data; name="file"; filename="notes.txt"'


@pytest.mark.spec("DOC-1")
@pytest.mark.parametrize("path", ["/api/documents", "/api/documents/upload"])
def test_an_upload_answers_at_once_with_the_document(reader: httpx.Client, shelf: Shelf, path: str) -> None:
    woken = len(shelf.added)

    answer = reader.post(path, files={"file": ("Notes of May.txt", b"Some notes.", "application/x-nonsense")})

    document = answer.json()
    assert answer.status_code == 202
    assert document.keys() >= FIELDS
    assert (document["id"], document["filename"], document["original_filename"]) == (
        1,
        "Notes of May.txt",
        "Notes of May.txt",
    )
    assert (document["content_type"], document["file_size"], document["status"]) == ("text/plain", 11, "pending")
    assert document["progress"] == {"stage": "waiting", "done": 0, "total": None}
    assert len(shelf.added) == woken + 1


@pytest.mark.spec("DOC-2")
def test_several_files_are_several_documents_in_their_order(reader: httpx.Client) -> None:
    answer = sent(reader, ("a.txt", b"A"), ("b.md", b"# B"), ("c.csv", b"a,b\n1,2"))

    documents = answer.json()["documents"]
    assert answer.status_code == 202
    assert [document["filename"] for document in documents] == ["a.txt", "b.md", "c.csv"]
    assert [document["id"] for document in documents] == [1, 2, 3]


@pytest.mark.spec("DOC-2")
def test_one_refused_file_keeps_all_of_its_request_out(reader: httpx.Client) -> None:
    told(sent(reader, ("a.txt", b"A"), ("b.exe", b"MZ")), 415, "unsupported_type")

    assert listed(reader) == []


@pytest.mark.spec("DOC-2")
def test_more_than_twenty_files_are_refused(reader: httpx.Client) -> None:
    twenty = [(f"{number}.txt", b"%d" % number) for number in range(20)]

    told(sent(reader, *twenty, ("20.txt", b"20")), 422, "invalid_input")

    assert listed(reader) == []
    assert len(sent(reader, *twenty).json()["documents"]) == 20


@pytest.mark.spec("DOC-3")
def test_the_same_bytes_are_one_document(reader: httpx.Client, other_reader: httpx.Client) -> None:
    first = kept(reader, "a.txt")

    again = kept(reader, "b.txt")

    assert (first["kept"], again["kept"]) == ("new", "there")
    assert {**again, "kept": "new", "operation_id": first["operation_id"]} == first
    assert listed(reader) == [1]
    assert kept(other_reader, "a.txt")["kept"] == "new"


@pytest.mark.spec("DOC-3")
def test_equal_uploads_at_once_are_one_document(reader: httpx.Client) -> None:
    content = os.urandom(8) + b"x" * 400_000

    with ThreadPoolExecutor(8) as threads:
        documents = list(threads.map(lambda _: kept(reader, "a.csv", content.hex().encode()), range(8)))

    assert [document["id"] for document in documents] == [1] * 8
    assert [document["kept"] for document in documents].count("new") == 1
    assert kept(reader, "b.txt", b"B")["id"] == 2


@pytest.mark.spec("DOC-4")
def test_a_deleted_document_with_the_same_bytes_starts_anew(reader: httpx.Client) -> None:
    kept(reader)
    reader.delete("/api/documents/1").raise_for_status()

    assert (kept(reader)["id"], kept(reader)["kept"]) == (2, "there")
    assert listed(reader) == [2]


@pytest.mark.spec("DOC-4")
def test_a_failed_document_with_the_same_bytes_is_tried_again(reader: httpx.Client, shelf: Shelf) -> None:
    document = kept(reader, content=b"Try me")
    sha = hashlib.sha256(b"Try me").hexdigest()
    shelf.query(
        "update documents set status = 'failed', reason = 'It is damaged.', ended_at = now(), pages = 3, "
        "pages_read = 2, pages_cut = 1, chunks = 4, words = 9, is_read = true, attempt = 2 where sha256 = %s",
        sha,
    )
    failed = reader.get("/api/documents/1").json()

    again = kept(reader, content=b"Try me")

    assert (failed["status"], failed["reason"], failed["progress"]["stage"]) == ("failed", "It is damaged.", "failed")
    assert again["kept"] == "retried"
    assert {name: again[name] for name in ("id", "status", "reason", "pages", "chunks", "progress")} == {
        name: document[name] for name in ("id", "status", "reason", "pages", "chunks", "progress")
    }
    rows = shelf.query("select attempt, fruitless, ended_at from documents where sha256 = %s", sha)
    assert rows == [(2, 0, None)]
    assert reader.get("/api/documents/1/content").content == b"Try me"


@pytest.mark.spec("DOC-5")
def test_one_key_is_one_upload(reader: httpx.Client) -> None:
    first = sent(reader, ("a.txt", b"A"), ("b.txt", b"B"), **{"Idempotency-Key": "k-1"})

    again = sent(reader, ("a.txt", b"A"), ("b.txt", b"B"), **{"Idempotency-Key": "k-1"})

    assert again.text == first.text
    for other in ([("a.txt", b"A")], [("a.txt", b"A"), ("c.txt", b"C")], [("z.txt", b"A"), ("b.txt", b"B")]):
        told(sent(reader, *other, **{"Idempotency-Key": "k-1"}), 422, "idempotency_key_reused")
    assert listed(reader) == [2, 1]


@pytest.mark.spec("DOC-6")
def test_one_byte_over_the_limit_is_refused_with_what_is_left(reader: httpx.Client) -> None:
    kept(reader, "first.txt", b"1" * 1024 * 1024)

    problem = told(sent(reader, ("big.txt", b"x" * (MOST_BYTES + 1))), 413, "content_too_large")

    assert "3 MiB" in problem["detail"]
    assert "4 MiB of space left" in problem["detail"]
    assert (problem["limit_bytes"], problem["bytes_left"]) == (MOST_BYTES, 4 * 1024 * 1024)
    assert kept(reader, "big.txt", b"x" * MOST_BYTES)["file_size"] == MOST_BYTES


@pytest.mark.spec("DOC-6")
def test_a_declared_length_beyond_the_limit_is_refused_before_the_body_comes(reader: httpx.Client) -> None:
    answer = by_hand(reader, f"Content-Length: {MOST_BYTES_OF_A_USER + 2 * 1024 * 1024}", b"")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"5 MiB" in answer


@pytest.mark.spec("DOC-6")
def test_an_endless_body_is_refused_on_the_way(reader: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield form((A_FILE, b""), end=b"")[: -len(BOUNDARY) - 4]
        for _ in range(100):
            yield b"x" * 100_000

    answer = reader.post(
        "/api/documents",
        content=endless(),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"},
    )

    told(answer, 413, "content_too_large")


@pytest.mark.spec("DOC-6")
def test_a_limit_of_0_is_none(shelf: Shelf) -> None:
    unlimited = shelf.but(rules=KeepingRules(most_bytes_of_a_user=0), most_bytes=0)
    with open_shelf(unlimited), unlimited.reader() as reader:
        documents = [kept(reader, f"{letter}.txt", letter.encode() * MOST_BYTES)["id"] for letter in "abc"]

    assert documents == [1, 2, 3]


@pytest.mark.spec("DOC-7")
def test_what_a_user_keeps_is_limited_until_it_is_purged(reader: httpx.Client, other_reader: httpx.Client) -> None:
    kept(reader, "a.txt", b"a" * MOST_BYTES)

    problem = told(sent(reader, ("b.txt", b"b" * MOST_BYTES)), 413, "quota_exceeded")
    reader.delete("/api/documents/1").raise_for_status()
    deleted = sent(reader, ("b.txt", b"b" * MOST_BYTES))
    reader.delete("/api/documents/1", params={"purge": True}).raise_for_status()

    assert "only 2 MiB are left" in problem["detail"]
    assert problem["bytes_left"] == 2 * 1024 * 1024
    told(deleted, 413, "quota_exceeded")
    assert kept(reader, "b.txt", b"b" * MOST_BYTES)["id"] == 2
    assert kept(other_reader, "b.txt", b"b" * MOST_BYTES)["id"] == 1


@pytest.mark.spec("DOC-7")
def test_what_everybody_together_keeps_is_limited(shelf: Shelf, reader: httpx.Client) -> None:
    kept(reader, "a.txt", b"a" * 1000)
    [(used,)] = shelf.query("select sum(file_size)::bigint from documents")

    narrow = shelf.but(rules=KeepingRules(most_bytes=used + 10))
    with open_shelf(narrow), narrow.reader() as newcomer:
        told(sent(newcomer, ("b.txt", b"b" * 11)), 413, "quota_exceeded")
        assert kept(newcomer, "b.txt", b"b" * 10)["file_size"] == 10


def become_a_person(shelf: Shelf, reader: httpx.Client) -> None:
    shelf.query("update users set kind = 'person' where user_id = %s", shelf.caller(reader).user_id)


@pytest.mark.spec("DOC-27")
def test_a_guest_keeps_less_than_a_person(shelf: Shelf) -> None:
    small = shelf.but(rules=KeepingRules(most_bytes_of_a_guest=2 * MEBI, most_bytes_of_a_user=MOST_BYTES_OF_A_USER))
    with open_shelf(small), small.reader() as guest, small.reader() as person:
        become_a_person(shelf, person)
        kept(guest, "a.txt", b"a" * MEBI)

        problem = told(sent(guest, ("b.txt", b"b" * (MEBI + 1))), 413, "quota_exceeded")
        early = by_hand(guest, f"Content-Length: {4 * MEBI}", b"")

        assert kept(guest, "c.txt", b"c" * MEBI)["id"] == 2
        assert kept(person, "d.txt", b"d" * MOST_BYTES)["id"] == 1
    assert "of your 2 MiB only 1 MiB are left. Delete" in problem["detail"]
    assert problem["bytes_left"] == MEBI
    assert early.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 2 MiB, which is the limit. You have 1 MiB of space left." in early


@pytest.mark.spec("DOC-27")
def test_what_all_guests_together_keep_is_limited_and_people_have_room(shelf: Shelf, reader: httpx.Client) -> None:
    kept(reader, "a.txt", b"a" * 1000)
    statement = "select sum(file_size)::bigint from documents join users using (user_id) where kind = 'guest'"
    [(used,)] = shelf.query(statement)

    narrow = shelf.but(rules=KeepingRules(most_bytes_of_guests=used + 10))
    with open_shelf(narrow), narrow.reader() as guest, narrow.reader() as person:
        become_a_person(shelf, person)
        kept(person, "p.txt", b"p" * 1000)
        problem = told(sent(guest, ("b.txt", b"b" * 11)), 413, "quota_exceeded")
        assert kept(guest, "b.txt", b"b" * 10)["file_size"] == 10
        told(sent(guest, ("c.txt", b"c")), 413, "quota_exceeded")
    assert "all guests share" in problem["detail"]
    assert "ask the administrator" in problem["detail"]


@pytest.mark.spec("DOC-8")
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", None, 400, "malformed_upload"),
        (b"nonsense", None, 400, "malformed_upload"),
        (form((A_FILE, b"A"), end=b""), None, 400, "malformed_upload"),
        (form((A_FILE, b"A"))[:60], None, 400, "malformed_upload"),
        (form((A_FILE, b"A")), b"multipart/form-data", 400, "malformed_upload"),
        (form((A_FILE, b"A")), b"multipart/form-data; boundary=" + b"x" * 300, 400, "malformed_upload"),
        (form((A_FILE + b"x" * 9000, b"A")), None, 400, "malformed_upload"),
        (form(*[(b'Content-Disposition: form-data; name="x"', b"")] * 101), None, 400, "malformed_upload"),
        (b'{"file": "A"}', b"application/json", 422, "invalid_input"),
        (b"file=A", b"application/x-www-form-urlencoded", 422, "invalid_input"),
        (form(), None, 422, "invalid_input"),
        (form((b'Content-Disposition: form-data; name="other"; filename="a.txt"', b"A")), None, 422, "invalid_input"),
        (form((b'Content-Disposition: form-data; name="file"', b"A")), None, 422, "invalid_input"),
        (form((b'Content-Disposition: form-data; name="file"; filename=""', b"")), None, 422, "invalid_input"),
        (form((A_FILE, b"")), None, 422, "invalid_input"),
    ],
)
def test_what_is_no_upload_is_refused_with_a_sentence(
    reader: httpx.Client, body: bytes, content_type: bytes | None, status: int, code: str
) -> None:
    told(posted(reader, body, content_type or b"multipart/form-data; boundary=" + BOUNDARY), status, code)

    assert listed(reader) == []


@pytest.mark.spec("DOC-8")
def test_other_fields_are_passed_over(reader: httpx.Client) -> None:
    other = (b'Content-Disposition: form-data; name="note"', b"x" * 10_000)

    answer = posted(reader, form(other, (A_FILE, b"A"), other))

    assert (answer.status_code, answer.json()["file_size"]) == (202, 1)


@pytest.mark.spec("DOC-9")
def test_nothing_of_an_upload_is_left_on_disk(
    reader: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    kept(reader, "a.txt", b"a" * 500_000)
    told(sent(reader, ("b.txt", b"b" * (MOST_BYTES + 1))), 413, "content_too_large")
    told(sent(reader, ("c.pdf", b"c" * 500_000)), 415, "unsupported_type")
    by_hand(reader, "Content-Length: 900000", form((A_FILE, b"d" * 300_000), end=b""), hang_up=True)

    wait_until(lambda: not open_in(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert listed(reader) == [1]


@pytest.mark.spec("DOC-9")
def test_an_upload_that_is_broken_off_is_no_document(reader: httpx.Client) -> None:
    by_hand(reader, "Content-Length: 900000", form((A_FILE, b"d" * 300_000), end=b""), hang_up=True)

    assert kept(reader, "a.txt", b"A")["id"] == 1
    assert listed(reader) == [1]


@pytest.mark.spec("DOC-10")
def test_uploading_needs_a_token_that_may_write(shelf: Shelf, reader: httpx.Client) -> None:
    caller = shelf.caller(reader)
    with shelf.database.scope(caller.user_id, caller.zone) as scope:
        _, may_read = TokenRepository(scope).add(name="reads", scopes=["read"], expires_at=None)

    for token, status in (("nonsense", 401), (may_read, 403)):
        with shelf.client(token) as client:
            assert sent(client, ("a.txt", b"A")).status_code == status

    assert httpx.post(f"{shelf.url}/api/documents", files={"file": ("a.txt", b"A")}).status_code == 401
    assert listed(reader) == []
