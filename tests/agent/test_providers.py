"""How LiteLLM's adapters translate our conversations, without a network."""

import asyncio
import gc
import json
from itertools import pairwise
from typing import Any

import pytest
from agents import ModelSettings
from agents.models.chatcmpl_converter import Converter
from agents.models.interface import ModelTracing
from aiohttp import ClientSession

from backend.agent.choice import ModelChoice
from backend.agent.history import Item, items_of
from backend.conversations.models import Message
from bench.scripted_model import ScriptedModel, says
from tests.agent.talk import assert_acceptable

KEYS = {"openai": "key of openai", "gemini": "key of gemini", "anthropic": "key of anthropic"}
RUN = "0123456789abcdef0123456789abcdef"


def model_named(name: str, *, keys: dict[str, str] = KEYS, **more: Any) -> Any:
    """Return the named model; LiteLLM is imported here and not while tests are collected."""
    from backend.agent.providers import litellm_model

    return litellm_model(ModelChoice(name=name, keys=keys, **more))


def conversation() -> list[Item]:
    """Return a conversation with parallel calls, a failed run and a run that waited."""

    def message(role: str, content: str, *calls: tuple[int, int]) -> Message:
        made = [
            {
                "call_id": f"{RUN}-{response}-{place}",
                "name": "list_tasks",
                "arguments": {},
                "result": {"tasks": []},
                "is_error": False,
            }
            for response, place in calls
        ]
        return Message(user_id="u", id=1, conversation_id=1, role=role, content=content, tool_calls=made)

    said = [
        message("user", "one"),
        message("assistant", "Two lists.", (1, 1), (1, 2), (2, 1)),
        message("user", "two: the provider failed"),
        message("user", "three: it failed after a call"),
        message("assistant", "", (3, 1)),
        message("user", "four"),
    ]
    return items_of(said, most_characters=10_000)


def converted(name: str) -> list[dict[str, Any]]:
    """Return the chat messages that the SDK passes to LiteLLM for a model."""
    model = model_named(name)
    told: list[Any] = Converter.items_to_messages(
        conversation(),  # type: ignore[arg-type]
        model=name,
        preserve_tool_output_all_content=True,
    )
    if name.startswith(("anthropic", "gemini")):
        told = list(model._fix_tool_message_ordering(told))
    return [{"role": "system", "content": "You help."}, *told]


@pytest.mark.spec("AGENT-70")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("openai/gpt-5-mini", "key of openai"),
        ("gpt-4o", "key of openai"),
        ("openai/any", "key of openai"),
        ("gemini/gemini-2.5-flash", "key of gemini"),
        ("anthropic/claude-haiku-4-5", "key of anthropic"),
        ("claude-haiku-4-5", "key of anthropic"),
        ("ollama/llama3", None),
        ("nobody/knows-this", None),
    ],
)
def test_each_provider_gets_its_own_key_and_no_others(name: str, key: str | None) -> None:
    model = model_named(name, base_url="http://127.0.0.1:1/v1")

    assert model.model == name
    assert model.api_key == key
    assert (model.base_url is not None) == (key == "key of openai")


@pytest.mark.spec("AGENT-70")
def test_a_server_of_ones_own_needs_no_key() -> None:
    assert model_named("openai/any", keys={}, base_url="http://127.0.0.1:1/v1").api_key


@pytest.mark.spec("AGENT-71")
@pytest.mark.parametrize("name", ["openai/any", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"])
def test_the_history_reaches_every_provider_whole(name: str) -> None:
    messages = converted(name)

    assert_acceptable(messages)
    assert [message["content"] for message in messages if message["role"] == "user"] == [
        "one",
        "two: the provider failed",
        "three: it failed after a call",
        "four",
    ]
    assert sum(message["role"] == "tool" for message in messages) == 4
    assert all(isinstance(message["content"], str) for message in messages if message["role"] == "tool")


@pytest.mark.spec("AGENT-71")
def test_anthropic_gets_turns_that_alternate_and_results_right_after_their_calls() -> None:
    from litellm.litellm_core_utils.prompt_templates.factory import anthropic_messages_pt

    messages: Any = converted("anthropic/claude-haiku-4-5")[1:]
    turns: list[Any] = [*anthropic_messages_pt(messages, "claude-haiku-4-5", "anthropic")]

    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    for turn, answer in pairwise(turns):
        called = [part["id"] for part in turn["content"] if part["type"] == "tool_use"]
        returned = [part["tool_use_id"] for part in answer["content"] if part["type"] == "tool_result"]
        assert called == returned


@pytest.mark.spec("AGENT-71")
def test_gemini_gets_turns_that_alternate_and_results_right_after_their_calls() -> None:
    from litellm.llms.vertex_ai.gemini.transformation import _gemini_convert_messages_with_history

    messages: Any = converted("gemini/gemini-2.5-flash")[1:]
    turns: list[Any] = [*_gemini_convert_messages_with_history(messages, "gemini-2.5-flash")]

    assert [turn["role"] for turn in turns] == ["user", "model"] * (len(turns) // 2) + ["user"]
    for turn, answer in pairwise(turns):
        called = [part["function_call"]["name"] for part in turn["parts"] if "function_call" in part]
        returned = [part["function_response"]["name"] for part in answer["parts"] if "function_response" in part]
        assert called == returned
    assert "list_tasks" in json.dumps(turns)


@pytest.mark.spec("PROC-6")
def test_no_connection_to_a_provider_outlives_its_event_loop() -> None:
    provider = ScriptedModel([says("Hello.")])

    async def talk() -> tuple[int, int]:
        server = await provider.serve()
        model = model_named("openai/any", base_url=provider.url)
        await model.get_response(
            None,
            "Hello",
            ModelSettings(),
            [],
            None,
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )
        before = open_sessions()
        await model.close()
        after = open_sessions()
        server.close()
        return before, after

    def open_sessions() -> int:
        loop = asyncio.get_running_loop()
        kept = [item for item in gc.get_objects() if isinstance(item, ClientSession)]
        return sum(not session.closed and session._loop is loop for session in kept)

    before, after = asyncio.run(talk())

    assert (before > 0, after) == (True, 0)
