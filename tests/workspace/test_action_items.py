"""Tasks that are created from a document."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from backend.documents.models import DocumentPage
from backend.documents.repository import DocumentNotFound, DocumentRepository
from backend.documents.rest_tools import delete_document
from backend.documents.tools import StillIndexing
from backend.errors import InvalidInput
from backend.identity.caller import Caller
from backend.operations.perform import Call, OpenScope, Operations, TaintedTurn
from backend.postgres.database import Database
from backend.tasks.dates import Due, understand
from backend.tasks.repository import TooManyTasks
from backend.tasks.tools import add_task, complete_task, get_task, list_tasks, show_task
from backend.workspace.action_items import MOST_TASKS_AT_ONCE, create_tasks_from_document, find_to_do
from backend.workspace.action_rules import Action, find_actions
from backend.workspace.due_words import MOST_TRIES, split_due
from tests.conftest import query as sql
from tests.documents.filed import door, file

MINUTES = (
    "# Minutes\n\nAnna and Bob met.",
    "# Action items\n\n- Book a room by 2031-03-04\n- [x] Invite everybody\n- Send the minutes (Anna, bis 4.3.2031)\n",
    "TODO: read it all",
)


@pytest.fixture
def operations(database: Database) -> Operations:
    """The operations, with the inputs that tools for documents need."""
    return door(database)


def create(operations: Operations, caller: Caller, document_id: int, **arguments: Any) -> dict[str, Any]:
    """Call the tool and return its result."""
    wanted = {"document_id": document_id, **arguments}
    return operations.perform(create_tasks_from_document, wanted, caller).result


def titles(operations: Operations, caller: Caller) -> list[str]:
    """Return the titles of the caller's tasks."""
    return [task["title"] for task in operations.perform(list_tasks, {"limit": 100}, caller).result["tasks"]]


@pytest.mark.spec("DTOOL-40")
def test_a_dry_run_lists_what_would_be_made_and_makes_nothing(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES, filename="minutes.pdf")

    told = create(operations, alice, minutes.id)

    assert (told["status"], told["filename"], told["made_before"], told["left_out"]) == (
        "dry_run",
        "minutes.pdf",
        0,
        0,
    )
    assert told["tasks"][0] == {
        "number": 1,
        "title": "Book a room",
        "due": "2031-03-04T23:59:00+01:00",
        "due_understood": "Tuesday, March 4, 2031",
        "page_number": 2,
        "quote": "- Book a room by 2031-03-04",
        "task_id": None,
    }
    assert [(task["number"], task["title"], task["page_number"]) for task in told["tasks"][1:]] == [
        (2, "Send the minutes (Anna)", 2),
        (3, "read it all", 3),
    ]
    assert told["tasks"][1]["due"] == told["tasks"][0]["due"]
    assert titles(operations, alice) == []


@pytest.mark.spec("DTOOL-41")
def test_the_tasks_are_made_once_and_keep_document_page_and_quote(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)

    made = create(operations, alice, minutes.id, dry_run=False)
    again = create(operations, alice, minutes.id, dry_run=False)

    assert made["status"] == "created"
    assert [task["task_id"] for task in made["tasks"]] == [1, 2, 3]
    assert (again["tasks"], again["made_before"]) == ([], 3)
    assert titles(operations, alice) == ["Book a room", "Send the minutes (Anna)", "read it all"]
    shown = operations.perform(show_task, {"task_id": 1}, alice).result
    assert (shown["document_id"], shown["page_number"], shown["quote"]) == (
        minutes.id,
        2,
        "- Book a room by 2031-03-04",
    )
    assert shown["due"] == "2031-03-04T23:59:00+01:00"


@pytest.mark.spec("DTOOL-41")
def test_of_calls_at_once_only_one_makes_each_task(operations: Operations, database: Database, alice: Caller) -> None:
    todo = file(database, alice, "\n".join(f"- [ ] Task {number}" for number in range(1, 41)), filename="todo.md")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(operations, alice, todo.id, dry_run=False), range(4)))

    assert sorted(len(one["tasks"]) for one in made) == [0, 0, 0, 40]
    assert sum(one["made_before"] for one in made) == 120


@pytest.mark.spec("DTOOL-41")
def test_only_the_wanted_ones_are_made(operations: Operations, database: Database, alice: Caller) -> None:
    minutes = file(database, alice, *MINUTES)

    made = create(operations, alice, minutes.id, dry_run=False, only=[3])
    both = create(operations, alice, minutes.id, dry_run=False, only=[1, 3])

    assert [(task["number"], task["task_id"]) for task in made["tasks"]] == [(3, 1)]
    assert [(task["number"], task["task_id"]) for task in both["tasks"]] == [(1, 2), (3, 1)]
    assert titles(operations, alice) == ["read it all", "Book a room"]
    with pytest.raises(InvalidInput, match="has 3 tasks, so there is no number 4"):
        create(operations, alice, minutes.id, dry_run=False, only=[2, 4])
    assert len(titles(operations, alice)) == 2


@pytest.mark.spec("DTOOL-42")
def test_many_are_made_by_fifty(operations: Operations, database: Database, alice: Caller) -> None:
    page = "\n".join(f"- [ ] Task {number}" for number in range(1, 31))
    todo = file(database, alice, page, page.replace("Task", "Further"), filename="todo.md", has_pages=False)

    first, second, third = (create(operations, alice, todo.id, dry_run=False) for _ in range(3))

    assert (len(first["tasks"]), first["left_out"]) == (MOST_TASKS_AT_ONCE, 10)
    assert (len(second["tasks"]), second["left_out"], second["made_before"]) == (10, 0, 50)
    assert [task["number"] for task in second["tasks"]] == list(range(51, 61))
    assert third["tasks"] == []
    assert {task["page_number"] for task in first["tasks"]} == {None}


@pytest.mark.spec("DTOOL-42")
def test_a_long_line_becomes_a_title_that_fits(operations: Operations, database: Database, alice: Caller) -> None:
    line = "- [ ] " + "word " * 300
    todo = file(database, alice, line)

    [task] = create(operations, alice, todo.id, dry_run=False)["tasks"]

    assert len(task["title"]) <= 200
    assert task["title"].endswith("word…")
    assert task["quote"] == line[:1000]
    assert operations.perform(get_task, {"task_id": 1}, alice).result["title"] == task["title"]


@pytest.mark.spec("DTOOL-43")
def test_all_or_none_are_made(operations: Operations, database: Database, alice: Caller, superuser_url: str) -> None:
    minutes = file(database, alice, *MINUTES)
    operations.perform(add_task, {"title": "First"}, alice)
    many = "insert into tasks (user_id, id, title) select %s, number, 'old' from generate_series(2, 9999) number"
    sql(superuser_url, many, alice.user_id)
    sql(superuser_url, "update counters set last = 9999 where user_id = %s and noun = 'task'", alice.user_id)

    with pytest.raises(TooManyTasks):
        create(operations, alice, minutes.id, dry_run=False)

    assert sql(superuser_url, "select count(*) from tasks where user_id = %s", alice.user_id) == [(9999,)]


@pytest.mark.spec("DTOOL-43")
def test_a_document_that_cannot_be_read_makes_none(
    operations: Operations, database: Database, alice: Caller, bob: Caller
) -> None:
    growing = file(database, alice, status="processing", filename="new.pdf")
    theirs = file(database, alice, *MINUTES)

    with pytest.raises(StillIndexing):
        create(operations, alice, growing.id)
    with pytest.raises(DocumentNotFound):
        create(operations, bob, theirs.id, dry_run=False)
    empty = file(database, bob, "Nothing is to be done.")
    assert create(operations, bob, empty.id, dry_run=False)["tasks"] == []


@pytest.mark.spec("DTOOL-44")
def test_the_dry_run_and_the_making_need_a_message_of_the_user_between_them(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)

    def in_run(run: str, call: str, **arguments: Any) -> dict[str, Any]:
        wanted = {"document_id": minutes.id, **arguments}
        return operations.perform(create_tasks_from_document, wanted, alice, Call(run_id=run * 32, call_id=call)).result

    assert len(in_run("a", "1")["tasks"]) == 3
    with pytest.raises(TaintedTurn):
        in_run("a", "2", dry_run=False)
    assert len(in_run("a", "3")["tasks"]) == 3
    assert [task["task_id"] for task in in_run("b", "1", dry_run=False)["tasks"]] == [1, 2, 3]
    with pytest.raises(TaintedTurn):
        operations.perform(complete_task, {"task_id": 1}, alice, Call(run_id="b" * 32, call_id="2"))


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch, database: Database) -> list[str]:
    """The words that were tried as dates; fails if a connection is held meanwhile."""
    words: list[str] = []

    def noting(said: str, **more: Any) -> Due:
        assert database.pool_status()["checked_out"] == 0
        words.append(said)
        return understand(said, **more)

    monkeypatch.setattr("backend.workspace.due_words.understand", noting)
    return words


@pytest.mark.spec("DTOOL-46")
def test_only_the_lines_that_are_shown_are_resolved_and_no_connection_is_held_meanwhile(
    operations: Operations, database: Database, alice: Caller, resolved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "- [ ] Write by hand on page {} by desk on the quay by noon on this or by that on Monday"
    pages = ["\n".join(line.format(f"{page}-{number}") for number in range(100)) for page in range(30)]
    todo = file(database, alice, *pages, filename="todo.md", has_pages=False)

    def watched(pages: Iterable[DocumentPage]) -> Iterator[Action]:
        for action in find_actions(pages):
            assert database.pool_status()["checked_out"] == 0
            yield action

    monkeypatch.setattr("backend.workspace.action_rules.find_actions", watched)
    told = create(operations, alice, todo.id)

    assert (len(told["tasks"]), told["left_out"]) == (MOST_TASKS_AT_ONCE, 3_000 - MOST_TASKS_AT_ONCE)
    assert told["tasks"][0]["due"] is not None
    assert 0 < len(resolved) <= MOST_TASKS_AT_ONCE * MOST_TRIES
    resolved.clear()
    create(operations, alice, todo.id, only=[2_999])
    assert 0 < len(resolved) <= MOST_TRIES


@pytest.mark.spec("DTOOL-46")
@pytest.mark.parametrize("line", ["by on " * 500, "by dawn " * 100 + "2026-12-01"])
def test_the_tries_at_one_line_are_few(alice: Caller, resolved: list[str], line: str) -> None:
    split_due(f"Do it {line}", now=datetime(2026, 11, 22, 12, tzinfo=UTC), zone=alice.zone)

    assert len(resolved) == MOST_TRIES


def meanwhile(database: Database, change: Callable[[], object]) -> Operations:
    """Return operations in which `change` happens after a document was examined and before tasks are created."""

    def prepared(arguments: dict[str, Any], open_scope: OpenScope) -> Any:
        found = find_to_do(arguments, open_scope)
        change()
        return found

    return Operations(database, preparations={"create_tasks_from_document": prepared})


@pytest.mark.spec("DTOOL-47")
def test_a_document_that_is_deleted_after_it_was_looked_through_makes_none(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)

    def delete() -> None:
        operations.perform(delete_document, {"document_id": minutes.id}, alice)

    with pytest.raises(DocumentNotFound):
        create(meanwhile(database, delete), alice, minutes.id, dry_run=False)

    assert titles(operations, alice) == []


@pytest.mark.spec("DTOOL-47")
def test_a_document_that_becomes_ready_after_it_was_looked_for_is_tried_again_later(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES, status="processing")

    def finish() -> None:
        with database.scope(alice.user_id, alice.zone) as scope:
            DocumentRepository(scope).get(minutes.id).status = "ready"

    with pytest.raises(StillIndexing):
        create(meanwhile(database, finish), alice, minutes.id, dry_run=False)

    assert len(create(operations, alice, minutes.id, dry_run=False)["tasks"]) == 3


@pytest.mark.spec("DTOOL-41")
def test_what_another_call_made_meanwhile_is_not_made_twice(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)
    other = meanwhile(database, lambda: create(operations, alice, minutes.id, dry_run=False, only=[2]))

    made = create(other, alice, minutes.id, dry_run=False)

    assert ([task["number"] for task in made["tasks"]], made["made_before"], made["left_out"]) == ([1, 3], 1, 0)
    assert titles(operations, alice) == ["Send the minutes (Anna)", "Book a room", "read it all"]


@pytest.mark.spec("OPER-3")
def test_an_equal_call_gets_the_recorded_outcome_although_the_document_is_gone(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)
    wanted, call = {"document_id": minutes.id, "dry_run": False}, Call(run_id="a" * 32, call_id="1")
    first = operations.perform(create_tasks_from_document, wanted, alice, call)
    operations.perform(delete_document, {"document_id": minutes.id}, alice)

    again = operations.perform(create_tasks_from_document, wanted, alice, call)

    assert again.replayed
    assert again.result == first.result


@pytest.mark.spec("TASK-23")
def test_no_tool_that_models_call_shows_the_words_of_a_document(
    operations: Operations, database: Database, alice: Caller
) -> None:
    minutes = file(database, alice, *MINUTES)
    create(operations, alice, minutes.id, dry_run=False)

    task = operations.perform(get_task, {"task_id": 1}, alice).result
    [listed, *_] = operations.perform(list_tasks, {}, alice).result["tasks"]
    done = operations.perform(complete_task, {"task_id": 1}, alice).result

    assert (task["document_id"], task["page_number"], task["quote"]) == (minutes.id, 2, None)
    assert (listed["document_id"], listed["page_number"], listed["quote"]) == (minutes.id, 2, None)
    assert "quote" not in done


@pytest.mark.spec("DTOOL-45")
@pytest.mark.parametrize(
    ("line", "title", "day"),
    [
        ("Send the report by next Friday", "Send the report", "2026-11-27"),
        ("Send the report - by March 3", "Send the report", "2027-03-03"),
        ("Book a room (due: 2026-12-01).", "Book a room", "2026-12-01"),
        ("Book a room (Anna, by 12/1/2026)", "Book a room (Anna)", "2026-12-01"),
        ("Call Bob tomorrow at 5pm", "Call Bob", "2026-11-23"),
        ("Sort by name by Monday", "Sort by name", "2026-11-23"),
        ("Vertrag prüfen bis Ende nächster Woche", "Vertrag prüfen", "2026-11-29"),
        ("Rechnung zahlen bis zum 3.12.2026", "Rechnung zahlen", "2026-12-03"),
        ("Antrag einreichen, spätestens am 15. Januar 2027", "Antrag einreichen", "2027-01-15"),
        ("Folien fertigstellen bis Freitag um 17 Uhr", "Folien fertigstellen", "2026-11-27"),
        ("Plan the year", "Plan the year", None),
        ("Stand by the door", "Stand by the door", None),
        ("Read chapter 9", "Read chapter 9", None),
        ("Antrag bis Montag einreichen", "Antrag bis Montag einreichen", None),
        ("by Friday", "by Friday", None),
        ("Sign it by the 40th of Smarch.", "Sign it by the 40th of Smarch.", None),
        ("by " * 1_000, "by " * 1_000, None),
    ],
    ids=lambda given: str(given)[:30],
)
def test_the_words_at_the_end_of_a_line_say_when_it_is_due(
    alice: Caller, line: str, title: str, day: str | None
) -> None:
    left, due = split_due(line, now=datetime(2026, 11, 22, 12, tzinfo=UTC), zone=alice.zone)

    assert left == title
    assert (due and due.date().isoformat()) == day
