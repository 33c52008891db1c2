"""Undo: one operation, a turn, an undo; and what is refused."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from backend.documents.purge import Purge
from backend.documents.quota import KeepingRules
from backend.documents.repository import CannotComeBack
from backend.documents.rest_tools import delete_document
from backend.documents.tools import add_document, list_documents
from backend.errors import Conflict, InvalidInput, NotFound
from backend.forgetting import forget_document
from backend.identity.caller import Caller
from backend.jobs.housekeeping import prune
from backend.operations.ledger import OperationNotFound
from backend.operations.perform import Call, Operations, TaintedTurn
from backend.operations.row_changes import PRUNE
from backend.operations.tool import Tool
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.runs.purge import remove_deleted_conversations
from backend.runs.repository import Event
from backend.tasks.repository import TaskRepository
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
from backend.workspace.conversations import delete_conversation
from backend.workspace.undo import AlreadyUndone, ChangedSince, NothingToUndo, undo
from tests.conftest import query
from tests.problem import refused
from tests.runs.scripted import Parts, ScriptedAssistant

FULL = {
    "title": "milk",
    "description": "Two liters\nof it",
    "due": "2031-01-01 17:30",
    "priority": "high",
    "tags": ["shop", "home"],
}
TASKS = "select id, to_jsonb(t) - 'version' - 'updated_at' from tasks t where user_id = %s order by id"
CHANGES = "select kind, row_id, before is null, after is null from row_changes where user_id = %s order by id"


@pytest.fixture(scope="module")
def operations(database: Database) -> Operations:
    """Performs tools; documents may be kept without limits."""
    return Operations(database, preparations={"add_document": lambda *_: KeepingRules()})


@pytest.fixture
def perform(operations: Operations, alice: Caller) -> Callable[..., dict[str, Any]]:
    def performed(tool: Tool[Any, Any], call: Call | None = None, **arguments: Any) -> dict[str, Any]:
        return operations.perform(tool, arguments, alice, call).result

    return performed


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
def test_a_turn_is_undone_over_rest(guest: httpx.Client) -> None:
    turn = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).json()

    undone = guest.post(f"/api/runs/{turn['run_id']}/undo")

    assert undone.status_code == 200
    assert guest.get("/api/tasks").json()["tasks"] == []
    redone = guest.post(f"/api/operations/{undone.headers['Operation-Id']}/undo")
    assert redone.status_code == 200
    assert len(guest.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("UNDO-9")
def test_only_tool_calls_leave_changes_and_the_role_cannot_alter_them(
    perform: Callable[..., Any], superuser_url: str, alice: Caller
) -> None:
    perform(add_task, title="milk")
    perform(delete_task, task_id=1)
    query(superuser_url, "update documents set deleted_at = now() where user_id = %s", alice.user_id)

    assert query(superuser_url, CHANGES, alice.user_id) == [("task", 1, True, False), ("task", 1, False, True)]


@pytest.mark.spec("UNDO-10")
def test_old_changes_go_and_then_nothing_can_be_undone(
    perform: Callable[..., Any], database: Database, superuser_url: str, alice: Caller
) -> None:
    for title in ("old", "new"):
        perform(add_task, title=title)
    old = "update row_changes set at = now() - interval '40 days' where user_id = %s and row_id = 1"
    query(superuser_url, old, alice.user_id)

    removed = prune(database, PRUNE, older_than=database.now() - timedelta(days=30), most=1_000)
    too_soon = prune(database, PRUNE, older_than=database.now() + timedelta(days=1), most=1_000)

    assert (removed, too_soon) == (1, 0)
    with pytest.raises(NothingToUndo):
        perform(undo, operation_id=1)
    perform(undo, operation_id=2)
    assert [task["title"] for task in perform(list_tasks)["tasks"]] == ["old"]


@pytest.mark.spec("UNDO-11")
def test_a_purged_document_leaves_nothing_in_the_changes(
    perform: Callable[..., Any], database: Database, superuser_url: str, alice: Caller
) -> None:
    document = perform(add_document, title="Note", text="Pay the rent by Friday.")
    with database.scope(alice.user_id, alice.zone, change_id=uuid4()) as scope:
        TaskRepository(scope).add(title="Pay the rent", document_id=document["id"], quote="Pay the rent by Friday.")
    perform(update_task, task_id=1, title="Pay it")
    perform(add_task, title="something else")
    perform(delete_document, document_id=document["id"], purge=True)
    purge = Purge(database, keep_deleted=timedelta(days=30), forget=forget_document)

    assert purge.one(alice.user_id, document["id"])

    assert query(superuser_url, CHANGES, alice.user_id) == [("task", 2, True, False)]


@pytest.mark.spec("UNDO-11")
def test_a_purged_document_leaves_nothing_in_what_undo_and_deletion_of_its_tasks_returned(
    perform: Callable[..., Any], database: Database, superuser_url: str, alice: Caller
) -> None:
    document = perform(add_document, title="Note", text="Pay the rent by Friday.")
    with database.scope(alice.user_id, alice.zone, change_id=uuid4()) as scope:
        TaskRepository(scope).add(title="Pay the rent", document_id=document["id"], quote="Pay the rent by Friday.")
    perform(delete_task, task_id=1)
    perform(undo)
    perform(delete_task, task_id=1)
    perform(add_task, title="something else")
    perform(undo)
    perform(delete_document, document_id=document["id"], purge=True)

    assert Purge(database, keep_deleted=timedelta(days=30), forget=forget_document).one(alice.user_id, document["id"])

    kept = query(
        superuser_url, "select arguments::text || result::text from operations where user_id = %s", alice.user_id
    )
    assert len(kept) == 7
    assert not [text for (text,) in kept if "rent" in text]
    assert len([text for (text,) in kept if "something else" in text]) == 2


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


@pytest.mark.spec("UNDO-13")
def test_a_token_may_delete_a_document_but_not_remove_it_for_good(guest: httpx.Client) -> None:
    token = guest.post("/api/tokens", json={"name": "client", "scopes": ["read", "write"]}).json()["token"]
    as_client = {"Authorization": f"Bearer {token}"}
    address = f"/api/documents/{guest.post('/api/documents', files={'file': ('a.txt', 'Hay.')}).json()['id']}"

    refused(guest.delete(address, params={"purge": True}, headers=as_client), 403, "forbidden")
    assert guest.get(address).status_code == 200
    deleted = guest.delete(address, headers=as_client)
    refused(guest.delete(address, params={"purge": True}, headers=as_client), 403, "forbidden")

    guest.post(f"/api/operations/{deleted.headers['Operation-Id']}/undo").raise_for_status()
    assert guest.get(address).status_code == 200
    guest.delete(address, params={"purge": True}).raise_for_status()
    refused(guest.get(address), 404, "not_found")


@pytest.mark.spec("UNDO-14")
def test_a_conversation_is_renamed_and_deleted_and_both_are_undone(guest: httpx.Client) -> None:
    turn = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).json()
    address = f"/api/conversations/{turn['conversation_id']}"
    before = guest.get(address).json()
    renamed = guest.patch(address, json={"title": "Shopping"}).headers["Operation-Id"]
    deleted = guest.delete(address).headers["Operation-Id"]

    refused(guest.post(f"/api/operations/{renamed}/undo"), 409, "changed_since")
    back = guest.post(f"/api/operations/{deleted}/undo")
    assert back.json()["rows"] == [
        {"kind": "conversation", "id": turn["conversation_id"], "title": "Shopping", "change": "restored"}
    ]
    assert guest.get(f"/api/runs/{turn['run_id']}").json()["status"] == "completed"
    guest.post(f"/api/operations/{renamed}/undo").raise_for_status()

    assert guest.get(address).json() == before
    again = guest.delete(address).headers["Operation-Id"]
    undone = guest.post(f"/api/operations/{again}/undo").headers["Operation-Id"]
    guest.post(f"/api/operations/{undone}/undo").raise_for_status()
    refused(guest.get(address), 404, "not_found")


@pytest.mark.spec("UNDO-14")
def test_deleting_a_conversation_ends_its_runs_and_they_show_that_when_it_comes_back(
    database: Database, operations: Operations, alice: Caller
) -> None:
    async def slowly(_said: list[str], journal: Journal) -> None:
        for number in range(400):
            await journal.add_text(f"{number} ")
            await asyncio.sleep(0.005)

    async def story() -> tuple[list[Event], str, list[Event]]:
        parts = Parts.of(database, ScriptedAssistant(slowly))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None, idempotency_key="one")
        waiting = await parts.worker.accept(alice, "more", conversation_id=turn.conversation_id)
        following = asyncio.create_task(parts.told(alice, waiting))
        await asyncio.sleep(0.1)
        arguments = {"conversation_id": turn.conversation_id}
        gone = await operations.perform_fairly(delete_conversation, arguments, alice)
        events = await following
        again = await parts.worker.accept(alice, "hello", conversation_id=None, idempotency_key="one")
        await parts.worker.cancel(alice, again.run_id)
        await operations.perform_fairly(undo, {"operation_id": gone.operation_id}, alice)
        return events, again.run_id, [*await parts.told(alice, turn), *await parts.told(alice, waiting)]

    during, other, afterwards = asyncio.run(story())

    assert [event.kind for event in during][-1] == "done"
    ends = [event.data for event in afterwards if event.kind == "done"]
    assert [end["status"] for end in ends] == ["cancelled", "cancelled"]
    assert all(end["error"]["detail"].startswith("This answer stopped because you deleted") for end in ends)
    assert other not in [end["run_id"] for end in ends]


@pytest.mark.spec("UNDO-15")
def test_a_conversation_deleted_long_ago_is_removed_for_good(
    guest: httpx.Client, database: Database, superuser_url: str
) -> None:
    guest.post("/api/chat", json={"message": "Add a task to buy milk"}).raise_for_status()
    guest.post("/api/chat", json={"message": "hello"}).raise_for_status()
    guest.delete("/api/conversations/1").raise_for_status()
    deleted = guest.delete("/api/conversations/2").headers["Operation-Id"]
    me = guest.get("/api/me").json()["id"]
    old = "update conversations set deleted_at = now() - interval '31 days' where user_id = %s and id = 2"
    query(superuser_url, old, me)

    removed = list(remove_deleted_conversations(database, keep=timedelta(days=30)))

    assert len(removed) >= 2
    rows = "select 'c', id from conversations where user_id = %s union all select 'm', conversation_id from messages"
    assert set(query(superuser_url, f"{rows} where user_id = %s", me, me)) == {("c", 1), ("m", 1)}
    assert query(superuser_url, "select count(*) from runs where user_id = %s", me) == [(1,)]
    refused(guest.post(f"/api/operations/{deleted}/undo"), 409, "nothing_to_undo")


@pytest.mark.spec("UNDO-15")
@pytest.mark.parametrize("how", ["at once", "later"])
def test_the_titles_of_a_removed_conversation_are_gone_everywhere(
    guest: httpx.Client, database: Database, superuser_url: str, how: str
) -> None:
    me = guest.get("/api/me").json()["id"]
    for _ in range(2):
        guest.post("/api/chat", json={"message": "hello"}).raise_for_status()
    for number in (1, 2):
        guest.patch(f"/api/conversations/{number}", json={"title": f"Secret {number}"}).raise_for_status()
        renamed = guest.patch(f"/api/conversations/{number}", json={"title": f"Other secret {number}"})
        guest.post(f"/api/operations/{renamed.headers['Operation-Id']}/undo").raise_for_status()
    guest.delete("/api/conversations/1", params={"purge": how == "at once"}).raise_for_status()
    if how == "later":
        old = "update conversations set deleted_at = now() - interval '31 days' where user_id = %s and id = 1"
        query(superuser_url, old, me)
        assert sum(remove_deleted_conversations(database, keep=timedelta(days=30)))

    everywhere = (
        "select t::text from conversations t where user_id = %s union all select t::text from operations t "
        "where user_id = %s union all select t::text from row_changes t where user_id = %s"
    )
    kept = " ".join(text for (text,) in query(superuser_url, everywhere, me, me, me))
    assert "ecret 1" not in kept
    assert "Secret 2" in kept


@pytest.mark.spec("UNDO-16")
def test_a_repeat_with_its_key_does_not_do_again_what_was_undone(guest: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = guest.post("/api/tasks", json={"title": "milk"}, headers=key)
    guest.post(f"/api/operations/{first.headers['Operation-Id']}/undo").raise_for_status()

    again = guest.post("/api/tasks", json={"title": "milk"}, headers=key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Operation-Id"] == first.headers["Operation-Id"]
    assert guest.get("/api/tasks").json()["tasks"] == []
