import httpx
import pytest


@pytest.mark.spec("CHAT-1")
def test_a_message_is_answered_and_the_task_done(guest: httpx.Client) -> None:
    reply = guest.post("/api/chat", json={"message": "Add a task to buy groceries"}).json()

    assert reply["status"] == "completed"
    assert [(call["name"], call["arguments"]["title"]) for call in reply["tool_calls"]] == [
        ("add_task", "Buy groceries")
    ]
    assert guest.get("/api/tasks").json()["tasks"][0]["title"] == "Buy groceries"
