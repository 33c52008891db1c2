"""The routes of documents: lists, pages, passages, originals and deletion."""

import asyncio
from typing import Any

import httpx
import pytest

from backend.documents.models import Chunk, DocumentPage
from backend.documents.quota import KeepingRules
from backend.documents.repository import SLICE_BYTES
from backend.documents.routes import original_slices
from backend.limits.fair_share import FairShare
from tests.documents.conftest import Shelf, open_shelf
from tests.documents.uploading import kept, listed, told

FIRST = "Chapter one. It begins here, in Köln. 😀 And it goes on."
SECOND = "It ends here."
ADDRESSES = ("", "/pages/1", "/passages/10", "/content")


@pytest.fixture
def paged(shelf: Shelf, reader: httpx.Client) -> None:
    """Document 1, with three pages and three passages, one of which is on the second page."""
    kept(reader, "book.pdf", b"%PDF-1.7 of some pages")
    index(shelf, reader, 1, has_pages=True)


def index(shelf: Shelf, reader: httpx.Client, document_id: int, *, has_pages: bool) -> None:
    """Store pages and passages as ingestion does."""
    caller = shelf.caller(reader)
    named: dict[str, Any] = {"user_id": caller.user_id, "document_id": document_id}
    heading = {"start": 0, "level": 1, "title": "Chapter one"}
    with shelf.database.scope(caller.user_id, caller.zone) as scope:
        scope.session.add(DocumentPage(**named, number=1, content=FIRST, headings=[heading]))
        scope.session.add(DocumentPage(**named, number=2, content=SECOND))
        scope.session.add(DocumentPage(**named, number=3, content="", is_scanned=True))
        spans = [(1, FIRST, 0, 37), (1, FIRST, 38, len(FIRST)), (2, SECOND, 0, len(SECOND))]
        for place, (page, text, start, end) in enumerate(spans):
            chunk = Chunk(
                **named,
                id=10 + place,
                content=text[start:end],
                page=page,
                page_number=page if has_pages else None,
                chunk_index=place,
                start=start,
                end=end,
            )
            scope.session.add(chunk)


def done(shelf: Shelf, reader: httpx.Client, status: str = "ready", **columns: Any) -> None:
    """Set the progress of all documents of a reader."""
    given = {"status": status, "pages": 3, "pages_read": 3, "pages_cut": 3, "chunks": 3, "is_read": True} | columns
    shelf.query(
        f"update documents set {', '.join(f'{name} = %s' for name in given)}, "  # noqa: S608
        "ended_at = case when %s in ('ready', 'failed') then now() end where user_id = %s",
        *given.values(),
        status,
        shelf.caller(reader).user_id,
    )


@pytest.mark.spec("DOC-15")
def test_the_list_has_the_newest_first_and_takes_filters_and_pages(reader: httpx.Client, shelf: Shelf) -> None:
    for name in ("Offer 100%.txt", "offer_2.txt", "Invoice.txt"):
        kept(reader, name, name.encode())
    shelf.query(
        "update documents set title = 'The winter offer', status = 'ready' where filename = 'Invoice.txt' "
        "and user_id = %s",
        shelf.caller(reader).user_id,
    )

    def found(**wanted: Any) -> list[int]:
        answer = reader.get("/api/documents", params=wanted)
        assert answer.status_code == 200, answer.text
        return [document["id"] for document in answer.json()["documents"]]

    assert found() == [3, 2, 1]
    assert found(query="OFFER") == [3, 2, 1]
    assert found(query="winter offer") == [3]
    assert found(query="100%") == [1]
    assert found(query="_") == [2]
    assert found(status="ready") == [3]
    assert found(status="pending") == [2, 1]
    first = reader.get("/api/documents", params={"limit": 2}).json()
    assert [document["id"] for document in first["documents"]] == [3, 2]
    assert found(cursor=first["next_cursor"]) == [1]
    assert reader.get("/api/documents", params={"limit": 3}).json()["next_cursor"] is None
    assert found(cursor="9999999999") == [3, 2, 1]
    for wrong in ({"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"status": "gone"}, {"query": "a\x00"}):
        told(reader.get("/api/documents", params=wrong), 422, "invalid_input")


@pytest.mark.spec("DOC-16")
@pytest.mark.parametrize(
    ("columns", "progress"),
    [
        ({"status": "pending", "pages": None}, {"stage": "waiting", "done": 0, "total": None}),
        (
            {"status": "processing", "pages": 9, "pages_read": 4, "is_read": False},
            {"stage": "reading", "done": 4, "total": 9},
        ),
        ({"status": "processing", "pages_cut": 1}, {"stage": "indexing", "done": 1, "total": 3}),
        ({"status": "ready"}, {"stage": "done", "done": 3, "total": 3}),
        ({"status": "failed", "pages_read": 2}, {"stage": "failed", "done": 2, "total": 3}),
    ],
)
def test_a_document_tells_how_far_it_has_come(
    reader: httpx.Client,
    shelf: Shelf,
    columns: dict[str, Any],
    progress: dict[str, Any],
) -> None:
    kept(reader)

    done(shelf, reader, **columns)

    document = reader.get("/api/documents/1").json()
    assert (document["status"], document["progress"]) == (columns["status"], progress)
    assert reader.get("/api/documents").json()["documents"] == [document]


@pytest.mark.spec("DOC-17")
@pytest.mark.usefixtures("paged")
def test_a_page_has_its_text_headings_and_passages(reader: httpx.Client, shelf: Shelf) -> None:
    done(shelf, reader)

    page = reader.get("/api/documents/1/pages/1").json()

    assert page == {
        "document_id": 1,
        "filename": "book.pdf",
        "page_number": 1,
        "pages": 3,
        "text": FIRST,
        "headings": [{"start": 0, "level": 1, "title": "Chapter one"}],
        "is_scanned": False,
        "passages": [{"id": 10, "start": 0, "end": 37}, {"id": 11, "start": 38, "end": len(FIRST)}],
    }
    assert page["text"][38:] == "😀 And it goes on."
    scanned = reader.get("/api/documents/1/pages/3").json()
    assert (scanned["text"], scanned["is_scanned"], scanned["passages"]) == ("", True, [])


@pytest.mark.spec("DOC-17")
@pytest.mark.usefixtures("paged")
def test_a_page_that_is_not_there_says_what_is(reader: httpx.Client, shelf: Shelf) -> None:
    early = told(reader.get("/api/documents/1/pages/4"), 404, "not_found")
    done(shelf, reader)
    late = told(reader.get("/api/documents/1/pages/4"), 404, "not_found")

    assert "not been read yet" in early["detail"]
    assert late["detail"] == "Document 1 has 3 pages: there is no page 4."
    for wrong in ("0", "-1", "x", "99999999999"):
        told(reader.get(f"/api/documents/1/pages/{wrong}"), 422, "invalid_input")


@pytest.mark.spec("DOC-18")
@pytest.mark.parametrize("has_pages", [True, False])
def test_a_passage_is_shown_on_its_page(reader: httpx.Client, shelf: Shelf, has_pages: bool) -> None:
    kept(reader, "book.pdf", b"%PDF-1.7 of two pages")
    index(shelf, reader, 1, has_pages=has_pages)
    done(shelf, reader)

    shown = reader.get("/api/documents/1/passages/12").json()

    assert shown == {**reader.get("/api/documents/1/pages/2").json(), "passage_id": 12, "start": 0, "end": len(SECOND)}
    assert shown["passages"] == [{"id": 12, "start": 0, "end": len(SECOND)}]
    second = reader.get("/api/documents/1/passages/11").json()
    assert (second["page_number"], second["text"][second["start"] : second["end"]]) == (1, "😀 And it goes on.")
    told(reader.get("/api/documents/1/passages/13"), 404, "not_found")


@pytest.mark.spec("DOC-19")
def test_the_original_comes_back_as_a_file_that_runs_nowhere(reader: httpx.Client) -> None:
    content = b"<script>alert(1)</script>" + b"x" * (2 * SLICE_BYTES)
    kept(reader, 'Böse "Datei"; filename=x.html', content)

    answer = reader.get("/api/documents/1/content")

    assert answer.content == content
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="B_se _Datei__ filename_x.html"; '
        "filename*=UTF-8''B%C3%B6se%20%22Datei%22%3B%20filename%3Dx.html"
    )
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(content))


@pytest.mark.spec("DOC-19")
def test_a_slow_download_holds_no_connection(reader: httpx.Client, shelf: Shelf) -> None:
    content = bytes(range(32, 127)) * 26_000
    kept(reader, "a.txt", content)
    in_use = []

    async def read_all() -> bytes:
        came = b""
        async for piece in original_slices(shelf.database, FairShare(), shelf.caller(reader), 1):
            in_use.append(shelf.database.pool_status()["checked_out"])
            came += piece
        return came

    came = asyncio.run(read_all())

    assert len(in_use) > 2
    assert set(in_use) == {0}
    assert came == content


@pytest.mark.spec("DOC-20")
def test_without_originals_there_is_none_to_download(shelf: Shelf) -> None:
    forgetful = shelf.but(rules=KeepingRules(store_originals=False))
    with open_shelf(forgetful), forgetful.reader() as reader:
        kept(reader)

        problem = told(reader.get("/api/documents/1/content"), 404, "original_not_kept")

    assert "not kept" in problem["detail"]


@pytest.mark.spec("DOC-21")
@pytest.mark.usefixtures("paged")
def test_a_deleted_document_is_gone_at_once_in_the_words_of_one_that_never_was(reader: httpx.Client) -> None:
    assert (reader.delete("/api/documents/1").status_code, listed(reader)) == (204, [])

    for path in ADDRESSES:
        gone = told(reader.get(f"/api/documents/1{path}"), 404, "not_found")
        never = told(reader.get(f"/api/documents/7{path}"), 404, "not_found")
        assert gone["detail"] == never["detail"].replace("7", "1")
    told(reader.delete("/api/documents/1"), 404, "not_found")


@pytest.mark.spec("DOC-22")
@pytest.mark.usefixtures("paged")
def test_another_user_finds_nothing(reader: httpx.Client, other_reader: httpx.Client) -> None:
    for path in ADDRESSES:
        told(other_reader.get(f"/api/documents/1{path}"), 404, "not_found")
    for wanted in ({}, {"purge": True}):
        told(other_reader.delete("/api/documents/1", params=wanted), 404, "not_found")

    assert listed(other_reader) == []
    assert listed(reader) == [1]


@pytest.mark.spec("DOC-23")
@pytest.mark.parametrize("is_deleted_before", [False, True])
@pytest.mark.usefixtures("paged")
def test_a_purge_removes_every_row_at_once(reader: httpx.Client, shelf: Shelf, is_deleted_before: bool) -> None:
    user_id = shelf.caller(reader).user_id
    if is_deleted_before:
        reader.delete("/api/documents/1").raise_for_status()

    assert reader.delete("/api/documents/1", params={"purge": True}).status_code == 204

    for table in ("documents", "document_bytes", "document_pages", "chunks"):
        assert shelf.query(f"select count(*) from {table} where user_id = %s", user_id) == [(0,)]  # noqa: S608
    told(reader.delete("/api/documents/1", params={"purge": True}), 404, "not_found")


@pytest.mark.spec("DOC-24")
@pytest.mark.usefixtures("paged")
def test_no_list_and_no_document_holds_text(reader: httpx.Client) -> None:
    answers = [reader.get("/api/documents"), reader.get("/api/documents/1")]

    assert all("begins here" not in answer.text for answer in answers)


@pytest.mark.spec("DOC-24")
@pytest.mark.usefixtures("paged")
def test_the_ledger_knows_uploads_and_deletions_and_keeps_no_text(reader: httpx.Client, shelf: Shelf) -> None:
    reader.get("/api/documents/1/pages/1").raise_for_status()
    reader.get("/api/documents/1/content").raise_for_status()
    reader.delete("/api/documents/1").raise_for_status()

    rows = shelf.query(
        "select tool, outcome, arguments::text || result::text from operations where user_id = %s order by id",
        shelf.caller(reader).user_id,
    )

    assert [row[:2] for row in rows] == [
        ("keep_upload", "ok"),
        ("delete_document", "ok"),
    ]
    assert all("begins here" not in told_of and "%PDF" not in told_of for _, _, told_of in rows)
