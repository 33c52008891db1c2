"""Undo of renamed and deleted conversations, and what happens to their runs."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.runs.purge import remove_deleted_conversations
from backend.runs.repository import Event
from backend.workspace.conversations import delete_conversation
from backend.workspace.undo import undo
from tests.conftest import query
from tests.problem import refused
from tests.runs.scripted import Parts, ScriptedAssistant


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
