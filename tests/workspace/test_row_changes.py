"""The former values of rows: who writes them, how long they stay, and what removes them early."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from backend.documents.purge import Purge
from backend.documents.rest_tools import delete_document
from backend.documents.tools import add_document
from backend.forgetting import forget_document
from backend.identity.caller import Caller
from backend.jobs.housekeeping import prune
from backend.operations.row_changes import PRUNE
from backend.postgres.database import UTC, Database
from backend.tasks.repository import TaskRepository
from backend.tasks.tools import (
    add_task,
    delete_task,
    list_tasks,
    update_task,
)
from backend.workspace.undo import NothingToUndo, undo
from tests.conftest import query
from tests.problem import refused

CHANGES = "select kind, row_id, before is null, after is null from row_changes where user_id = %s order by id"


@pytest.mark.spec("UNDO-9")
def test_only_tool_calls_leave_changes_and_the_app_s_role_cannot_alter_them(
    perform: Callable[..., Any], database: Database, superuser_url: str, alice: Caller
) -> None:
    perform(add_task, title="milk")
    with database.scope(alice.user_id, alice.zone) as scope:
        TaskRepository(scope).change(1, title="changed by no tool")
    perform(delete_task, task_id=1)

    assert query(superuser_url, CHANGES, alice.user_id) == [("task", 1, True, False), ("task", 1, False, True)]
    for statement in (
        "update row_changes set before = null",
        "delete from row_changes",
        "insert into row_changes (user_id, change_id, kind, row_id) "
        "values (current_setting('app.user_id'), gen_random_uuid(), 'task', 1)",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), database.scope(alice.user_id, UTC) as scope:
            scope.session.execute(text(statement))


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
