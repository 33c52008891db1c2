"""Undo, and the deletions that it undoes, while other transactions change the same rows: everybody gets an answer."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from backend.documents.quota import KeepingRules
from backend.documents.repository import CannotComeBack, DocumentRepository, NewFile
from backend.documents.rest_tools import delete_document
from backend.documents.tools import add_document
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations, Outcome
from backend.postgres.database import UTC, Database, Scope
from backend.runs.journal import Journal
from backend.settings import Settings
from backend.tasks.tools import add_task
from backend.workspace.conversations import delete_conversation
from backend.workspace.undo import undo
from tests.conftest import query, serving, signed_in_guest, wait_until
from tests.documents.files import TEXT
from tests.own_database import OwnDatabase, opened
from tests.pooler import pooler
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant

WORDS = "The rent is due on the first."
FILE = NewFile(
    filename="a.txt",
    original_filename="a.txt",
    content_type=TEXT,
    file_size=len(WORDS),
    sha256=hashlib.sha256(WORDS.encode()).hexdigest(),
)
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
def until_waiting(superuser_url: str) -> Callable[[], object]:
    """Waits until another transaction waits for a lock."""
    return lambda: wait_until(lambda: query(superuser_url, WAITING))


@pytest.mark.spec("UNDO-14")
@pytest.mark.parametrize("purge", [False, True])
def test_a_conversation_is_deleted_while_a_call_of_its_run_commits(
    database: Database,
    operations: Operations,
    alice: Caller,
    superuser_url: str,
    until_waiting: Callable[[], object],
    purge: bool,
) -> None:
    is_recorded = threading.Event()

    async def one_call(_said: list[str], journal: Journal) -> None:
        call_id = f"{journal.run_id}-1-1"
        call = {"call_id": call_id, "name": "add_task", "arguments": {"title": "milk"}}
        await journal.add_response({}, [call], outputs={})

        def record(scope: Scope, outcome: Outcome) -> None:
            is_recorded.set()
            until_waiting()
            journal.record(scope, outcome)

        made = Call(run_id=journal.run_id, call_id=call_id, record=record)
        await asyncio.to_thread(operations.perform, add_task, {"title": "milk"}, alice, made)
        await journal.finish(FINAL, outputs={})

    async def story() -> None:
        parts = Parts.of(database, ScriptedAssistant(one_call))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        await asyncio.to_thread(is_recorded.wait, 10)
        wanted = {"conversation_id": turn.conversation_id, "purge": purge}
        await operations.perform_fairly(delete_conversation, wanted, alice)

    asyncio.run(story())

    made = "select tool, outcome from operations where user_id = %s order by id"
    assert query(superuser_url, made, alice.user_id) == [("add_task", "ok"), ("delete_conversation", "ok")]


@pytest.mark.spec("UNDO-7")
def test_a_file_is_added_again_while_its_document_comes_back(
    database: Database, operations: Operations, alice: Caller, until_waiting: Callable[[], object]
) -> None:
    added: dict[str, Any] = {"title": "Note", "text": WORDS}
    operations.perform(add_document, added, alice)
    operations.perform(delete_document, {"document_id": 1}, alice)

    with ThreadPoolExecutor() as others:
        with database.scope(alice.user_id, UTC) as scope:
            DocumentRepository(scope).restore(1)
            again = others.submit(operations.perform, add_document, added, alice)
            until_waiting()
        assert again.result().result["id"] == 1


@pytest.mark.spec("UNDO-7")
def test_a_document_does_not_come_back_while_its_file_is_added_again(
    database: Database, operations: Operations, alice: Caller, until_waiting: Callable[[], object]
) -> None:
    with database.scope(alice.user_id, UTC) as scope:
        DocumentRepository(scope).keep(FILE, [WORDS.encode()], KeepingRules())
    gone = operations.perform(delete_document, {"document_id": 1}, alice)

    with ThreadPoolExecutor() as others:
        with database.scope(alice.user_id, UTC) as scope:
            DocumentRepository(scope).keep(FILE, [WORDS.encode()], KeepingRules())
            back = others.submit(operations.perform, undo, {"operation_id": gone.operation_id}, alice)
            until_waiting()
        with pytest.raises(CannotComeBack, match="the same file again"):
            back.result()


@pytest.mark.spec("UNDO-3")
def test_two_documents_come_back_while_work_on_one_of_them_ends(
    database: Database, operations: Operations, alice: Caller, until_waiting: Callable[[], object]
) -> None:
    for words in ("one", "two"):
        operations.perform(add_document, {"title": words, "text": words}, alice)
    first = operations.perform(delete_document, {"document_id": 1}, alice).operation_id
    operations.perform(delete_document, {"document_id": 2}, alice)

    mine = {"user_id": alice.user_id}
    with ThreadPoolExecutor() as others:
        with database.scope(alice.user_id, UTC) as scope:
            # A step of ingestion first locks the document's row, and its end also the user's place in the queue.
            scope.session.execute(text("select from documents where user_id = :user_id and id = 1 for update"), mine)
            back = others.submit(operations.perform, undo, {"operation_id": first, "and_later": True}, alice)
            until_waiting()
            scope.session.execute(
                text("update documents set status = 'pending', attempt = 1 where user_id = :user_id and id = 1"), mine
            )
        assert [row["id"] for row in back.result().result["rows"]] == [2, 1]


@pytest.mark.spec("UNDO-1")
def test_a_document_that_comes_back_is_read_even_if_no_notification_arrives(
    own: OwnDatabase, make_settings: Callable[..., Settings]
) -> None:
    with pooler(own.url, "swallows notifications") as between, opened(own.url) as database:
        settings = make_settings(database_url=own.url, migration_database_url=between.url)
        with serving(settings) as url, signed_in_guest(url) as guest:
            user_id = guest.get("/api/me").json()["id"]
            with database.scope(user_id, UTC) as scope:
                DocumentRepository(scope).keep(FILE, [WORDS.encode()], KeepingRules())
            deleted = guest.delete("/api/documents/1").raise_for_status().headers["Operation-Id"]
            guest.post(f"/api/operations/{deleted}/undo").raise_for_status()

            wait_until(lambda: guest.get("/api/documents/1").json()["status"] == "ready")
