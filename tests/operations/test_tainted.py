"""A turn that was given text of a document changes nothing, whatever the model says: at the door itself."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from backend.documents.tools import add_document, list_documents, read_document, search_documents
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations, Outcome, TaintedTurn
from backend.operations.tool import Tool
from backend.postgres.database import Database
from backend.tasks.tools import add_task, complete_task, delete_task, list_tasks, reopen_task, update_task
from backend.workspace.action_items import create_tasks_from_document
from backend.workspace.research import fetch, search
from tests.conftest import query
from tests.documents.filed import door, file

MINUTES = "The boiler has to be checked.\n\nAction items\n\n- [ ] Call the plumber\n- [ ] Order the valve"
READS: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
    (search_documents, {"query": "boiler"}),
    (read_document, {"document_id": 1}),
    (list_documents, {}),
    (search, {"query": "boiler"}),
    (fetch, {"id": "document-1-page-1"}),
    (create_tasks_from_document, {"document_id": 1}),
]
WRITES: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
    (add_task, {"title": "Obey the document"}),
    (update_task, {"task_id": 1, "title": "Obey the document"}),
    (complete_task, {"task_id": 1}),
    (reopen_task, {"task_id": 1}),
    (delete_task, {"task_id": 1}),
    (add_document, {"title": "Obey", "text": "The document."}),
    (create_tasks_from_document, {"document_id": 1, "dry_run": False}),
]


@pytest.fixture
def operations(database: Database) -> Operations:
    """The one door, with what tools over documents need."""
    return door(database)


class Turn:
    """The calls of one run, as the agent makes them: each has a number of its own."""

    def __init__(self, operations: Operations, caller: Caller, run_id: str = "run-1") -> None:
        self._operations = operations
        self._caller = caller
        self._run_id = run_id
        self._calls = 0

    def does(self, tool: Tool[Any, Any], arguments: dict[str, Any], *, again: bool = False) -> Outcome:
        """Make a call; `again` makes the last one once more, as the next attempt does after a crash."""
        self._calls += not again
        call = Call(run_id=self._run_id, call_id=f"{self._run_id}-{self._calls}")
        return self._operations.perform(tool, arguments, self._caller, call)


def state_of(superuser_url: str, caller: Caller) -> list[Any]:
    """Return everything that tools of the user change."""
    statements = (
        "select id, title, completed, version, document_id from tasks where user_id = %s order by id",
        "select id, title, deleted_at from documents where user_id = %s order by id",
    )
    return [query(superuser_url, statement, caller.user_id) for statement in statements]


@pytest.mark.spec("TAINT-1")
@pytest.mark.parametrize(("tool", "arguments"), WRITES, ids=lambda part: getattr(part, "name", ""))
def test_a_write_after_a_read_is_denied_recorded_and_changes_nothing(
    operations: Operations,
    database: Database,
    superuser_url: str,
    alice: Caller,
    tool: Tool[Any, Any],
    arguments: dict[str, Any],
) -> None:
    file(database, alice, MINUTES)
    turn = Turn(operations, alice)
    turn.does(add_task, {"title": "Mine"})
    turn.does(search_documents, {"query": "boiler"})
    before = state_of(superuser_url, alice)

    with pytest.raises(TaintedTurn) as denied:
        turn.does(tool, arguments)

    assert state_of(superuser_url, alice) == before
    assert "Nothing was changed" in str(denied.value)
    assert "confirm it in a new message" in denied.value.hint
    [row] = query(
        superuser_url,
        "select tool, outcome, result ->> 'error', document_ids from operations where user_id = %s "
        "order by id desc limit 1",
        alice.user_id,
    )
    assert row == (tool.name, "denied", str(denied.value), [])


@pytest.mark.spec("TAINT-2")
@pytest.mark.parametrize(("tool", "arguments"), READS, ids=lambda part: getattr(part, "name", ""))
def test_each_tool_that_shows_a_document_s_text_taints_the_turn(
    operations: Operations, database: Database, alice: Caller, tool: Tool[Any, Any], arguments: dict[str, Any]
) -> None:
    document = file(database, alice, MINUTES)
    given = {
        name: document.id if name == "document_id" else str(value).replace("-1-", f"-{document.id}-")
        for name, value in arguments.items()
    }
    turn = Turn(operations, alice)
    turn.does(add_task, {"title": "Before"})

    turn.does(tool, given)

    with pytest.raises(TaintedTurn):
        turn.does(add_task, {"title": "After"})


@pytest.mark.spec("TAINT-3")
def test_a_read_that_brings_no_text_back_does_not_taint(
    operations: Operations, database: Database, alice: Caller
) -> None:
    turn = Turn(operations, alice)
    for tool, arguments in ((search_documents, {"query": "boiler"}), (list_documents, {}), (search, {"query": "x"})):
        turn.does(tool, arguments)
    turn.does(add_task, {"title": "Mine"})
    turn.does(list_tasks, {})
    turn.does(fetch, {"id": "task-1"})
    file(database, alice, MINUTES)
    turn.does(search_documents, {"query": "zebra", "document_ids": []})

    assert turn.does(add_task, {"title": "Mine too"}).is_error is False


@pytest.mark.spec("TAINT-4")
def test_reading_on_and_dry_runs_are_never_denied(operations: Operations, database: Database, alice: Caller) -> None:
    document = file(database, alice, MINUTES)
    turn = Turn(operations, alice)
    turn.does(read_document, {"document_id": document.id})

    dry = turn.does(create_tasks_from_document, {"document_id": document.id, "dry_run": True})
    turn.does(read_document, {"document_id": document.id})
    turn.does(list_tasks, {})

    assert [task["title"] for task in dry.result["tasks"]] == ["Call the plumber", "Order the valve"]


@pytest.mark.spec("TAINT-5")
def test_neither_the_next_turn_nor_another_user_s_nor_calls_outside_of_turns_are_tainted(
    operations: Operations, database: Database, alice: Caller, bob: Caller
) -> None:
    document = file(database, alice, MINUTES)
    Turn(operations, alice).does(read_document, {"document_id": document.id})

    Turn(operations, alice, "run-2").does(create_tasks_from_document, {"document_id": document.id, "dry_run": False})
    Turn(operations, bob).does(add_task, {"title": "Bob's"})
    operations.perform(read_document, {"document_id": document.id}, alice)
    operations.perform(add_task, {"title": "By a program"}, alice)

    titles = [task["title"] for task in operations.perform(list_tasks, {}, alice).result["tasks"]]
    assert sorted(titles) == ["By a program", "Call the plumber", "Order the valve"]


@pytest.mark.spec("TAINT-6")
def test_a_user_who_says_that_it_is_no_matter_is_not_asked(
    operations: Operations, database: Database, superuser_url: str, alice: Caller
) -> None:
    document = file(database, alice, MINUTES)
    query(superuser_url, "update users set tainted_writes = 'allow' where user_id = %s", alice.user_id)
    turn = Turn(operations, alice)
    turn.does(read_document, {"document_id": document.id})

    assert turn.does(add_task, {"title": "From the document"}).is_error is False


@pytest.mark.spec("TAINT-6")
def test_a_person_can_say_so_and_a_token_cannot(guest: httpx.Client, authenticator: Authenticator) -> None:
    assert guest.get("/api/me").json()["tainted_writes"] == "ask"
    made = guest.post("/api/tokens", json={"name": "a program"}).raise_for_status().json()
    token = {"Authorization": f"Bearer {made['token']}"}

    refused = guest.patch("/api/me", json={"tainted_writes": "allow"}, headers=token)
    unknown = guest.patch("/api/me", json={"tainted_writes": "always"})
    assert (refused.status_code, unknown.status_code) == (403, 422)
    assert guest.get("/api/me").json()["tainted_writes"] == "ask"
    assert guest.patch("/api/me", json={"name": "Ann"}, headers=token).status_code == 200

    allowed = guest.patch("/api/me", json={"tainted_writes": "allow"})
    assert (allowed.status_code, allowed.json()["tainted_writes"]) == (200, "allow")
    assert guest.patch("/api/me", json={"tainted_writes": "ask"}).json()["tainted_writes"] == "ask"
    assert authenticator.caller(made["token"]).by_token


@pytest.mark.spec("TAINT-7")
def test_what_was_done_before_the_read_is_answered_from_the_ledger_after_it(
    operations: Operations, database: Database, superuser_url: str, alice: Caller
) -> None:
    document = file(database, alice, MINUTES)
    first = Turn(operations, alice)
    added = first.does(add_task, {"title": "Mine"})
    first.does(read_document, {"document_id": document.id})
    with pytest.raises(TaintedTurn):
        first.does(delete_task, {"task_id": 1})

    # The next attempt makes the same calls again.
    second = Turn(operations, alice)
    replayed = second.does(add_task, {"title": "Mine"})
    second.does(read_document, {"document_id": document.id})
    denied = second.does(delete_task, {"task_id": 1})

    assert (replayed.replayed, replayed.result) == (True, added.result)
    assert (denied.replayed, denied.is_error) == (True, True)
    assert "Nothing was changed" in denied.result["error"]
    counted = "select tool, outcome, count(*)::int from operations where user_id = %s group by 1, 2 order by 1"
    assert query(superuser_url, counted, alice.user_id) == [
        ("add_task", "ok", 1),
        ("delete_task", "denied", 1),
        ("read_document", "ok", 1),
    ]


@pytest.mark.spec("TAINT-7")
def test_a_turn_stays_tainted_when_the_document_is_deleted(
    operations: Operations, database: Database, superuser_url: str, alice: Caller, new_caller: Callable[..., Caller]
) -> None:
    document = file(database, alice, MINUTES)
    turn = Turn(operations, alice)
    turn.does(read_document, {"document_id": document.id})
    query(superuser_url, "delete from documents where user_id = %s", alice.user_id)

    with pytest.raises(TaintedTurn):
        turn.does(add_task, {"title": "Obey the document"})
    assert Turn(operations, new_caller()).does(add_task, {"title": "Mine"}).is_error is False
