"""How tests talk to the service, and how a provider would judge the conversation it receives."""

import json
import re
from typing import Any

import httpx

KEY = "sk-the-very-secret-key"

Event = tuple[int | None, str, dict[str, Any]]


def say(client: httpx.Client, message: str, conversation_id: int | None = None) -> httpx.Response:
    """Send a message and wait for the answer as JSON."""
    return client.post("/api/chat", json={"message": message, "conversation_id": conversation_id})


def heard(client: httpx.Client, message: str, conversation_id: int | None = None) -> list[Event]:
    """Send a message and return the events of its run: number, kind, data."""
    body = {"message": message, "conversation_id": conversation_id}
    answer = client.post("/api/chat", json=body, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_in(answer.text)


def events_in(stream: str) -> list[Event]:
    """Return the events of a stream that has ended."""
    events: list[Event] = []
    for block in stream.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            number = int(fields["id"]) if "id" in fields else None
            events.append((number, fields["event"], json.loads(fields["data"])))
    return events


def text_of(events: list[Event]) -> str:
    """Assemble the answer as a careful reader does: by offset, dropping text where a `reset` says so."""
    text = ""
    for _, kind, data in events:
        if kind == "text":
            assert data["offset"] <= len(text), "A piece is missing."
            text += data["delta"][len(text) - data["offset"] :]
        elif kind == "reset":
            text = text[: data["offset"]]
    return text


def assert_gapless(events: list[Event]) -> None:
    """Fail unless the stored events are numbered from 1 without a gap and end with the only `done`."""
    numbers = [number for number, _, _ in events if number is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [kind for _, kind, _ in events].count("done") == 1
    assert events[-1][1] == "done"


def assert_acceptable(messages: list[dict[str, Any]]) -> None:
    """Fail if OpenAI, Anthropic or Gemini would reject the messages of a request."""
    assert [message["role"] for message in messages[:2]] == ["system", "user"]
    seen: set[str] = set()
    waiting: set[str] = set()
    before = "system"
    for message in messages[1:]:
        assert message["role"] != "user" or before in ("system", "assistant"), "Two turns of the user in a row."
        before = message["role"]
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, "An output without its call."
            waiting.remove(message["tool_call_id"])
            assert message["content"]
            continue
        assert not waiting, "A call without its output."
        if message["role"] == "assistant":
            for call in message.get("tool_calls") or []:
                assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", call["id"])
                assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"])
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
                assert call["id"] not in seen, "An id that was used before."
                seen.add(call["id"])
                waiting.add(call["id"])
            assert waiting or message["content"], "An assistant's message with nothing in it."
        else:
            assert message["role"] == "user"
            assert message["content"]
    assert not waiting, "A call without its output."
