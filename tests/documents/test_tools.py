"""The tools for documents, called as functions and through the operations."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentNotFound, DocumentRepository, PageNotFound
from backend.documents.tools import (
    MOST_READ,
    NotReadable,
    StillIndexing,
    add_document,
    list_documents,
    read_document,
    search_documents,
)
from backend.errors import Forbidden, InvalidInput
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.postgres.database import Database
from tests.conftest import query as sql
from tests.conftest import wait_until
from tests.documents.filed import door, embed, file, filed

REFUND = "Goods may be returned for a full refund within thirty days."
SHIPPING = "Parcels are shipped on weekdays by noon."
HOLIDAYS = "Everybody has thirty days of holidays."
IN_A_RUN = Call(run_id="r1")


@pytest.fixture
def operations(database: Database) -> Operations:
    """The operations, with the inputs that tools for documents need."""
    return door(database)


@pytest.mark.spec("DTOOL-1")
def test_a_passage_is_found_with_all_that_a_citation_needs(database: Database, alice: Caller) -> None:
    with database.scope(alice.user_id, alice.zone) as scope:
        handbook = filed(scope, SHIPPING, f"Returns\n\n{REFUND}", filename="handbook.pdf")

        found = search_documents("refund of goods", scope, embed({"query": "refund of goods"}))

    best = found.passages[0]
    assert found.reason is None
    assert best.model_dump(exclude={"score"}) == {
        "id": handbook.passages[REFUND],
        "document_id": handbook.id,
        "filename": "handbook.pdf",
        "page_number": 2,
        "text": REFUND,
        "start": 9,
        "end": 9 + len(REFUND),
    }
    assert 0 < best.score <= 1
    assert found.document_ids_read() == [handbook.id] * len(found.passages)


@pytest.mark.spec("DTOOL-1")
def test_a_search_keeps_to_the_wanted_documents_and_number(
    operations: Operations, database: Database, alice: Caller
) -> None:
    handbook = file(database, alice, f"{REFUND}\n\n{HOLIDAYS}", SHIPPING)
    other = file(database, alice, "A refund takes a week.", filename="other.pdf")

    def found(**arguments: Any) -> list[dict[str, Any]]:
        wanted = {"query": "refund", **arguments}
        passages: list[dict[str, Any]] = operations.perform(search_documents, wanted, alice).result["passages"]
        return passages

    assert {passage["document_id"] for passage in found()} == {handbook.id, other.id}
    assert {passage["document_id"] for passage in found(document_ids=[other.id])} == {other.id}
    assert {passage["document_id"] for passage in found(document_ids=[])} == {handbook.id, other.id}
    assert len(found(limit=1)) == 1
    with pytest.raises(DocumentNotFound, match="Document 99 does not exist"):
        found(document_ids=[other.id, 99])


@pytest.mark.spec("DTOOL-2")
def test_a_search_that_finds_nothing_says_why(operations: Operations, database: Database, alice: Caller) -> None:
    def searched(**arguments: Any) -> dict[str, Any]:
        return operations.perform(search_documents, {"query": "quasar", **arguments}, alice).result

    assert searched() == {"passages": [], "reason": "no_documents"}
    growing = file(database, alice, status="processing", filename="new.pdf")
    assert searched() == {"passages": [], "reason": "still_indexing"}
    file(database, alice, REFUND)
    assert searched(document_ids=[growing.id]) == {"passages": [], "reason": "still_indexing"}
    failed = file(database, alice, status="failed", filename="scan.pdf")
    assert searched(document_ids=[failed.id])["reason"] in ("no_text", "filtered_out")
    with database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).delete(growing.id)
    assert searched() == {"passages": [], "reason": "below_threshold"}


@pytest.mark.spec("DTOOL-3")
@pytest.mark.parametrize(
    "question",
    ["x" * 100_000, "refund " * 20_000, "NUL \x00 and \ud800 alone", "| & ! <-> :* ''", "\U0001f4b8", "the of and"],
    ids=lambda question: ascii(question)[:12],
)
def test_no_question_is_too_long_or_too_strange(
    operations: Operations, database: Database, alice: Caller, superuser_url: str, question: str
) -> None:
    file(database, alice, REFUND)

    outcome = operations.perform(search_documents, {"query": question}, alice, IN_A_RUN)

    assert outcome.result.keys() == {"passages", "reason"}
    [(kept,)] = sql(superuser_url, "select length(arguments::text) from operations where user_id = %s", alice.user_id)
    assert kept < 64_000
    with pytest.raises(InvalidInput, match="may not be empty"):
        operations.perform(search_documents, {"query": " \n "}, alice)


@pytest.mark.spec("DTOOL-4")
def test_documents_are_listed_newest_first_by_pages(operations: Operations, database: Database, alice: Caller) -> None:
    for number in range(5):
        file(database, alice, f"Text {number}", filename=f"report {number}.pdf")
    file(database, alice, filename="bad.pdf", status="failed", reason="It is protected by a password.")

    def names(**wanted: Any) -> list[str]:
        listed = operations.perform(list_documents, wanted, alice).result
        return [document["filename"] for document in listed["documents"]]

    first = operations.perform(list_documents, {"limit": 4}, alice).result
    rest = operations.perform(list_documents, {"limit": 4, "cursor": first["next_cursor"]}, alice).result
    assert [document["id"] for document in first["documents"] + rest["documents"]] == [6, 5, 4, 3, 2, 1]
    assert rest["next_cursor"] is None
    assert names(status="failed") == ["bad.pdf"]
    assert names(query="REPORT 3") == ["report 3.pdf"]
    assert names(query="%") == []
    assert first["documents"][0]["reason"] == "It is protected by a password."


@pytest.mark.spec("DTOOL-5")
def test_pages_are_read_as_passages_in_their_order(operations: Operations, database: Database, alice: Caller) -> None:
    texts = [f"Chapter {number}\n\nText of page {number}." for number in range(1, 8)]
    handbook = file(database, alice, *texts)

    first = operations.perform(read_document, {"document_id": handbook.id}, alice).result
    more = operations.perform(read_document, {"document_id": handbook.id, "page": 5, "pages": 5}, alice).result

    assert first == {
        "document_id": handbook.id,
        "filename": "handbook.pdf",
        "pages": 7,
        "pages_read": [
            {
                "page": 1,
                "page_number": 1,
                "is_scanned": False,
                "is_cut": False,
                "passages": [
                    {"id": handbook.passages["Chapter 1"], "text": "Chapter 1", "start": 0, "end": 9},
                    {"id": handbook.passages["Text of page 1."], "text": "Text of page 1.", "start": 11, "end": 26},
                ],
            }
        ],
        "next_page": 2,
    }
    assert [page["page"] for page in more["pages_read"]] == [5, 6, 7]
    assert more["next_page"] is None
    with pytest.raises(PageNotFound, match="has 7 pages: there is no page 8"):
        operations.perform(read_document, {"document_id": handbook.id, "page": 8}, alice)


@pytest.mark.spec("DTOOL-5")
def test_pages_without_numbers_for_people_have_none_to_cite(
    operations: Operations, database: Database, alice: Caller
) -> None:
    letter = file(database, alice, "First part.", "Second part.", filename="letter.docx", has_pages=False)

    told = operations.perform(read_document, {"document_id": letter.id, "page": 2}, alice).result

    [page] = told["pages_read"]
    assert (page["page"], page["page_number"]) == (2, None)
    assert [passage["text"] for passage in page["passages"]] == ["Second part."]


@pytest.mark.spec("DTOOL-6")
def test_what_is_read_at_once_is_bounded(operations: Operations, database: Database, alice: Caller) -> None:
    paragraph = "word " * 1_500
    page = "\n\n".join([paragraph.strip()] * 2)
    many = file(database, alice, page, page + ".", page + "!", filename="many.pdf")
    huge = file(database, alice, "\n\n".join([paragraph.strip()] * 4), "Next.", filename="huge.pdf")

    def read(document_id: int) -> dict[str, Any]:
        return operations.perform(read_document, {"document_id": document_id, "pages": 5}, alice).result

    told, cut = read(many.id), read(huge.id)
    assert ([page["page"] for page in told["pages_read"]], told["next_page"]) == ([1], 2)
    assert [(page["page"], page["is_cut"], len(page["passages"])) for page in cut["pages_read"]] == [(1, True, 2)]
    for result in (told, cut):
        texts = [passage["text"] for page in result["pages_read"] for passage in page["passages"]]
        assert 10_000 < sum(map(len, texts)) <= MOST_READ


@pytest.mark.spec("DTOOL-7")
def test_a_document_without_text_says_what_to_do(operations: Operations, database: Database, alice: Caller) -> None:
    waiting = file(database, alice, filename="a.pdf", status="pending", pages=None)
    growing = file(database, alice, "x", filename="b.pdf", status="processing", pages=9, pages_cut=1)
    failed = file(database, alice, filename="c.pdf", status="failed", reason="It is protected by a password.")

    def refusal(document_id: int, error: type[Exception]) -> str:
        with pytest.raises(error) as refused:
            operations.perform(read_document, {"document_id": document_id}, alice)
        return str(refused.value)

    assert refusal(waiting.id, StillIndexing).startswith(f"Document {waiting.id} is still being indexed: it has just")
    assert "1 of 9 pages are done. Try again" in refusal(growing.id, StillIndexing)
    assert "It is protected by a password." in refusal(failed.id, NotReadable)
    assert refusal(99, DocumentNotFound) == "Document 99 does not exist."


@pytest.mark.spec("DTOOL-8")
def test_a_text_is_filed_once(operations: Operations, database: Database, alice: Caller) -> None:
    wanted = {"title": "Minutes: 3/4 \u202egnp.", "text": "  # Minutes\n\nWe met.\n"}

    told = operations.perform(add_document, wanted, alice).result
    again = operations.perform(add_document, wanted | {"title": "Another name"}, alice).result

    assert (told["filename"], told["title"]) == ("Minutes- 3-4 gnp.md", "Minutes: 3/4 \u202egnp.")
    assert (told["status"], told["content_type"], told["file_size"]) == ("pending", "text/markdown", 18)
    assert (again["id"], again["filename"], again["title"]) == (told["id"], told["filename"], told["title"])
    with database.scope(alice.user_id, alice.zone) as scope:
        assert DocumentRepository(scope).find_slice(told["id"], 0) == b"# Minutes\n\nWe met."


@pytest.mark.spec("DTOOL-8")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"title": "t", "text": "ä" * 60_000}, "at most 100 kB"),
        ({"title": "t", "text": " \n"}, "may not be empty"),
        ({"title": "t", "text": "a\x00b"}, "control characters"),
        ({"title": "two\nlines", "text": "a"}, "on one line"),
        ({"title": "", "text": "a"}, "may not be empty"),
        ({"title": "t", "text": "a", "user_id": "guest_1"}, "contains something unknown"),
        ({"title": "t", "text": "a", "rules": {}}, "contains something unknown"),
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_a_text_that_cannot_be_filed_is_refused(
    operations: Operations, alice: Caller, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        operations.perform(add_document, arguments, alice)

    assert operations.perform(list_documents, {}, alice).result["documents"] == []


@pytest.mark.spec("DTOOL-8")
def test_a_text_counts_toward_what_may_be_kept(database: Database, alice: Caller) -> None:
    with database.scope(alice.user_id, alice.zone) as scope:
        with pytest.raises(Exception, match="only 10 bytes are left"):
            add_document("t", "12345678901", scope, KeepingRules(most_bytes_of_a_user=10))
        assert add_document("t", "1234567890", scope, KeepingRules(most_bytes_of_a_user=10)).id


@pytest.mark.spec("DTOOL-9")
def test_what_was_read_is_written_down_without_its_text(
    operations: Operations, database: Database, alice: Caller, superuser_url: str
) -> None:
    handbook = file(database, alice, REFUND, filename="secretplan.pdf", title="Secretplan")

    for tool, arguments in (
        (search_documents, {"query": "goods"}),
        (list_documents, {}),
        (read_document, {"document_id": handbook.id}),
    ):
        operations.perform(tool, arguments, alice, IN_A_RUN)
        operations.perform(tool, arguments, replace(alice, door="mcp"))

    logged = sql(superuser_url, "select document_ids, a::text from access_log a where user_id = %s", alice.user_id)
    assert [row[0] for row in logged] == [[handbook.id]] * 3
    rows = sql(superuser_url, "select document_ids, result from operations where user_id = %s", alice.user_id)
    assert [row[0] for row in rows] == [[handbook.id]] * 3
    assert "refund" not in json.dumps([rows, logged])
    assert "ecretplan" not in json.dumps([rows, logged])


@pytest.mark.spec("DTOOL-10")
def test_documents_of_another_user_do_not_exist(
    operations: Operations, database: Database, alice: Caller, bob: Caller
) -> None:
    theirs = file(database, alice, REFUND)

    assert operations.perform(search_documents, {"query": "refund"}, bob).result["reason"] == "no_documents"
    assert operations.perform(list_documents, {}, bob).result["documents"] == []
    for tool, arguments in ((read_document, {"document_id": theirs.id}),):
        with pytest.raises(DocumentNotFound):
            operations.perform(tool, arguments, bob)
    with pytest.raises(DocumentNotFound):
        operations.perform(search_documents, {"query": "refund", "document_ids": [theirs.id]}, bob)


@pytest.mark.spec("DTOOL-10")
def test_a_token_that_may_only_read_cannot_file(operations: Operations, new_caller: Callable[..., Caller]) -> None:
    reader = new_caller(scopes=frozenset({"read"}))

    with pytest.raises(Forbidden):
        operations.perform(add_document, {"title": "t", "text": "a"}, reader)


@pytest.mark.spec("DTOOL-11")
def test_rest_searches_by_the_same_tool(guest: httpx.Client) -> None:
    uploaded = guest.post("/api/documents", files={"file": ("handbook.md", f"# Returns\n\n{REFUND}\n")})
    document_id = uploaded.raise_for_status().json()["id"]
    ended = ("ready", "failed")
    wait_until(lambda: guest.get(f"/api/documents/{document_id}").json()["status"] in ended, seconds=30)

    def searched(**wanted: Any) -> httpx.Response:
        return guest.post("/api/search", json={"query": "How do I get my money back?", **wanted})

    told = searched().raise_for_status().json()
    [passage] = told["passages"]
    page = guest.get(f"/api/documents/{document_id}/pages/1").raise_for_status().json()
    assert told["reason"] is None
    assert (passage["document_id"], passage["filename"], passage["page_number"]) == (document_id, "handbook.md", None)
    assert REFUND in passage["text"]
    assert page["text"][passage["start"] : passage["end"]] == passage["text"]
    assert searched(document_ids=[document_id + 1]).status_code == 404
    for wrong in ({"limit": 0}, {"limit": 21}, {"query": ""}, {"document_ids": [0]}, {"user_id": "guest_1"}):
        assert searched(**wrong).status_code == 422
