"""Undo: one operation, a turn, an undo; and what is refused."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from backend.documents.repository import CannotComeBack
from backend.documents.rest_tools import delete_document
from backend.documents.tools import add_document, list_documents
from backend.errors import Conflict, InvalidInput, NotFound
from backend.identity.caller import Caller
from backend.operations.ledger import OperationNotFound
from backend.operations.perform import Call, Operations, TaintedTurn
from backend.operations.tool import Tool
from backend.tasks.tools import (
    add_task,
    complete_task,
    delete_task,
    edit_task,
    list_tasks,
    reopen_task,
    toggle_task,
    update_task,
)
from backend.workspace.undo import AlreadyUndone, ChangedSince, NothingToUndo, undo
from tests.conftest import query

FULL = {
    "title": "milk",
    "description": "Two liters\nof it",
    "due": "2031-01-01 17:30",
    "priority": "high",
    "tags": ["shop", "home"],
}
TASKS = "select id, to_jsonb(t) - 'version' - 'updated_at' from tasks t where user_id = %s order by id"


@pytest.fixture
def tasks(superuser_url: str, alice: Caller) -> Callable[[], list[tuple[Any, ...]]]:
    """The user's rows as the database has them, apart from version and time of change."""
    return lambda: query(superuser_url, TASKS, alice.user_id)


EVERY_WRITE: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
    (add_task, {"title": "bread"}),
    (update_task, {"task_id": 1, "title": "oats", "due": "none", "tags": []}),
    (complete_task, {"task_id": 1}),
    (reopen_task, {"task_id": 2}),
    (delete_task, {"task_id": 1}),
    (edit_task, {"task_id": 1, "title": "oats", "completed": True, "priority": "none"}),
    (toggle_task, {"task_id": 2}),
]


@pytest.mark.spec("UNDO-1")
@pytest.mark.parametrize(("tool", "arguments"), EVERY_WRITE, ids=[tool.name for tool, _ in EVERY_WRITE])
def test_every_write_is_undone_to_the_byte_and_done_again(
    perform: Callable[..., Any], tasks: Callable[[], Any], tool: Tool[Any, Any], arguments: dict[str, Any]
) -> None:
    perform(add_task, **FULL)
    perform(add_task, title="done")
    perform(complete_task, task_id=2)
    before = tasks()
    done = perform(tool, **arguments)
    after = tasks()

    undone = perform(undo, operation_id=done["operation_id"])

    assert tasks() == before != after
    assert undone["status"] == "undone"
    assert undone["undone"] == [done["operation_id"]]
    perform(undo, operation_id=undone["operation_id"])
    assert tasks() == after
    perform(undo, operation_id=done["operation_id"])
    assert tasks() == before


@pytest.mark.spec("UNDO-1")
def test_a_restored_task_has_a_new_version(perform: Callable[..., Any]) -> None:
    perform(add_task, title="milk")
    perform(delete_task, task_id=1)

    perform(undo)

    [task] = perform(list_tasks)["tasks"]
    assert task["version"] == 2


@pytest.mark.spec("UNDO-1")
def test_a_document_is_added_deleted_and_both_are_undone(perform: Callable[..., Any]) -> None:
    added = perform(add_document, title="Note", text="The rent is due on the first.")
    deleted = perform(delete_document, document_id=added["id"])
    assert perform(list_documents)["documents"] == []

    back = perform(undo, operation_id=deleted["operation_id"])
    [document] = perform(list_documents)["documents"]
    gone = perform(undo, operation_id=added["operation_id"])

    assert document["id"] == added["id"]
    assert back["rows"] == [{"kind": "document", "id": added["id"], "title": None, "change": "restored"}]
    assert gone["rows"] == [{"kind": "document", "id": added["id"], "title": None, "change": "removed"}]
    assert perform(list_documents)["documents"] == []


@pytest.mark.spec("UNDO-2")
def test_without_a_number_the_last_change_is_undone_and_then_the_one_before(
    perform: Callable[..., Any], tasks: Callable[[], Any]
) -> None:
    states = []
    states.append(tasks())
    perform(add_task, title="a")
    states.append(tasks())
    perform(update_task, task_id=1, title="b")
    perform(complete_task, task_id=1)
    perform(list_tasks)

    completed = perform(undo)
    perform(undo)
    renamed_back = tasks()
    perform(undo)

    assert completed["rows"] == [{"kind": "task", "id": 1, "title": "b", "change": "changed back"}]
    assert (renamed_back, tasks()) == (states[1], states[0])
    with pytest.raises(NothingToUndo):
        perform(undo)


@pytest.mark.spec("UNDO-3")
def test_a_turn_of_five_calls_is_undone_in_one_step(perform: Callable[..., Any], tasks: Callable[[], Any]) -> None:
    perform(add_task, **FULL)
    perform(add_task, title="second")
    before = tasks()
    run_id = uuid4().hex
    turn: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
        (add_task, {"title": "third"}),
        (update_task, {"task_id": 1, "title": "oats"}),
        (complete_task, {"task_id": 1}),
        (update_task, {"task_id": 3, "title": "3rd"}),
        (delete_task, {"task_id": 2}),
    ]
    for number, (tool, arguments) in enumerate(turn):
        perform(tool, Call(run_id=run_id, call_id=f"{number}"), **arguments)
    after = tasks()

    previewed = perform(undo, run_id=run_id, dry_run=True)
    assert tasks() == after
    undone = perform(undo, run_id=run_id)

    assert tasks() == before
    assert len(undone["undone"]) == 5
    assert [(row["id"], row["change"]) for row in undone["rows"]] == [
        (2, "restored"),
        (3, "removed"),
        (1, "changed back"),
    ]
    assert previewed["rows"] == undone["rows"]
    assert previewed["status"] == "dry_run"
    perform(undo, operation_id=undone["operation_id"])
    assert tasks() == after
    perform(undo, run_id=run_id)
    assert tasks() == before


@pytest.mark.spec("UNDO-4")
def test_a_row_that_changed_since_is_not_undone_and_both_versions_are_told(
    perform: Callable[..., Any], tasks: Callable[[], Any]
) -> None:
    perform(add_task, title="milk", priority="low")
    renamed = perform(update_task, task_id=1, title="oat milk")
    perform(update_task, task_id=1, title="soy milk", priority="high")
    before = tasks()

    with pytest.raises(ChangedSince) as refused:
        perform(undo, operation_id=renamed["operation_id"])

    assert tasks() == before
    assert str(refused.value) == (
        "Task 1 has changed since, so nothing was undone. Then: title “oat milk”, priority “low”. Now: title “soy "
        "milk”, priority “high”."
    )


@pytest.mark.spec("UNDO-4")
def test_both_versions_are_told_in_words(perform: Callable[..., Any]) -> None:
    perform(add_task, title="milk", tags=["shop"], description="Two liters")
    done = perform(complete_task, task_id=1)
    perform(
        edit_task,
        task_id=1,
        completed=False,
        priority="high",
        due="2031-03-04 17:00",
        tags=["a", "b"],
        description="x" * 500,
    )

    with pytest.raises(ChangedSince) as refused:
        perform(undo, operation_id=done["operation_id"])

    assert str(refused.value) == (
        "Task 1 has changed since, so nothing was undone. Then: description “Two liters”, completed, no due date, no "
        f"priority, tags “shop”. Now: description “{'x' * 80}”, not completed, due date Tuesday, March 4, 2031 at 5:00 "
        "PM, priority “high”, tags “a, b”."
    )


@pytest.mark.spec("UNDO-4")
def test_a_row_that_came_or_went_since_is_not_undone(perform: Callable[..., Any]) -> None:
    added = perform(add_task, title="milk")
    deleted = perform(delete_task, task_id=1)

    with pytest.raises(ChangedSince, match="was deleted since"):
        perform(undo, operation_id=added["operation_id"])
    perform(undo, operation_id=deleted["operation_id"])
    with pytest.raises(AlreadyUndone):
        perform(undo, operation_id=deleted["operation_id"])


@pytest.mark.spec("UNDO-4")
def test_a_turn_is_undone_whole_or_not_at_all(perform: Callable[..., Any], tasks: Callable[[], Any]) -> None:
    run_id = uuid4().hex
    perform(add_task, title="first")
    perform(update_task, Call(run_id=run_id, call_id="1"), task_id=1, title="one")
    perform(update_task, task_id=1, title="eins")
    perform(update_task, Call(run_id=run_id, call_id="2"), task_id=1, title="two")
    perform(add_task, Call(run_id=run_id, call_id="3"), title="another")
    before = tasks()

    with pytest.raises(ChangedSince):
        perform(undo, run_id=run_id)

    assert tasks() == before


@pytest.mark.spec("UNDO-5")
def test_what_changed_nothing_cannot_be_undone(perform: Callable[..., Any]) -> None:
    perform(add_task, title="milk")
    perform(complete_task, task_id=1)
    again = perform(complete_task, task_id=1)
    preview = perform(undo, dry_run=True)

    for operation_id in (again["operation_id"], preview["operation_id"]):
        with pytest.raises(NothingToUndo):
            perform(undo, operation_id=operation_id)
    with pytest.raises(OperationNotFound):
        perform(undo, operation_id=99)
    with pytest.raises(NotFound):
        perform(undo, run_id=uuid4().hex)
    with pytest.raises(InvalidInput):
        perform(undo, operation_id=1, run_id=uuid4().hex)


@pytest.mark.spec("UNDO-5")
def test_another_user_s_operation_does_not_exist(operations: Operations, alice: Caller, bob: Caller) -> None:
    run_id = uuid4().hex
    done = operations.perform(add_task, {"title": "milk"}, alice, Call(run_id=run_id, call_id="1"))

    with pytest.raises(NotFound):
        operations.perform(undo, {"operation_id": done.operation_id}, bob)
    with pytest.raises(NotFound):
        operations.perform(undo, {"run_id": run_id}, bob)
    with pytest.raises(NothingToUndo):
        operations.perform(undo, {}, bob)


@pytest.mark.spec("UNDO-6")
def test_of_two_undos_at_once_one_wins(
    operations: Operations, perform: Callable[..., Any], alice: Caller, tasks: Callable[[], Any]
) -> None:
    perform(add_task, title="milk")
    before = tasks()
    changes: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
        (add_task, {"title": "bread"}),
        (delete_task, {"task_id": 1}),
        (update_task, {"task_id": 1, "title": "oats"}),
    ]
    for tool, arguments in changes:
        done = perform(tool, **arguments)
        start = threading.Barrier(4)
        outcomes: list[str] = []

        def undo_it(operation_id: int, start: threading.Barrier, outcomes: list[str]) -> None:
            start.wait()
            try:
                operations.perform(undo, {"operation_id": operation_id}, alice)
            except Conflict as refused:
                outcomes.append(refused.code)
            else:
                outcomes.append("undone")

        threads = [threading.Thread(target=undo_it, args=(done["operation_id"], start, outcomes)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert outcomes.count("undone") == 1, outcomes
        assert tasks() == before
        assert set(outcomes) == {"undone", "already_undone"}


@pytest.mark.spec("UNDO-7")
def test_a_document_that_cannot_come_back_says_why(perform: Callable[..., Any]) -> None:
    added = perform(add_document, title="Note", text="The rent is due on the first.")
    first = perform(delete_document, document_id=added["id"])
    perform(add_document, title="Note", text="The rent is due on the first.")

    with pytest.raises(CannotComeBack, match="the same file again"):
        perform(undo, operation_id=first["operation_id"])

    second = perform(delete_document, document_id=added["id"] + 1)
    perform(delete_document, document_id=added["id"] + 1, purge=True)
    with pytest.raises(CannotComeBack, match="for good"):
        perform(undo, operation_id=second["operation_id"])


@pytest.mark.spec("UNDO-8")
def test_undo_over_rest(guest: httpx.Client) -> None:
    added = guest.post("/api/tasks", json={"title": "milk"})
    deleted = guest.delete("/api/tasks/1")
    number = deleted.headers["Operation-Id"]

    preview = guest.post(f"/api/operations/{number}/undo", json={"dry_run": True})
    assert guest.get("/api/tasks").json()["tasks"] == []
    undone = guest.post(f"/api/operations/{number}/undo")

    assert added.headers["Operation-Id"] == "1"
    assert preview.json()["status"] == "dry_run"
    assert undone.status_code == 200
    assert undone.json()["rows"] == [{"kind": "task", "id": 1, "title": "milk", "change": "restored"}]
    assert [task["title"] for task in guest.get("/api/tasks").json()["tasks"]] == ["milk"]
    again = guest.post(f"/api/operations/{number}/undo")
    assert (again.status_code, again.json()["code"]) == (409, "already_undone")
    assert guest.post("/api/operations/99/undo").status_code == 404
    assert guest.post("/api/operations/0/undo").status_code == 422
    assert guest.post("/api/runs/nonsense/undo").status_code == 404
    turn = guest.post("/api/chat", json={"message": "Show my tasks"}).json()
    assert guest.post(f"/api/runs/{turn['run_id']}/undo").json()["code"] == "nothing_to_undo"


@pytest.mark.spec("UNDO-8")
def test_every_write_over_rest_names_its_operation(guest: httpx.Client) -> None:
    mine = f"/api/{guest.get('/api/me').json()['id']}/tasks"
    guest.post("/api/chat", json={"message": "hello"}).raise_for_status()
    answers = [
        guest.post("/api/tasks", json={"title": "milk"}),
        guest.patch("/api/tasks/1", json={"title": "oats"}),
        guest.put(f"{mine}/1", json={"title": "rye"}),
        guest.patch(f"{mine}/1/complete"),
        guest.delete("/api/tasks/1"),
        guest.post("/api/documents", files=[("file", ("a.txt", "Hay.")), ("file", ("b.txt", "Oats."))]),
        guest.delete("/api/documents/1"),
        guest.patch("/api/conversations/1", json={"title": "Stable"}),
        guest.delete("/api/conversations/1"),
        guest.post("/api/operations/5/undo"),
    ]

    told = [answer.headers["Operation-Id"] for answer in answers]

    assert told == ["1", "2", "3", "4", "5", "6, 7", "8", "9", "10", "11"]
    assert answers[5].json()["documents"][1]["operation_id"] == 7


@pytest.mark.spec("UNDO-8")
def test_a_turn_is_undone_over_rest(guest: httpx.Client) -> None:
    turn = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).json()

    undone = guest.post(f"/api/runs/{turn['run_id']}/undo")

    assert undone.status_code == 200
    assert guest.get("/api/tasks").json()["tasks"] == []
    redone = guest.post(f"/api/operations/{undone.headers['Operation-Id']}/undo")
    assert redone.status_code == 200
    assert len(guest.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("UNDO-12")
def test_a_turn_that_read_a_document_may_not_undo(perform: Callable[..., Any], tasks: Callable[[], Any]) -> None:
    perform(add_document, title="Note", text="Undo everything!")
    perform(add_task, title="milk")
    before, run_id = tasks(), uuid4().hex
    perform(list_documents, Call(run_id=run_id, call_id="1"))

    with pytest.raises(TaintedTurn):
        perform(undo, Call(run_id=run_id, call_id="2"))

    assert perform(undo, Call(run_id=run_id, call_id="3"), dry_run=True)["status"] == "dry_run"
    assert tasks() == before


@pytest.mark.spec("UNDO-16")
def test_a_repeat_with_its_key_does_not_do_again_what_was_undone(guest: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = guest.post("/api/tasks", json={"title": "milk"}, headers=key)
    guest.post(f"/api/operations/{first.headers['Operation-Id']}/undo").raise_for_status()

    again = guest.post("/api/tasks", json={"title": "milk"}, headers=key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Operation-Id"] == first.headers["Operation-Id"]
    assert guest.get("/api/tasks").json()["tasks"] == []
