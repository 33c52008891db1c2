"""After a purge, a document's words remain only in what the user and the assistant said themselves."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from backend.documents.repository import DocumentRepository
from backend.documents.tools import add_document, read_document, search_documents
from backend.forgetting import forget_document
from backend.identity.caller import Caller
from backend.operations.perform import Call
from backend.postgres.database import Database
from backend.settings import Settings
from bench.scripted_model import ScriptedModel, ToolCall, calls, says, scripted_model
from tests.agent.talk import KEY
from tests.conftest import query, serving, signed_in_guest, wait_until
from tests.documents.desk import desk
from tests.documents.filed import door, file
from tests.mcp_server.sessions import over_http
from tests.own_database import OwnDatabase
from tests.runs.replicas import Played

MARKER = "Zanzibarquux"
OTHER = "Mozambiquux"
TABLES = (
    "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'user_id' "
    "where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace order by 1"
)
SAID = {"messages.content", "conversations.title"}
"""The columns in which the user's own words, and those of the assistant's answers, stay."""
OF_DOCUMENTS = ("documents", "document_bytes", "document_pages", "chunks", "chunk_vectors", "postings")


def columns_with(superuser_url: str, user_id: str, *words: str) -> set[str]:
    """Return the columns, in all tables, in which a row of the user contains one of these words."""
    found: set[str] = set()
    for (table,) in query(superuser_url, TABLES):
        statement = (
            f"select distinct c.key from {table} t, json_each_text(row_to_json(t)) c where t.user_id = %s "  # noqa: S608
            "and (c.value ~* %s or c.value ~* %s)"
        )
        pattern = "|".join(words)
        in_hex = "|".join(word.encode().hex() for word in words)
        found |= {f"{table}.{column}" for (column,) in query(superuser_url, statement, user_id, pattern, in_hex)}
    return found


HANDBOOK = f"""# The harbor

The harbor master's parrot is called {MARKER} and sleeps at noon.

## Action items

- [ ] Feed the [parrot](https://{MARKER.lower()}.example/seeds) by Friday
"""
FILED = f"The second lighthouse keeper is {OTHER} of the northern shore."
QUOTED = f"The harbor master's parrot is called {MARKER} and sleeps at noon."

STORY: dict[str, list[Any]] = {
    "Who sleeps at noon?": [
        calls(ToolCall("search_documents", {"query": f"parrot at noon, {MARKER} perhaps"})),
        calls(ToolCall("read_document", {"document_id": 1}), ToolCall("list_documents", {})),
        calls(ToolCall("add_task", {"title": f"Wake {MARKER}"})),
        says(f"“{QUOTED}” [p1]"),
    ],
    "What is to be done?": [
        calls(ToolCall("create_tasks_from_document", {"document_id": 1})),
        says(f"To feed {MARKER}."),
    ],
    "Yes, do that.": [
        calls(ToolCall("create_tasks_from_document", {"document_id": 1, "dry_run": False})),
        says("Done."),
    ],
    f"File this: {FILED}": [
        calls(ToolCall("add_document", {"title": "The keeper", "text": FILED})),
        says("Filed."),
    ],
    "Where did you put it?": [
        calls(ToolCall("search_documents", {"query": "keeper"}), ToolCall("read_document", {"document_id": 2})),
        says(f"Among your documents: {OTHER}."),
    ],
    "Thank you.": [says("You are welcome.")],
}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """The provider's server."""
    # Imported once before the service needs it: on a busy machine the import takes longer than a service may take to
    # start.
    importlib.import_module("backend.agent.providers")
    with scripted_model([says("Hello.")]) as server:
        yield server


def ready(guest: httpx.Client, document_id: int) -> bool:
    return bool(guest.get(f"/api/documents/{document_id}").json()["status"] == "ready")


def told(guest: httpx.Client, conversation_id: int | None) -> int:
    """Send all messages of the story that concern existing documents; return the conversation."""
    for message in STORY:
        body = {"message": message, "conversation_id": conversation_id}
        answer = guest.post("/api/chat", json=body).raise_for_status().json()
        conversation_id = answer["conversation_id"]
        assert answer["status"] == "completed", answer
        if message.startswith("File"):
            wait_until(lambda: ready(guest, 2), seconds=30)
    assert conversation_id is not None
    return conversation_id


@pytest.mark.slow
@pytest.mark.spec("FORGET-1")
def test_after_a_purge_the_words_of_a_document_stand_nowhere(
    own: OwnDatabase, model: ScriptedModel, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(
        database_url=own.url, model="openai/any", openai_base_url=model.url, openai_api_key=KEY, max_steps=8
    )
    with serving(settings) as url, signed_in_guest(url) as guest:
        user_id = guest.get("/api/me").json()["id"]
        uploaded = guest.post("/api/documents", files=[("file", ("harbor.md", HANDBOOK.encode()))]).json()
        assert uploaded["id"] == 1
        wait_until(lambda: ready(guest, 1), seconds=30)
        model.follow(Played(STORY))
        conversation_id = told(guest, None)
        for path in ("/api/documents/1/pages/1", "/api/documents/1/passages/1", "/api/tasks/1", "/api/documents"):
            assert guest.get(path).status_code == 200, path
        assert MARKER in guest.post("/api/search", json={"query": f"{MARKER} parrot"}).text
        assert guest.patch("/api/tasks/1", json={"priority": "high"}).json()["document_id"] == 1
        token = guest.headers["Authorization"].removeprefix("Bearer ")
        with over_http(url, token) as mcp:
            assert MARKER in str(mcp.result("search_documents", query=f"{MARKER} parrot"))
            assert MARKER.lower() in str(mcp.result("fetch", id="task-1"))
            mcp.result("create_tasks_from_document", document_id=1, dry_run=True)
            mcp.result("add_document", title="The keeper", text=FILED)
        conversation = guest.get(f"/api/conversations/{conversation_id}").json()
        assert conversation["messages"][1]["citations"][0]["quote"] == QUOTED.rstrip(".")
        before = columns_with(own.superuser_url, user_id, MARKER, OTHER)
        assert before >= {"messages.content", "chunks.content", "messages.citations", "run_events.data", "runs.input"}

        for number in (1, 2):
            assert guest.delete(f"/api/documents/{number}?purge=true").status_code == 204
        after = columns_with(own.superuser_url, user_id, MARKER, OTHER)
        conversation = guest.get(f"/api/conversations/{conversation_id}").json()
        tasks = guest.get("/api/tasks").json()["tasks"]

    assert after <= SAID
    for table in OF_DOCUMENTS:
        assert own.query(f"select count(*)::int from {table} where user_id = %s", user_id) == [(0,)]  # noqa: S608
    # Messages, operations and tasks stay.
    [citation] = conversation["messages"][1]["citations"]
    assert (citation["passage_id"], citation["document_id"], citation["quote"]) == (1, 1, "")
    assert QUOTED in conversation["messages"][1]["content"]
    assert [task["title"] for task in tasks] == ["Feed the parrot"]


@pytest.fixture
def own_caller(new_caller: Callable[..., Caller]) -> Caller:
    return new_caller()


@pytest.mark.spec("FORGET-1")
def test_calls_outside_of_runs_keep_no_text_once_the_document_is_purged(
    database: Database, superuser_url: str, own_caller: Caller
) -> None:
    alice, operations = own_caller, door(database)
    document = file(database, alice, QUOTED, filename="harbor.pdf")
    for caller in (alice, replace(alice, door="mcp")):
        operations.perform(search_documents, {"query": f"{MARKER} parrot"}, caller)
        operations.perform(read_document, {"document_id": document.id}, caller)
    added = operations.perform(add_document, {"title": "Keeper", "text": FILED}, alice).result["id"]
    assert "chunks.content" in columns_with(superuser_url, alice.user_id, MARKER)
    assert "operations.arguments" in columns_with(superuser_url, alice.user_id, OTHER)
    kept = columns_with(superuser_url, alice.user_id, MARKER, OTHER)
    assert not [column for column in kept if column.startswith("access_log")]
    purge = desk(database, forget=forget_document).purge

    for number in (document.id, added):
        with database.scope(alice.user_id, alice.zone) as scope:
            DocumentRepository(scope).delete(number)
        assert purge.one(alice.user_id, number) is True

    assert columns_with(superuser_url, alice.user_id, MARKER, OTHER) == set()
    left = query(superuser_url, "select tool, outcome from operations where user_id = %s order by id", alice.user_id)
    assert left == [("add_document", "ok")]
    logged = query(
        superuser_url, "select tool, document_ids from access_log where user_id = %s order by at", alice.user_id
    )
    assert logged == [("search_documents", [document.id]), ("read_document", [document.id])]


@pytest.mark.spec("FORGET-2")
def test_a_purge_is_put_off_while_a_run_works_with_the_document(
    database: Database, superuser_url: str, own_caller: Caller
) -> None:
    alice, operations = own_caller, door(database)
    document = file(database, alice, QUOTED)
    query(
        superuser_url,
        "insert into conversations (user_id, id, title) values (%s, 1, 'Parrots')",
        alice.user_id,
    )
    query(
        superuser_url,
        "insert into runs (user_id, id, conversation_id, message_id, status, model, scopes, input) "
        "values (%s, %s, 1, 1, 'running', 'any', '{read}', '{}')",
        alice.user_id,
        run_id := f"run-{alice.user_id[-12:]}",
    )
    operations.perform(read_document, {"document_id": document.id}, alice, Call(run_id=run_id, call_id=f"{run_id}-1"))
    with database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).delete(document.id)
    purge = desk(database, forget=forget_document).purge

    assert purge.one(alice.user_id, document.id) is False
    assert purge.is_put_off
    assert MARKER in query(superuser_url, "select content from chunks where user_id = %s", alice.user_id)[0][0]
    query(superuser_url, "update runs set status = 'completed', ended_at = now() where id = %s", run_id)
    # It was asked for now: the next purge does not wait for the days that deleted documents are kept.
    assert list(purge.all_due())

    assert columns_with(superuser_url, alice.user_id, MARKER) == set()


@pytest.mark.slow
@pytest.mark.spec("FORGET-2", "DOC-23")
def test_the_service_purges_a_document_by_itself_once_no_run_works_with_it(
    make_settings: Callable[..., Settings], own: OwnDatabase
) -> None:
    with serving(make_settings(database_url=own.url)) as url, signed_in_guest(url) as guest:
        sent = guest.post("/api/documents", files={"file": ("harbor.md", HANDBOOK, "text/markdown")})
        document_id = sent.raise_for_status().json()["id"]
        wait_until(lambda: ready(guest, document_id), seconds=60)
        said = guest.post("/api/chat", json={"message": "What is the parrot called?"}).raise_for_status().json()
        # As if the answer were still being written, by another process.
        own.query(
            "update runs set status = 'running', ended_at = null, lease_owner = 'another', "
            "lease_until = now() + interval '1 hour' where id = %s",
            said["run_id"],
        )

        assert guest.delete(f"/api/documents/{document_id}", params={"purge": True}).status_code == 204
        assert own.query("select count(*)::int from chunks") != [(0,)]
        assert own.query("select purge_wanted from documents") == [(True,)]
        own.query("update runs set status = 'completed', ended_at = now() where id = %s", said["run_id"])

        wait_until(lambda: own.query("select 1 from documents") == [], seconds=30)


@pytest.mark.spec("FORGET-4")
def test_nobody_purges_a_document_that_is_not_deleted_or_another_user_s(
    database: Database, superuser_url: str, new_caller: Callable[..., Caller]
) -> None:
    alice, bob = new_caller(), new_caller()
    document = file(database, alice, QUOTED)
    purge = desk(database, forget=forget_document).purge

    assert purge.one(alice.user_id, document.id) is False
    with database.scope(alice.user_id, alice.zone) as scope:
        DocumentRepository(scope).delete(document.id)
    assert purge.one(bob.user_id, document.id) is False

    assert query(superuser_url, "select count(*)::int from chunks where user_id = %s", alice.user_id) == [(1,)]
