"""On every provider, a response that is not complete runs no call, and its text does not pass for complete."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from agents import FunctionTool, ModelSettings
from agents.models.interface import ModelTracing

from backend.agent.choice import ModelChoice
from backend.agent.errors import ProviderFailed
from bench.scripted_model import Answer, Refusal, ScriptedModel, ToolCall, Wire, calls, says
from tests.agent.talk import assert_acceptable, assert_gapless, heard, say, text_of
from tests.agent.wires import (
    ANTHROPIC_CALL,
    COHERE_CALL,
    CONVERSE_CALL,
    DONE,
    GEMINI_CALL,
    JSON,
    OLLAMA_CALL,
    OPENAI_CALL,
    RESPONSES_CALL,
    RESPONSES_TEXT,
    anthropic_stream,
    anthropic_whole,
    candidate,
    chunk,
    cohere_v1_whole,
    cohere_whole,
    converse_stream,
    converse_whole,
    cut_short,
    event,
    gemini_stream,
    gemini_whole,
    invoked,
    ollama_stream,
    ollama_text,
    ollama_whole,
    openai_stream,
    openai_whole,
    responses_stream,
    responses_whole,
)

pytestmark = pytest.mark.usefixtures("no_keys")

OPENAI = ["openai/any", "deepseek/deepseek-chat", "mistral/any", "groq/any", "openrouter/google/gemini-3", "xai/grok"]
SOME = ["hosted_vllm/any", "together_ai/any", "fireworks_ai/any"]
CLAUDE, GEMINI, OLLAMA = "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash", "ollama_chat/any"
COHERE, COHERE_V1 = "cohere/command-r", "cohere/v1/command-r"
CONVERSE, INVOKED = "bedrock/anthropic.claude-3-haiku-20240307-v1:0", "bedrock/us.anthropic.claude-newer"
WATSONX, RESPONSES = "watsonx/ibm/granite", "openai/responses/gpt-5.4"
HALF, CALL = {"content": "Half"}, {"tool_calls": [OPENAI_CALL]}
TEXT, TYPED = [{"text": "Half"}], [{"type": "text", "text": "Half"}]
LIKE_A_CALL = json.dumps({"type": "function", "name": "add_task", "arguments": {"title": "Pay"}})
THROTTLED = "throttlingException"

LENGTH = "Half\n\n(The answer was cut off here: the model reached its length limit.)"
FILTERED = "Half\n\n(The answer was cut off here: the provider's content filter stopped the model.)"

REFUSED = "Response withheld by the provider's content filter."


async def _nothing(*_: Any) -> str:
    return ""


ADD_TASK = FunctionTool(
    name="add_task",
    description="Add a task.",
    params_json_schema={"type": "object", "properties": {"title": {"type": "string"}}},
    on_invoke_tool=_nothing,
    strict_json_schema=False,
)


def made(name: str, *, url: str | None = None, key: str | None = "key") -> Any:
    """Return the named model, at the test's address."""
    from backend.agent.providers import litellm_model

    provider = name.split("/")[0]
    model: Any = litellm_model(ModelChoice(name=name, keys={provider: key} if key else {}, base_url=url))
    if url is not None:
        model.refused = None
        model.base_url = url.removesuffix("/v1") if provider in ("anthropic", "ollama", "ollama_chat") else url
    return model


async def asked(model: Any, *, streaming: bool) -> list[Any]:
    """Return a model's response, requested as the loop would."""
    once = {"timeout": 5, "num_retries": 0, "max_retries": 0}
    args: list[Any] = ["You help.", [{"role": "user", "content": "Do it"}]]
    args += [ModelSettings(include_usage=True, extra_args=once), [ADD_TASK], None, [], ModelTracing.DISABLED]
    more: Any = {"previous_response_id": None, "conversation_id": None, "prompt": None}
    if not streaming:
        return list((await model.get_response(*args, **more)).output)
    return [
        item
        async for event in model.stream_response(*args, **more)
        if event.type == "response.completed"
        for item in event.response.output
    ]


def answer_of(
    name: str, reply: Wire | Refusal, model: ScriptedModel, runner: asyncio.Runner, *, streaming: bool
) -> str:
    """Return the text of an answer, or the names and arguments of its calls, or the code of its failure."""
    model.follow([reply])
    try:
        output = runner.run(asked(made(name, url=model.url), streaming=streaming))
    except ProviderFailed as failed:
        return f"{failed.failure.code}{', again' if failed.again else ''}"
    return " ".join(map(_said, output))


def _said(item: Any) -> str:
    if item.type == "function_call":
        return f"{item.name} {json.dumps(json.loads(item.arguments))}"
    part = item.content[0]
    return str(part.text if part.type == "output_text" else part.refusal)


def streams(name: str) -> list[tuple[str, bool, str, Wire]]:
    """Return endings that only a stream in OpenAI's format can have, and the expected results."""
    done = {"tool_calls": [{**OPENAI_CALL, "function": {"name": "add_task", "arguments": '{"title": "[DONE] Pay"}'}}]}
    return [
        (name, True, "model_unavailable, again", openai_stream(None, HALF)),
        (name, True, "model_unavailable, again", openai_stream(None, CALL)),
        (name, True, "model_cut, again", Wire(chunk(CALL) + chunk({}, "length") + chunk({}, "stop") + DONE)),
        (name, True, 'add_task {"title": "[DONE] Pay"}', openai_stream("tool_calls", done)),
        (name, True, "Half", openai_stream("stop", HALF)),
        (name, True, "model_auth", Wire(chunk(HALF) + event({"error": {"message": "x", "code": "invalid_api_key"}}))),
        (name, True, "model_failed", Wire(event({"object": "error", "message": "x", "code": 404}) + DONE)),
    ]


def payloads(name: str, *, streaming: bool) -> list[tuple[str, bool, str, Wire]]:
    """Return responses in OpenAI's format, and the expected results."""
    how = openai_stream if streaming else openai_whole
    return [
        (name, streaming, "model_cut, again", how("length", CALL)),
        (name, streaming, "model_cut, again", how("length", {**HALF, **CALL})),
        (name, streaming, "model_cut", how("content_filter", CALL)),
        (name, streaming, LENGTH, how("length", HALF)),
        (name, streaming, FILTERED, how("content_filter", HALF)),
        (name, streaming, "model_cut", how("length", {"content": ""})),
        (name, streaming, "model_unavailable, again", how("error", HALF)),
        (name, streaming, "model_unavailable, again", how("insufficient_system_resource", HALF)),
        (name, streaming, "model_unavailable, again", how("error", CALL)),
        (name, streaming, "Half", how("stop", HALF)),
        (name, streaming, 'add_task {"title": "Pay"}', how("tool_calls", CALL)),
    ]


ENDINGS = [row for name in OPENAI for streaming in (True, False) for row in payloads(name, streaming=streaming)]
ENDINGS += [row for name in OPENAI + SOME for row in streams(name)]
ENDINGS += [
    (CLAUDE, True, "model_unavailable, again", anthropic_stream(None, text="I pay.", call=True)),
    (GEMINI, True, "Half", gemini_stream(candidate(TEXT, "STOP"), None)),
    (GEMINI, True, "Half", gemini_stream(candidate(TEXT, "STOP"), candidate([{"text": ""}]))),
    (GEMINI, True, "model_cut, again", gemini_stream(candidate([GEMINI_CALL], "MAX_TOKENS"), None)),
    (
        GEMINI,
        True,
        LENGTH,
        gemini_stream(candidate([{"text": "Ha"}], "STOP"), candidate([{"text": "lf"}], "MAX_TOKENS")),
    ),
    (CLAUDE, True, "model_cut, again", anthropic_stream("max_tokens", text="I pay.", call=True)),
    (CLAUDE, True, LENGTH, anthropic_stream("max_tokens", text="Half")),
    (CLAUDE, True, LENGTH, anthropic_stream("model_context_window_exceeded", text="Half")),
    (CLAUDE, True, FILTERED, anthropic_stream("refusal", text="Half")),
    (CLAUDE, True, "model_unavailable, again", anthropic_stream("something_new", text="Half")),
    (CLAUDE, True, "Half", anthropic_stream("end_turn", text="Half")),
    (CLAUDE, True, 'add_task {"title": "Pay"}', anthropic_stream("tool_use", call=True)),
    (CLAUDE, False, "model_cut, again", anthropic_whole("max_tokens", ANTHROPIC_CALL)),
    (CLAUDE, False, LENGTH, anthropic_whole("max_tokens", {"type": "text", "text": "Half"})),
    (CLAUDE, False, 'add_task {"title": "Pay"}', anthropic_whole("tool_use", ANTHROPIC_CALL)),
    (GEMINI, True, "model_cut, again", gemini_stream(candidate([GEMINI_CALL], "MAX_TOKENS"))),
    (GEMINI, True, "model_cut, again", gemini_stream(candidate([GEMINI_CALL]), candidate([], "MAX_TOKENS"))),
    (GEMINI, True, "model_cut, again", gemini_stream(candidate([GEMINI_CALL]), candidate(None, "MAX_TOKENS"))),
    (GEMINI, True, LENGTH, gemini_stream(candidate(TEXT), candidate([{"text": ""}], "MAX_TOKENS"))),
    (GEMINI, True, FILTERED, gemini_stream(candidate(TEXT), candidate([{"text": ""}], "SAFETY"))),
    (GEMINI, True, FILTERED, gemini_stream(candidate(TEXT), candidate(None, "RECITATION"))),
    (GEMINI, True, "model_unavailable, again", gemini_stream(candidate(TEXT))),
    (GEMINI, True, "model_unavailable, again", gemini_stream(candidate(None, "MALFORMED_FUNCTION_CALL"))),
    (GEMINI, True, "Half", gemini_stream(candidate(TEXT), candidate([{"text": ""}], "STOP"))),
    (GEMINI, True, 'add_task {"title": "Pay"}', gemini_stream(candidate([GEMINI_CALL], "STOP"))),
    (GEMINI, True, 'add_task {"title": "Pay"}', gemini_stream(candidate([GEMINI_CALL]), candidate(None, "STOP"))),
    (GEMINI, False, "model_cut, again", gemini_whole(candidate([GEMINI_CALL], "MAX_TOKENS"))),
    (GEMINI, False, REFUSED, gemini_whole(candidate(TEXT, "SAFETY"))),
    (GEMINI, False, "model_unavailable, again", gemini_whole(candidate(None, "MALFORMED_FUNCTION_CALL"))),
    (GEMINI, False, 'add_task {"title": "Pay"}', gemini_whole(candidate([GEMINI_CALL], "STOP"))),
    (OLLAMA, True, "model_cut, again", ollama_stream("length", OLLAMA_CALL)),
    (OLLAMA, True, LENGTH, ollama_stream("length", HALF)),
    (OLLAMA, True, "Half", ollama_stream("stop", HALF)),
    (OLLAMA, True, "Half", ollama_stream(None, HALF)),
    (OLLAMA, True, 'add_task {"title": "Pay"}', ollama_stream("stop", OLLAMA_CALL)),
    (OLLAMA, False, "model_cut, again", ollama_whole("length", OLLAMA_CALL)),
    (OLLAMA, False, LENGTH, ollama_whole("length", HALF)),
    (OLLAMA, False, 'add_task {"title": "Pay"}', ollama_whole("stop", OLLAMA_CALL)),
    ("ollama/any", True, LENGTH, ollama_text("length", "Half")),
    ("ollama/any", True, "Half", ollama_text("stop", "Half")),
]
ENDINGS += [
    row
    for streaming in (True, False)
    for row in (
        (COHERE, streaming, "model_cut, again", cohere_whole("MAX_TOKENS", **COHERE_CALL)),
        (COHERE, streaming, LENGTH, cohere_whole("MAX_TOKENS", content=TYPED)),
        (COHERE, streaming, "model_unavailable, again", cohere_whole("ERROR", content=TYPED)),
        (COHERE, streaming, "Half", cohere_whole("COMPLETE", content=TYPED)),
        (COHERE, streaming, 'add_task {"title": "Pay"}', cohere_whole("TOOL_CALL", **COHERE_CALL)),
        (COHERE_V1, streaming, LENGTH, cohere_v1_whole("MAX_TOKENS", text="Half")),
        (COHERE_V1, streaming, "model_cut, again", cohere_v1_whole("MAX_TOKENS", call=True)),
        (COHERE_V1, streaming, 'add_task {"title": "Pay"}', cohere_v1_whole("COMPLETE", call=True)),
    )
]
ENDINGS += [row for streaming in (True, False) for row in payloads(WATSONX, streaming=streaming)] + streams(WATSONX)
ENDINGS += [
    (CONVERSE, True, "Half", converse_stream("end_turn", text="Half")),
    (CONVERSE, True, 'add_task {"title": "Pay"}', converse_stream("tool_use", call=True)),
    (CONVERSE, True, LENGTH, converse_stream("max_tokens", text="Half")),
    (CONVERSE, True, LENGTH, converse_stream("model_context_window_exceeded", text="Half")),
    (CONVERSE, True, FILTERED, converse_stream("guardrail_intervened", text="Half")),
    (CONVERSE, True, FILTERED, converse_stream("content_filtered", text="Half")),
    (CONVERSE, True, "model_cut, again", converse_stream("max_tokens", text="I pay.", call=True)),
    (CONVERSE, True, "model_cut", converse_stream("guardrail_intervened", call=True)),
    (CONVERSE, True, "model_unavailable, again", converse_stream("malformed_tool_use", call=True)),
    (CONVERSE, True, "model_unavailable, again", converse_stream("something_new", text="Half")),
    (CONVERSE, True, "model_unavailable, again", converse_stream(None, text="Half")),
    (CONVERSE, True, "model_unavailable, again", converse_stream(None, call=True)),
    (CONVERSE, True, "model_unavailable, again", converse_stream("", call=True)),
    (CONVERSE, True, "model_unavailable, again", converse_stream("tool_use", call=True, failing=THROTTLED)),
    (CONVERSE, True, "model_failed", converse_stream("end_turn", text="Half", failing="validationException")),
    (CONVERSE, True, "model_unavailable, again", cut_short(converse_stream("tool_use", call=True), 300)),
    (CONVERSE, True, "model_unavailable, again", cut_short(converse_stream("end_turn", text="Half"), 330)),
    (CONVERSE, False, "Half", converse_whole("end_turn", {"text": "Half"})),
    (CONVERSE, False, LENGTH, converse_whole("max_tokens", {"text": "Half"})),
    (CONVERSE, False, FILTERED, converse_whole("guardrail_intervened", {"text": "Half"})),
    (CONVERSE, False, "model_cut, again", converse_whole("max_tokens", CONVERSE_CALL)),
    (CONVERSE, False, "model_unavailable, again", converse_whole("malformed_tool_use", CONVERSE_CALL)),
    (CONVERSE, False, f"{LIKE_A_CALL}{LENGTH[4:]}", converse_whole("max_tokens", {"text": LIKE_A_CALL})),
    (CONVERSE, False, "model_unavailable, again", converse_whole("something_new", {"text": LIKE_A_CALL})),
    (CONVERSE, False, 'add_task {"title": "Pay"}', converse_whole("tool_use", CONVERSE_CALL)),
    (INVOKED, True, "Half", invoked(anthropic_stream("end_turn", text="Half"))),
    (INVOKED, True, LENGTH, invoked(anthropic_stream("max_tokens", text="Half"))),
    (INVOKED, True, "model_cut, again", invoked(anthropic_stream("max_tokens", call=True))),
    (INVOKED, True, "model_unavailable, again", invoked(anthropic_stream(None, call=True))),
    (INVOKED, True, 'add_task {"title": "Pay"}', invoked(anthropic_stream("tool_use", call=True))),
    (INVOKED, False, "model_cut, again", anthropic_whole("max_tokens", ANTHROPIC_CALL)),
    ("azure_ai/claude-any", True, "model_cut, again", anthropic_stream("max_tokens", call=True)),
    ("azure_ai/claude-any", False, "model_cut, again", anthropic_whole("max_tokens", ANTHROPIC_CALL)),
]
COMPLETED, INCOMPLETE = "response.completed", "response.incomplete"
ENDINGS += [
    (RESPONSES, True, "Half", responses_stream(COMPLETED, "completed", RESPONSES_TEXT)),
    (RESPONSES, True, 'add_task {"title": "Pay"}', responses_stream(COMPLETED, "completed", RESPONSES_CALL)),
    (RESPONSES, True, LENGTH, responses_stream(INCOMPLETE, "incomplete", RESPONSES_TEXT, "max_output_tokens")),
    (RESPONSES, True, FILTERED, responses_stream(INCOMPLETE, "incomplete", RESPONSES_TEXT, "content_filter")),
    (RESPONSES, True, "model_cut, again", responses_stream(INCOMPLETE, "incomplete", RESPONSES_CALL)),
    (RESPONSES, True, "model_cut, again", responses_stream(COMPLETED, "incomplete", RESPONSES_CALL)),
    (RESPONSES, True, "model_unavailable, again", responses_stream(COMPLETED, "cancelled", RESPONSES_CALL)),
    (RESPONSES, True, "model_unavailable, again", responses_stream("response.failed", "failed", RESPONSES_CALL)),
    (RESPONSES, True, "model_unavailable, again", responses_stream(None, "", RESPONSES_CALL)),
    (RESPONSES, False, "Half", responses_whole("completed", RESPONSES_TEXT)),
    (RESPONSES, False, LENGTH, responses_whole("incomplete", RESPONSES_TEXT, "max_output_tokens")),
    (RESPONSES, False, "model_cut, again", responses_whole("incomplete", RESPONSES_CALL)),
    (RESPONSES, False, "model_unavailable, again", responses_whole("failed", RESPONSES_CALL)),
    (RESPONSES, False, "model_unavailable, again", responses_whole("cancelled", RESPONSES_TEXT)),
    (RESPONSES, False, "model_unavailable, again", responses_whole("something_new", RESPONSES_TEXT)),
    (RESPONSES, False, 'add_task {"title": "Pay"}', responses_whole("completed", RESPONSES_CALL)),
]


@pytest.mark.spec("AGENT-57", "AGENT-58")
def test_only_a_whole_response_is_taken_for_one_on_every_provider(model: ScriptedModel, runner: asyncio.Runner) -> None:
    wrong = [
        (name, streaming, wanted, answer, reply.body[-400:])
        for name, streaming, wanted, reply in ENDINGS
        if (answer := answer_of(name, reply, model, runner, streaming=streaming)) != wanted
    ]

    assert wrong == []


IN_200 = [
    (False, "model_unavailable, again", '{"error": {"message": "overloaded"}}'),
    (False, "model_unavailable, again", '{"error": "x"}'),
    (False, "model_auth", '{"error": {"message": "invalid key", "code": 401}}'),
    (False, "model_unavailable, again", '{"id": "1", "object": "chat.completion", "choices": []}'),
    (False, "model_unavailable, again", "<html>Bad gateway</html>"),
    (True, "model_unavailable, again", event({"error": {"message": "overloaded"}})),
    (True, "model_unavailable, again", event({"error": {"message": "slow down", "code": "429"}})),
    (True, "model_auth", event({"error": {"message": "invalid key", "code": 401}})),
    (True, "model_auth", event({"error": {"message": "invalid key", "code": "invalid_api_key"}})),
    (True, "model_failed", chunk(HALF) + event({"error": {"message": "No such model.", "code": 404}})),
    (
        True,
        "model_failed",
        event({"object": "error", "message": "This model's maximum context length is 2048 tokens", "code": 400}),
    ),
    (True, "model_failed", event({"object": "error", "message": "Bad tools", "type": "BadRequestError", "code": 400})),
    (
        True,
        "model_unavailable, again",
        chunk(HALF) + event({"object": "error", "message": "Out of memory", "code": 500}),
    ),
    (True, "model_unavailable, again", "<html>Bad gateway</html>"),
    (True, "model_unavailable, again", 'data: {"id": \n\n'),
]


@pytest.mark.spec("AGENT-45")
@pytest.mark.parametrize(("streaming", "wanted", "body"), IN_200, ids=range(len(IN_200)))
def test_the_code_of_an_error_with_status_200_counts_like_a_status(
    streaming: bool, wanted: str, body: str, model: ScriptedModel, runner: asyncio.Runner
) -> None:
    reply = Wire(body + DONE) if streaming else Wire(body, JSON)

    assert answer_of("openai/any", reply, model, runner, streaming=streaming) == wanted


STATUSES = [
    (422, "No.", "model_failed"),
    (402, "Pay first.", "model_misconfigured"),
    (413, "Too large.", "model_failed"),
    (504, "Late.", "model_unavailable, again"),
    (408, "Late.", "model_unavailable, again"),
    (429, "insufficient_quota", "model_misconfigured"),
    (400, "This endpoint's maximum context length is 8192 tokens.", "model_failed"),
    (400, "The prompt is too long for the model maximum context length.", "model_failed"),
]


@pytest.mark.spec("AGENT-45", "AGENT-72")
@pytest.mark.parametrize("name", ["openai/any", "deepseek/any", "groq/any"])
def test_a_status_of_the_providers_own_counts_whatever_the_library_makes_of_it(
    name: str, model: ScriptedModel, runner: asyncio.Runner
) -> None:
    told = [
        (status, answer_of(name, Refusal(status, said), model, runner, streaming=streaming))
        for status, said, _ in STATUSES
        for streaming in (True, False)
    ]

    assert told == [(status, code) for status, _, code in STATUSES for _ in (True, False)]


@pytest.mark.spec("AGENT-43")
def test_whatever_the_providers_library_raises_is_the_providers_failure(
    model: ScriptedModel, runner: asyncio.Runner
) -> None:
    error = {"code": "server_error", "message": "Provider disconnected"}
    broken = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    reply = Wire(chunk(HALF) + event({"id": "1", "error": error, "choices": [broken]}) + DONE)

    assert answer_of("openrouter/google/gemini-3", reply, model, runner, streaming=True) == "model_unavailable, again"


@pytest.mark.spec("AGENT-72")
@pytest.mark.parametrize(
    ("name", "key", "url"),
    [
        ("gpt-5-mini", None, None),
        ("openai/gpt-5-mini", None, None),
        ("gemini/gemini-2.5-flash", None, None),
        ("anthropic/claude-haiku-4-5", None, None),
        ("groq/llama-3.3", None, None),
        ("mistral/any", None, None),
        ("azure/any", None, None),
        ("perplexity/any", None, None),
        ("vllm/any", None, None),
        ("azure/any", "key", None),
        ("hosted_vllm/any", None, None),
        ("lm_studio/any", None, None),
        ("custom_openai/any", "key", None),
        ("litellm_proxy/any", None, None),
        ("openai/any", "schl\u00fcssel", "http://127.0.0.1:9/v1"),
        ("vertex_ai/gemini-any", None, None),
        ("llama3.2", None, None),
        ("openia/gpt-5-mini", None, None),
        ("OpenAI/gpt-5-mini", None, None),
        ("openai/any", "key", "localhost:1234/v1"),
        ("openai/any", "key", "http://"),
    ],
)
def test_what_only_the_owner_can_mend_is_never_try_again_soon(
    name: str, key: str | None, url: str | None, runner: asyncio.Runner
) -> None:
    with pytest.raises(ProviderFailed) as raised:
        runner.run(asked(made(name, url=url, key=key), streaming=True))

    assert (raised.value.failure.code, raised.value.again) == ("model_misconfigured", False)
    assert raised.value.failure.retry_after is None
    assert name in str(raised.value.failure)


@pytest.mark.spec("AGENT-72")
@pytest.mark.parametrize("name", ["vertex_ai/gemini-any", "vertex_ai/claude-any"])
def test_a_library_that_is_missing_is_named(name: str, runner: asyncio.Runner) -> None:
    with pytest.raises(ProviderFailed) as raised:
        runner.run(asked(made(name, key=None), streaming=True))

    assert "google.auth" in str(raised.value.failure)


@pytest.mark.spec("AGENT-72")
def test_a_quota_that_is_used_up_is_never_try_again_soon(model: ScriptedModel, runner: asyncio.Runner) -> None:
    reply = Wire(event({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}) + DONE)

    assert answer_of("openai/any", reply, model, runner, streaming=True) == "model_misconfigured"


ADD = ToolCall("add_task", {"title": "Pay"})


@pytest.mark.spec("AGENT-57")
def test_nothing_of_a_cut_response_is_done_and_the_model_is_asked_again(
    person: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([says("I add both.", calls=(ADD, ADD), finish="length"), calls(ADD), says("Done.")])
    reply = say(person, "Do it").raise_for_status().json()

    assert reply["response"] == "Done."
    assert [call["name"] for call in reply["tool_calls"]] == ["add_task"]
    assert [task["title"] for task in person.get("/api/tasks").json()["tasks"]] == ["Pay"]
    system = [request["messages"][0]["content"] for request in model.requests]
    assert ["limit of length" in text for text in system] == [False, True, False]
    assert system[1].startswith(system[0])
    assert_acceptable(model.requests[1]["messages"])


@pytest.mark.spec("AGENT-57")
def test_a_response_that_is_always_cut_is_said(person: httpx.Client, model: ScriptedModel) -> None:
    model.follow([says("I add it.", calls=(ADD,), finish="length")])
    failed = say(person, "Do it")

    assert (failed.status_code, failed.json()["code"]) == (502, "model_cut")
    assert "the step was not done" in failed.json()["detail"]
    assert (failed.json()["response"], len(model.requests)) == ("", 3)
    assert person.get("/api/tasks").json()["tasks"] == []
    model.follow([says("Here I am.")])
    assert say(person, "And now?", failed.json()["conversation_id"]).json()["response"] == "Here I am."


@pytest.mark.spec("AGENT-58")
@pytest.mark.parametrize(
    ("said", "rest"),
    [
        ("The three steps are: first,", "\n\n(The answer was cut off"),
        ("Run this:\n\n```sh\nls", "\n```\n\n(The answer was cut off"),
        ("Run this:\n\n````md\n```\nls\n```\n", "\n````\n\n(The answer was cut off"),
        ("- Run:\n  ```sh\n  ls", "\n  ```\n\n(The answer was cut off"),
        ("```md\n```js\nx\n```\nThat is all and then", "\n\n(The answer was cut off"),
        ("```a``` is how", "\n\n(The answer was cut off"),
        ("```\na\n``` more", "\n```\n\n(The answer was cut off"),
        ("Run this:\n\n~~~\nls\n~~~\nand", "\n\n(The answer was cut off"),
    ],
    ids=range(8),
)
def test_a_text_that_was_cut_off_says_so(said: str, rest: str, listener: httpx.Client, model: ScriptedModel) -> None:
    model.follow([says(said, finish="length")])
    events = heard(listener, "Do it")

    assert_gapless(events)
    response = events[-1][2]["response"]
    assert events[-1][2]["status"] == "completed"
    assert response.startswith(said + rest)
    assert text_of(events) == response
    model.follow([says("Here I am.")])
    say(listener, "Go on", events[-1][2]["conversation_id"]).raise_for_status()
    assert model.requests[0]["messages"][2]["content"] == response


@pytest.mark.spec("AGENT-58")
def test_an_empty_response_that_was_cut_off_says_that_the_limit_was_reached(
    person: httpx.Client, model: ScriptedModel
) -> None:
    model.follow([Answer(finish="length")])
    failed = say(person, "Do it")

    assert (failed.status_code, failed.json()["code"], len(model.requests)) == (502, "model_cut", 1)
    assert "length limit" in failed.json()["detail"]
