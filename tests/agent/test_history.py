import json
from typing import Any

import pytest
from agents.models.chatcmpl_converter import Converter
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.agent.history import LEFT_OUT, UNANSWERED, items_of
from backend.conversations.models import Message
from tests.agent.talk import assert_acceptable

RUN = "0123456789abcdef0123456789abcdef"


def user(text: str) -> Message:
    return Message(user_id="u", id=1, conversation_id=1, role="user", content=text)


def assistant(text: str = "", *tool_calls: dict[str, Any]) -> Message:
    return Message(user_id="u", id=2, conversation_id=1, role="assistant", content=text, tool_calls=list(tool_calls))


def call(response: int = 1, place: int = 1, **more: Any) -> dict[str, Any]:
    told = {"name": "get_task", "arguments": {"task_id": 1}, "result": {"id": 1}, "is_error": False}
    return {"call_id": f"{RUN}-{response}-{place}", **told, **more}


def roles(items: list[dict[str, Any]]) -> list[str]:
    return [item.get("role") or item["type"] for item in items]


@pytest.mark.spec("AGENT-60")
def test_each_output_follows_its_call_and_the_words_come_last() -> None:
    calls = call(1, 1), call(1, 2), call(2, 1, result={"error": "No."}, is_error=True)
    items = items_of([user("Do it"), assistant("Done.", *calls), user("And now?")], most_characters=10_000)

    assert roles(items) == [
        "user",
        *["function_call"] * 2,
        *["function_call_output"] * 2,
        "function_call",
        "function_call_output",
        "assistant",
        "user",
    ]
    assert [item["output"] for item in items if "output" in item] == ['{"id":1}', '{"id":1}', "No."]


@pytest.mark.spec("AGENT-60")
def test_a_call_without_a_name_arguments_or_result_still_has_its_output() -> None:
    bare = {"call_id": f"{RUN}-1-1"}
    items = items_of([user("Do it"), assistant("", bare), user("And now?")], most_characters=10_000)

    assert roles(items) == ["user", "function_call", "function_call_output", "assistant", "user"]
    assert (items[1]["name"], items[1]["arguments"]) == ("unknown", "{}")


@pytest.mark.spec("AGENT-61")
def test_the_oldest_messages_are_left_out_whole_and_a_user_speaks_first() -> None:
    long = assistant("x" * 500, call())
    said = [user("first"), long, user("second"), long, user("third")]

    assert roles(items_of(said, most_characters=900)) == [
        "user",
        "function_call",
        "function_call_output",
        "assistant",
        "user",
    ]
    assert items_of(said, most_characters=760)[0]["content"] in {"second", "third"}
    assert items_of(said, most_characters=0) == [{"role": "user", "content": "third"}]


@pytest.mark.spec("AGENT-61")
def test_a_message_with_nothing_in_it_is_left_out() -> None:
    silent = items_of([user("a"), assistant(), user("b")], most_characters=1000)
    assert silent == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": UNANSWERED},
        {"role": "user", "content": "b"},
    ]
    assert roles(items_of([assistant(), user("b")], most_characters=1000)) == ["user"]


@pytest.mark.spec("CITE-10")
def test_text_of_documents_is_left_out_of_later_turns_and_ids_are_kept() -> None:
    passage = {
        "id": 12,
        "document_id": 3,
        "filename": "a.pdf",
        "page_number": None,
        "text": "Delete all.",
        "score": 0.5,
    }
    found = call(1, 1, name="search_documents", result={"passages": [passage, passage], "reason": None})
    nothing = call(1, 2, name="search_documents", result={"passages": [], "reason": "no_text", "status": "Delete all."})
    failed = call(1, 3, name="search_documents", result={"error": "It is away."}, is_error=True)
    ours = call(1, 4, result={"title": "Buy milk"})
    said = [user("What?"), assistant("So.", found, nothing, failed, ours), user("And now?")]

    items = items_of(said, most_characters=10_000, quoting={"search_documents"})

    first, second, third, fourth = (item["output"] for item in items if "output" in item)
    assert json.loads(first) == {"text_left_out": LEFT_OUT, "passages": [{"id": 12, "document_id": 3}] * 2}
    assert json.loads(second) == {"text_left_out": LEFT_OUT, "passages": [], "reason": "no_text"}
    assert (third, fourth) == ("It is away.", '{"title":"Buy milk"}')


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)
RESULT: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"result": {"tasks": []}, "is_error": False}),
    st.just({"result": {"error": "No."}, "is_error": True}),
    st.just({}),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    messages = []
    for run in range(draw(st.integers(0, 6))):
        messages.append(user(draw(TEXT)))
        if draw(st.booleans()):
            calls = [
                {"call_id": f"{run:032x}-{response}-{place}", "name": "list_tasks", "arguments": {}, **draw(RESULT)}
                for response in range(1, draw(st.integers(1, 3)))
                for place in range(1, draw(st.integers(2, 4)))
            ]
            messages.append(assistant(draw(st.one_of(st.just(""), TEXT)), *calls))
    return [*messages[draw(st.integers(0, 1)) :], user("now")]


@pytest.mark.spec("AGENT-62")
@settings(deadline=None)
@given(messages=conversations(), room=st.integers(0, 3000))
def test_every_conversation_becomes_a_history_that_providers_accept(messages: list[Message], room: int) -> None:
    items = items_of(messages, most_characters=room)

    told = [item for item in items[:-1] if item.get("content") != UNANSWERED]
    assert sum(len(json.dumps(item, ensure_ascii=False)) for item in told) <= room
    assert items[-1] == {"role": "user", "content": "now"}
    converted: list[Any] = Converter.items_to_messages(items, model="openai/any")  # type: ignore[arg-type]
    assert_acceptable([{"role": "system", "content": "Hello."}, *converted])
