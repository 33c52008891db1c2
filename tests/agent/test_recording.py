"""A model's answer becomes rows; providers' mistakes are repaired, retried or reported, and never lost."""

import io
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from bench.scripted_model import Answer, Refusal, Reply, ScriptedModel, Silence, ToolCall, calls, says
from tests.agent.talk import KEY, assert_acceptable, assert_gapless, heard, say, text_of
from tests.conftest import query, serving, signed_in_guest

ADD = ToolCall("add_task", {"title": "Milk"})


@pytest.fixture(scope="module")
def impatient(with_model: Callable[..., Settings]) -> Iterator[str]:
    """The service with MODEL_TIMEOUT_SECONDS=1; returns its address."""
    with serving(with_model(model_timeout_seconds=1)) as url:
        yield url


def assert_goes_on(client: httpx.Client, model: ScriptedModel, failed: dict[str, Any]) -> None:
    """Fail unless the next message of the conversation is answered, from a history that a provider accepts."""
    model.follow([says("Here I am.")])
    reply = say(client, "And now?", failed["conversation_id"]).raise_for_status().json()
    assert reply["response"] == "Here I am."
    assert_acceptable(model.requests[0]["messages"])
    said = [message["content"] for message in model.requests[0]["messages"] if message["role"] == "user"]
    assert said == ["Do it", "And now?"]


@pytest.mark.spec("AGENT-40")
def test_a_provider_that_limits_us_is_asked_again_after_the_time_it_names(
    person: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([Refusal(429, retry_after="1"), says("Here I am.")])
    started = time.monotonic()
    reply = say(person, "Do it").raise_for_status().json()

    assert reply["response"] == "Here I am."
    assert len(model.requests) == 2
    assert time.monotonic() - started >= 1


@pytest.mark.spec("AGENT-41")
def test_a_provider_that_wants_a_long_pause_is_not_asked_again(listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([Refusal(429, retry_after="120")])
    failed = say(listener, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (503, "model_unavailable")
    assert failed.headers["Retry-After"] == "120"
    assert len(model.requests) == 1
    assert_goes_on(listener, model, failed.json())


@pytest.mark.spec("AGENT-42")
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_and_the_key_is_nowhere(
    status: int, with_model: Callable[..., Settings], model: ScriptedModel, superuser_url: str
) -> None:
    model.follow([Refusal(status, f"Incorrect API key provided: {KEY}.")])
    logged = io.StringIO()
    with serving(with_model(log_level="DEBUG")) as url, signed_in_guest(url) as guest:
        handler = logging.StreamHandler(logged)
        logging.getLogger().addHandler(handler)
        failed = say(guest, "Do it")
        events = heard(guest, "Again", failed.json()["conversation_id"])
        logging.getLogger().removeHandler(handler)

        assert (failed.status_code, failed.json()["code"]) == (502, "model_auth")
        assert "openai/any" in failed.json()["detail"]
        assert len(model.requests) == 2
        assert_gapless(events)
        assert [data["code"] for _, kind, data in events if kind == "error"] == ["model_auth"]
        model.follow([says("Here I am.")])
        assert say(guest, "And now?", failed.json()["conversation_id"]).json()["response"] == "Here I am."

    told = failed.text + json.dumps(events) + str(failed.headers)
    assert KEY not in told
    assert "run_failed" in logged.getvalue()
    # The kind of error, and the kinds of its causes.
    assert re.search(r"'error': '\w+Error', 'causes': \['.*'event': 'model_failed'", logged.getvalue())
    assert KEY not in logged.getvalue()
    tables = query(superuser_url, "select quote_ident(tablename) from pg_tables where schemaname = 'public'")
    for (table,) in tables:
        rows = query(superuser_url, f"select t::text from {table} t")  # noqa: S608  # the name comes from the catalog
        assert KEY not in str(rows), table


@pytest.mark.spec("AGENT-43")
@pytest.mark.parametrize("status", [500, pytest.param(529, marks=pytest.mark.slow)])
def test_a_provider_that_is_down_is_asked_three_times(
    status: int, listener: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([Refusal(status)])
    failed = say(listener, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (503, "model_unavailable")
    assert int(failed.headers["Retry-After"]) > 0
    assert len(model.requests) == 3
    assert_goes_on(listener, model, failed.json())


@pytest.mark.spec("AGENT-43")
def test_a_provider_that_cannot_be_reached_is_unavailable(with_model: Callable[..., Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with serving(with_model(openai_base_url=f"http://127.0.0.1:{port}/v1")) as url, signed_in_guest(url) as guest:
        failed = say(guest, "Do it")

        assert (failed.status_code, failed.json()["code"]) == (503, "model_unavailable")
        assert int(failed.headers["Retry-After"]) > 0
        assert str(port) not in failed.text
        messages = guest.get(f"/api/conversations/{failed.json()['conversation_id']}").json()["messages"]
        assert [(message["role"], message["content"]) for message in messages] == [("user", "Do it")]


@pytest.mark.spec("AGENT-44")
@pytest.mark.parametrize("reply", [Silence(5), says("one two three", wait=3)], ids=["silent", "falls silent"])
def test_a_provider_that_takes_too_long_is_a_timeout(reply: Reply, impatient: str, model: ScriptedModel) -> None:
    model.follow([reply])
    with signed_in_guest(impatient) as guest:
        failed = say(guest, "Do it")

        assert (failed.status_code, failed.json()["code"]) == (504, "model_timeout")
        assert len(model.requests) == 1
        assert_goes_on(guest, model, failed.json())


@pytest.mark.spec("AGENT-45")
@pytest.mark.parametrize(("status", "code"), [(400, "model_failed"), (404, "model_failed")])
def test_a_request_that_the_provider_refuses_is_not_repeated(
    status: int, code: str, listener: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([Refusal(status, "The model `any` does not exist.")])
    failed = say(listener, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (502, code)
    assert f"HTTP {status}" in failed.json()["detail"]
    assert len(model.requests) == 1
    assert_goes_on(listener, model, failed.json())


@pytest.mark.spec("AGENT-46")
@pytest.mark.parametrize("ends", ["cut", pytest.param("unmarked", marks=pytest.mark.slow)])
def test_text_of_a_stream_that_broke_off_is_voided_and_the_answer_is_whole(
    ends: Any, listener: httpx.Client, model: ScriptedModel
) -> None:
    broken = says("This answer breaks off in the middle of", ends=ends, pieces=5, wait=0.3)
    model.follow([says("I look.", calls=(ADD,)), broken, says("This answer is whole \U0001f642.", wait=0.3)])
    events = heard(listener, "Do it")

    assert_gapless(events)
    kinds = [kind for _, kind, _ in events]
    assert kinds.count("reset") == 1
    before, after = events[: kinds.index("reset")], events[kinds.index("reset") :]
    assert text_of(before).startswith("I look.\n\nThis answer breaks")
    assert after[0][2] == {"offset": len("I look.")}
    assert text_of(events) == events[-1][2]["response"] == "I look.\n\nThis answer is whole \U0001f642."
    stored = [event for event in events if event[0] is not None]
    assert text_of(stored) == events[-1][2]["response"]
    assert [call["name"] for call in events[-1][2]["tool_calls"]] == ["add_task"]
    assert len(listener.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("AGENT-47")
@pytest.mark.parametrize("ends", ["cut", "unmarked"])
def test_a_call_that_broke_off_is_not_made(ends: Any, listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([calls(ADD, ends=ends, pieces=2), calls(ADD), says("Done.")])
    reply = say(listener, "Do it").raise_for_status().json()

    assert [(call["name"], call["is_error"]) for call in reply["tool_calls"]] == [("add_task", False)]
    assert len(listener.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("AGENT-46")
def test_a_stream_that_always_breaks_off_is_unavailable(listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([says("This answer breaks off", ends="cut")])
    failed = say(listener, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (503, "model_unavailable")
    assert failed.json()["response"] == ""
    assert_goes_on(listener, model, failed.json())


@pytest.mark.spec("AGENT-48")
@pytest.mark.parametrize(
    "arguments",
    [
        '{"title": ',
        "[1]",
        '"Milk"',
        '{"title": NaN}',
        '{"title": 1e999}',
        '{"title": ' + "[" * 500 + "]" * 500 + "}",
        '{"title": "Milk", "user_id": "somebody"}',
        '{"title": "a\\u0000b"}',
        '{"title": "a\\ud800b"}',
        '{"t\\u0000": "\\udfff"}',
        "{}",
    ],
    ids=range(11),
)
def test_a_call_with_bad_arguments_is_an_error_that_the_model_reads(
    arguments: str, listener: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([calls(ToolCall("add_task", arguments)), calls(ADD), says("Done.")])
    reply = say(listener, "Do it").raise_for_status().json()

    assert [(call["name"], call["is_error"]) for call in reply["tool_calls"]] == [
        ("add_task", True),
        ("add_task", False),
    ]
    told = reply["tool_calls"][0]["result"]
    assert model.requests[1]["messages"][-1]["content"] == "\n".join(told.values())
    assert "add_task takes: title" in told.get("hint", "")
    assert [task["title"] for task in listener.get("/api/tasks").json()["tasks"]] == ["Milk"]
    seen = listener.get(f"/api/conversations/{reply['conversation_id']}").raise_for_status().json()
    assert [call["is_error"] for call in seen["messages"][1]["tool_calls"]] == [True, False]
    assert_goes_on(listener, model, reply)


@pytest.mark.spec("AGENT-49")
@pytest.mark.parametrize("name", ["drop_database", "", "no name at all! \u00e4", "x" * 300, "edit_task", "a\x00b"])
def test_a_call_of_an_unknown_tool_is_an_error_that_the_model_reads(
    name: str, listener: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([calls(ToolCall(name, {"task_id": 1}), ADD), calls(ADD), says("Done.")])
    reply = say(listener, "Do it").raise_for_status().json()

    assert [call["is_error"] for call in reply["tool_calls"]] == [True, False, False]
    assert reply["tool_calls"][0]["operation_id"] is None
    told = {message.get("tool_call_id"): message for message in model.requests[1]["messages"]}
    assert told[f"{reply['run_id']}-1-1"]["content"] == reply["tool_calls"][0]["result"]["error"]
    assert "not found" in reply["tool_calls"][0]["result"]["error"]
    assert_acceptable(model.requests[2]["messages"])
    assert_goes_on(listener, model, reply)


@pytest.mark.spec("AGENT-50")
@pytest.mark.parametrize(
    "given", ["call_1", "", None, "an id! of its own \u00e4" * 9], ids=["reused", "empty", "none", "odd"]
)
def test_calls_get_ids_of_ours(given: str | None, person: httpx.Client, model: ScriptedModel) -> None:
    first, second = ToolCall("add_task", {"title": "Milk"}, given), ToolCall("add_task", {"title": "Eggs"}, given)
    model.follow([calls(first, second), calls(first), says("Done.")])
    reply = say(person, "Do it").raise_for_status().json()

    assert [call["is_error"] for call in reply["tool_calls"]] == [False, False, False]
    run_id = reply["run_id"]
    ids = [call["id"] for message in model.requests[2]["messages"] for call in message.get("tool_calls") or []]
    assert ids == [f"{run_id}-1-1", f"{run_id}-1-2", f"{run_id}-2-1"]
    assert [task["title"] for task in person.get("/api/tasks").json()["tasks"]] == ["Milk", "Eggs", "Milk"]
    assert_goes_on(person, model, reply)


@pytest.mark.spec("AGENT-51")
def test_a_model_that_never_stops_is_stopped_and_what_it_did_stays(person: httpx.Client, model: ScriptedModel) -> None:
    model.follow([calls(ADD)])
    failed = say(person, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (502, "model_loop")
    assert len(model.requests) == 6
    assert [call["name"] for call in failed.json()["tool_calls"]] == ["add_task"] * 6
    assert len(person.get("/api/tasks").json()["tasks"]) == 6
    run = person.get(f"/api/runs/{failed.json()['run_id']}").json()
    assert (run["status"], run["error"]["code"], run["usage"]["requests"]) == ("failed", "model_loop", 6)
    seen = person.get(f"/api/conversations/{failed.json()['conversation_id']}").json()["messages"]
    assert len(seen[1]["tool_calls"]) == 6
    assert_goes_on(person, model, failed.json())


@pytest.mark.spec("AGENT-51")
def test_at_most_32_calls_of_one_response_are_made(listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([calls(*[ToolCall("get_task", {"task_id": 1})] * 40), says("Done.")])
    reply = say(listener, "Do it").raise_for_status().json()

    assert len(reply["tool_calls"]) == 32
    assert_acceptable(model.requests[1]["messages"])


@pytest.mark.spec("AGENT-52")
@pytest.mark.parametrize("nothing", [Answer(), says("  \n ")], ids=["nothing", "blanks"])
def test_an_empty_answer_is_a_failure(nothing: Answer, person: httpx.Client, model: ScriptedModel) -> None:
    model.follow([nothing])
    failed = say(person, "Do it")

    assert (failed.status_code, failed.json()["code"], failed.json()["response"]) == (502, "model_failed", "")
    assert "empty" in failed.json()["detail"]
    assert_goes_on(person, model, failed.json())


@pytest.mark.spec("AGENT-52")
def test_an_empty_answer_after_calls_leaves_them_visible(listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([calls(ADD), Answer()])
    failed = say(listener, "Do it").json()

    assert failed["code"] == "model_failed"
    assert [(call["name"], call["is_error"]) for call in failed["tool_calls"]] == [("add_task", False)]
    assert_goes_on(listener, model, failed)


@pytest.mark.spec("AGENT-53")
def test_a_refusal_of_the_provider_is_an_answer(person: httpx.Client, model: ScriptedModel) -> None:
    model.follow([Answer(finish="content_filter")])
    reply = say(person, "Do it").raise_for_status().json()

    assert "content filter" in reply["response"]
    assert_goes_on(person, model, reply)


@pytest.mark.spec("AGENT-54")
def test_characters_that_cannot_be_stored_are_replaced_in_an_answer(person: httpx.Client, model: ScriptedModel) -> None:
    model.follow([says("a\x00b \ud800 \u0007 \U0001f642 end")])
    reply = say(person, "Do it").raise_for_status().json()

    assert reply["response"] == "a\ufffdb \ufffd \ufffd \U0001f642 end"
    seen = person.get(f"/api/conversations/{reply['conversation_id']}").json()["messages"]
    assert seen[1]["content"] == reply["response"]
    assert_goes_on(person, model, reply)


@pytest.mark.spec("AGENT-55")
def test_a_long_answer_is_kept_whole(listener: httpx.Client, model: ScriptedModel) -> None:
    long = " ".join(f"{number}-" * 50 for number in range(400))
    model.follow([says(long)])
    reply = say(listener, "Do it").raise_for_status().json()

    assert reply["response"] == long
    model.follow([says("Here I am.")])
    assert say(listener, "And now?", reply["conversation_id"]).json()["response"] == "Here I am."
    assert [message["role"] for message in model.requests[0]["messages"]] == ["system", "user"]


@pytest.mark.spec("AGENT-55")
def test_a_model_that_talks_without_end_is_stopped(listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([says(" ".join(f"{number}-" * 9000 for number in range(60)))])
    failed = say(listener, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (502, "model_failed")
    assert "wrote too much" in failed.json()["detail"]
    model.follow([says("Here I am.")])
    assert say(listener, "And now?", failed.json()["conversation_id"]).json()["response"] == "Here I am."


@pytest.mark.spec("AGENT-56")
def test_a_response_is_committed_before_its_tools_run(
    listener: httpx.Client, model: ScriptedModel, superuser_url: str
) -> None:
    model.follow([says("I add it.", calls=(ADD,)), says("Done.")])
    reply = say(listener, "Do it").raise_for_status().json()

    statement = (
        "select number, response, created_at < (select min(created_at) from operations o where o.run_id = r.run_id)"
        " from run_responses r where run_id = %s order by number"
    )
    rows = query(superuser_url, statement, reply["run_id"])
    assert [(number, [item["type"] for item in response["output"]]) for number, response, _ in rows] == [
        (1, ["message", "function_call"]),
        (2, ["message"]),
    ]
    assert rows[0][2]
    assert rows[0][1]["output"][1]["call_id"] == f"{reply['run_id']}-1-1"
