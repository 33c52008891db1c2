"""The two tools that research clients expect: search names pages and tasks, fetch reads them."""

import json
from typing import Any

import pytest

from backend.documents.repository import DocumentNotFound, PageNotFound
from backend.documents.tools import StillIndexing
from backend.errors import InvalidInput, NotFound
from backend.identity.caller import Caller
from backend.operations.models import Operation
from backend.operations.perform import Call, Operations
from backend.postgres.database import Database
from backend.tasks.repository import TaskNotFound, TaskRepository
from backend.tasks.tools import add_task, complete_task
from backend.workspace.research import MOST_FETCHED, ItemFetched, fetch, search
from tests.documents.filed import ADDRESS, door, file

REFUND = "Goods may be returned for a full refund within thirty days."


@pytest.fixture
def operations(database: Database) -> Operations:
    """The operations, with the inputs that tools for documents need."""
    return door(database)


def ids(operations: Operations, caller: Caller, query: str) -> list[str]:
    """Return the ids of what a search finds."""
    return [item["id"] for item in operations.perform(search, {"query": query}, caller).result["results"]]


@pytest.mark.spec("DTOOL-20")
def test_a_search_names_pages_and_tasks_in_the_shape_that_clients_parse(
    operations: Operations, database: Database, alice: Caller
) -> None:
    handbook = file(database, alice, "Shipping by noon.", f"{REFUND}\n\nA refund takes a week.")
    letter = file(database, alice, "Nothing.", "Please refund me.", filename="letter.docx", has_pages=False)
    operations.perform(add_task, {"title": "Ask for the refund"}, alice)

    told = operations.perform(search, {"query": "refund"}, alice).result

    assert told.keys() == {"results"}
    assert told["results"][0] == {"id": "task-1", "title": "Ask for the refund", "url": f"{ADDRESS}/#task-1"}
    pages = {item["id"]: item for item in told["results"][1:]}
    assert len(pages) == len(told["results"]) - 1
    assert pages[f"document-{handbook.id}-page-2"] == {
        "id": f"document-{handbook.id}-page-2",
        "title": "handbook.pdf, page 2",
        "url": f"{ADDRESS}/#document-{handbook.id}-page-2",
    }
    assert pages[f"document-{letter.id}-page-2"]["title"] == "letter.docx"


@pytest.mark.spec("DTOOL-20")
def test_tasks_are_found_by_any_of_their_words_the_fullest_first(operations: Operations, alice: Caller) -> None:
    for title in ("Call the plumber", "Rent a van", "Pay the rent in March"):
        operations.perform(add_task, {"title": title}, alice)

    assert ids(operations, alice, "When do I pay the rent?") == ["task-3", "task-1", "task-2"]
    assert ids(operations, alice, "plumber") == ["task-1"]
    assert ids(operations, alice, "100%") == []
    assert ids(operations, alice, "\x00 \ud800 " + "x" * 100_000) == []
    assert len(ids(operations, alice, " ".join(f"word{number} rent" for number in range(50)))) == 2


@pytest.mark.spec("DTOOL-21")
def test_a_page_is_fetched_whole(operations: Operations, database: Database, alice: Caller) -> None:
    handbook = file(database, alice, "First.", f"{REFUND}\n\nA refund takes a week.", "Third.")

    told = operations.perform(fetch, {"id": f"document-{handbook.id}-page-2"}, alice).result

    assert told == {
        "id": f"document-{handbook.id}-page-2",
        "title": "handbook.pdf, page 2",
        "text": f"{REFUND}\n\nA refund takes a week.",
        "url": f"{ADDRESS}/#document-{handbook.id}-page-2",
        "metadata": {
            "kind": "document",
            "document_id": str(handbook.id),
            "filename": "handbook.pdf",
            "page": "2",
            "pages": "3",
            "next_id": f"document-{handbook.id}-page-3",
        },
    }


@pytest.mark.spec("DTOOL-21")
def test_a_document_is_fetched_from_its_beginning_within_bounds(
    operations: Operations, database: Database, alice: Caller
) -> None:
    short = file(database, alice, "One.", "Two.", filename="short.md", has_pages=False)
    long = file(database, alice, *(f"{number} " + "word " * 4_000 for number in range(9)), filename="long.pdf")
    huge = file(database, alice, "word " * 15_000, "Two.", filename="huge.pdf")

    whole, begun, cut = (
        operations.perform(fetch, {"id": f"document-{document.id}"}, alice).result for document in (short, long, huge)
    )

    assert (whole["title"], whole["text"], whole["metadata"]["page"]) == ("short.md", "One.\n\nTwo.", "1-2")
    assert "next_id" not in whole["metadata"]
    assert (begun["metadata"]["page"], begun["metadata"]["next_id"]) == ("1-2", f"document-{long.id}-page-3")
    assert len(cut["text"]) == MOST_FETCHED


@pytest.mark.spec("DTOOL-22")
def test_a_task_is_fetched_with_what_is_known_of_it(operations: Operations, database: Database, alice: Caller) -> None:
    wanted = {"title": "Pay the rent", "description": "By transfer.", "due": "2031-03-04", "tags": ["home"]}
    operations.perform(add_task, wanted, alice)
    operations.perform(complete_task, {"task_id": 1}, alice)
    with database.scope(alice.user_id, alice.zone) as scope:
        TaskRepository(scope).add(title="Return goods", document_id=7, page_number=2, quote="- [ ] Return goods")

    own = operations.perform(fetch, {"id": "task-1"}, alice).result
    taken = operations.perform(fetch, {"id": "task-2"}, alice).result

    assert (own["title"], own["url"]) == ("Pay the rent", f"{ADDRESS}/#task-1")
    assert own["text"] == "Pay the rent\n\nBy transfer.\n\nDue Tuesday, March 4, 2031."
    assert own["metadata"] == {
        "kind": "task",
        "status": "completed",
        "priority": "none",
        "tags": "home",
        "due": "2031-03-04T23:59:00+01:00",
    }
    assert "“- [ ] Return goods”" in taken["text"]
    assert ItemFetched.model_validate(own).document_ids_read() == []
    assert ItemFetched.model_validate(taken).document_ids_read() == [7]


@pytest.mark.spec("DTOOL-23")
@pytest.mark.parametrize(
    ("item", "error"),
    [
        ("document-99", DocumentNotFound),
        ("document-0", DocumentNotFound),
        ("document-9999999999-page-9999999999", DocumentNotFound),
        ("document-1-page-2", PageNotFound),
        ("document-1-page-0", PageNotFound),
        ("document-2", StillIndexing),
        ("task-99", TaskNotFound),
        ("task-1-page-1", NotFound),
        ("message-1", NotFound),
        ("", NotFound),
        ("../etc/passwd", NotFound),
        ("document-1\nx", InvalidInput),
        ("x" * 101, InvalidInput),
        (7, InvalidInput),
    ],
)
def test_an_id_of_nothing_is_refused_with_a_sentence(
    operations: Operations, database: Database, alice: Caller, item: Any, error: type[Exception]
) -> None:
    file(database, alice, REFUND)
    file(database, alice, status="processing", filename="new.pdf")

    with pytest.raises(error, match=r"\.$"):
        operations.perform(fetch, {"id": item}, alice)


@pytest.mark.spec("DTOOL-23")
def test_nothing_of_another_user_is_found_or_fetched(
    operations: Operations, database: Database, alice: Caller, bob: Caller
) -> None:
    theirs = file(database, alice, REFUND)
    operations.perform(add_task, {"title": "Ask for the refund"}, alice)

    assert ids(operations, bob, "refund") == []
    for item in (f"document-{theirs.id}", f"document-{theirs.id}-page-1", "task-1"):
        with pytest.raises(NotFound):
            operations.perform(fetch, {"id": item}, bob)


@pytest.mark.spec("DTOOL-24")
def test_what_was_read_is_written_down_by_its_documents_alone(
    operations: Operations, database: Database, alice: Caller
) -> None:
    handbook = file(database, alice, REFUND)

    found = operations.perform(search, {"query": "refund"}, alice, Call(run_id="r1", call_id="r1-1-1"))
    wanted = {"id": f"document-{handbook.id}"}
    read = operations.perform(fetch, wanted, alice, Call(run_id="r1", call_id="r1-1-2"))

    with database.scope(alice.user_id, alice.zone) as scope:
        kept = [scope.session.get(Operation, (alice.user_id, done.operation_id)) for done in (found, read)]
        assert [row.document_ids for row in kept if row] == [[handbook.id], [handbook.id]]
        assert "refund within" not in json.dumps([row.result for row in kept if row])
