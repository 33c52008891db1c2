"""The routes of conversations."""

import base64
from typing import Any

import httpx
import pytest

from tests.conftest import query
from tests.problem import refused


def say(guest: httpx.Client, message: str, **more: Any) -> dict[str, Any]:
    """Send a message and return the reply."""
    answer = guest.post("/api/chat", json={"message": message, **more})
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def placed(text: str) -> str:
    """Encode a text as our cursors are encoded."""
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.spec("CONV-1")
def test_a_conversation_has_its_messages_in_order(guest: httpx.Client) -> None:
    first = say(guest, "Add a task to buy milk")
    number = first["conversation_id"]
    say(guest, "Show my tasks", conversation_id=number)

    seen = guest.get(f"/api/conversations/{number}").json()

    assert seen.keys() == {"id", "title", "created_at", "updated_at", "messages"}
    assert [message["role"] for message in seen["messages"]] == ["user", "assistant"] * 2
    assert seen["messages"][0]["content"] == "Add a task to buy milk"
    assert seen["messages"][1].keys() == {
        "id",
        "role",
        "content",
        "run_id",
        "model",
        "tool_calls",
        "citations",
        "created_at",
    }
    assert seen["messages"][1]["run_id"] == first["run_id"]
    assert seen["messages"][1]["tool_calls"] == first["tool_calls"]
    assert [message["id"] for message in guest.get(f"/api/conversations/{number}?last=1").json()["messages"]] == [4]


@pytest.mark.spec("CONV-7")
def test_an_answer_names_the_model_that_wrote_it(guest: httpx.Client) -> None:
    number = say(guest, "Add a task to buy milk")["conversation_id"]

    messages = guest.get(f"/api/conversations/{number}").json()["messages"]

    assert [message["model"] for message in messages] == [None, "offline-rules-1"]


@pytest.mark.spec("CONV-2")
def test_a_conversation_is_named_by_its_first_words(guest: httpx.Client) -> None:
    say(guest, "Hello\n\n  there")
    say(guest, "word " * 100)

    titles = [item["title"] for item in guest.get("/api/conversations").json()["conversations"]]

    assert titles[1] == "Hello there"
    assert len(titles[0]) <= 80
    assert titles[0].endswith("…")


@pytest.mark.spec("CONV-3")
def test_pages_follow_each_other_the_last_changed_first(guest: httpx.Client, superuser_url: str) -> None:
    for number in range(5):
        say(guest, f"Conversation {number}")
    # Equal times must not make a page repeat or skip a conversation.
    me = guest.get("/api/me").json()["id"]
    query(
        superuser_url, "update conversations set updated_at = '2026-01-01' where user_id = %s and id in (2, 3, 4)", me
    )

    seen: list[int] = []
    cursor: str | None = None
    for _ in range(10):
        page = guest.get("/api/conversations", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["id"] for item in page["conversations"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == [5, 1, 4, 3, 2]
    say(guest, "Once more", conversation_id=2)
    assert guest.get("/api/conversations", params={"limit": 1}).json()["conversations"][0]["id"] == 2


@pytest.mark.spec("CONV-3")
@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%%%",
        "é",
        "a" * 201,
        placed("yesterday 1"),
        placed("2026-01-01T00:00:00 1"),
        placed("2026-01-01T00:00:00+00:00 0"),
        placed("2026-01-01T00:00:00+00:00 99999999999"),
        placed("2026-01-01T00:00:00+00:00"),
        placed("\x00 1"),
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(guest: httpx.Client, cursor: str) -> None:
    refused(guest.get("/api/conversations", params={"cursor": cursor}), 422, "invalid_input")


@pytest.mark.spec("CONV-3")
@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59-23:59",
        "2026-01-01T00:00:00+00:00:00.5",
        "2026-W01-1T00:00:00+23:59:59.9",
    ],
)
def test_a_cursor_at_the_edge_of_time_is_harmless(guest: httpx.Client, moment: str) -> None:
    assert guest.get("/api/conversations", params={"cursor": placed(f"{moment} 1")}).status_code in (200, 422)


@pytest.mark.spec("CONV-4")
def test_conversations_are_found_by_their_title(guest: httpx.Client) -> None:
    say(guest, "Plan the garden")
    say(guest, "Save 100% of it")

    def found(words: str) -> list[int]:
        page = guest.get("/api/conversations", params={"query": words}).json()
        return [item["id"] for item in page["conversations"]]

    assert (found("GARDEN"), found("%"), found("_"), found("")) == ([1], [2], [], [2, 1])


@pytest.mark.spec("CONV-5")
def test_a_conversation_is_renamed(guest: httpx.Client) -> None:
    say(guest, "Plan the garden")

    renamed = guest.patch("/api/conversations/1", json={"title": "  Garden  "})

    assert (renamed.status_code, renamed.json()["title"]) == (200, "Garden")
    assert guest.get("/api/conversations/1").json()["title"] == "Garden"
    for title in ("", "  ", "a" * 201, "a\x00", "two\nlines", None, 7):
        refused(guest.patch("/api/conversations/1", json={"title": title}), 422, "invalid_input")
    assert guest.get("/api/conversations/1").json()["title"] == "Garden"


@pytest.mark.spec("CONV-6")
@pytest.mark.parametrize("purge", [False, True])
def test_a_deleted_conversation_is_gone_with_its_messages_and_runs(
    guest: httpx.Client, superuser_url: str, purge: bool
) -> None:
    reply = say(guest, "Add a task to buy milk")
    guest.patch("/api/conversations/1", json={"title": "Milk"}).raise_for_status()
    me = guest.get("/api/me").json()["id"]

    assert guest.delete("/api/conversations/1", params={"purge": purge}).status_code == 204

    assert guest.get("/api/conversations").json()["conversations"] == []
    refused(guest.get("/api/conversations/1"), 404, "not_found")
    refused(guest.delete("/api/conversations/1"), 404, "not_found")
    refused(guest.get(f"/api/runs/{reply['run_id']}/events"), 404, "not_found")
    refused(guest.post(f"/api/runs/{reply['run_id']}/cancel"), 404, "not_found")
    refused(guest.patch("/api/conversations/1", json={"title": "Back"}), 404, "not_found")
    refused(guest.get(f"/api/runs/{reply['run_id']}"), 404, "not_found")
    refused(guest.post("/api/chat", json={"message": "On", "conversation_id": 1}), 404, "not_found")
    if not purge:
        guest.delete("/api/conversations/1", params={"purge": True}).raise_for_status()
    refused(guest.delete("/api/conversations/1", params={"purge": True}), 404, "not_found")
    for table in ("conversations", "messages", "runs", "run_events", "run_responses"):
        statement = f"select count(*) from {table} where user_id = %s"  # noqa: S608
        assert query(superuser_url, statement, me) == [(0,)]
    kept = "select kind from row_changes where user_id = %s"
    assert query(superuser_url, kept, me) == [("task",)]
    assert guest.get("/api/tasks").json()["tasks"][0]["title"] == "Buy milk"
    assert say(guest, "Hello again")["conversation_id"] == 2
