"""A turn opens no connection except to its model's provider."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from backend.agent.errors import ProviderFailed
from bench.scripted_model import ScriptedModel, says
from tests.agent.test_endings import asked, made

LOCAL = [
    "openai/any",
    "openai/gpt-5-mini",
    "openai/gpt-4o",
    "openai/o4-mini",
    "openai/gpt-oss-120b",
    "openai/meta-llama/Llama-3.3-70B-Instruct",
    "openai/llama-3.2-1b-instruct",
    "openai/meta-llama-3-8b",
    "openai/llama-2-7b-chat",
    "openai/llama3",
    "openai/codellama-13b",
    "openai/mistral-7b",
    "openai/mixtral-8x7b",
    "openai/command-r",
    "openai/command-nightly",
    "openai/claude-3-haiku",
    "openai/claude-2",
    "openai/gemini-2.5-flash",
    "openai/gemma-3-4b",
    "openai/qwen3-8b",
    "openai/deepseek-r1",
    "openai/deepseek-coder",
    "openai/phi-4",
    "openai/smollm2",
    "openai/text-davinci-003",
    "ollama/llama-3",
    "ollama_chat/llama-2",
]
"""Names that refer to a server here; for some, LiteLLM would fetch a tokenizer."""
REMOTE = {
    "gpt-5-mini": "api.openai.com",
    "o3": "api.openai.com",
    "gemini/gemini-2.5-flash": "generativelanguage.googleapis.com",
    "anthropic/claude-haiku-4-5": "api.anthropic.com",
    "claude-haiku-4-5": "api.anthropic.com",
    "groq/llama-3.3-70b-versatile": "api.groq.com",
    "mistral/mistral-small-latest": "api.mistral.ai",
    "openrouter/meta-llama/llama-3-8b": "openrouter.ai",
    "deepseek/deepseek-chat": "api.deepseek.com",
    "together_ai/meta-llama/Llama-3-70b-chat-hf": "api.together",
    "xai/grok-4": "api.x.ai",
    "perplexity/sonar": "api.perplexity.ai",
    "fireworks_ai/llama-v3-70b-instruct": "api.fireworks.ai",
}


class _Listener:
    """Records name lookups and connections while `on`, and blocks connections to other machines."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "socket.getaddrinfo":
            self.seen.append(str(args[0]))
        elif event == "socket.connect" and isinstance(args[1], tuple):
            self.seen.append(f"{args[1][0]}:{args[1][1]}")
        else:
            return
        if "127.0.0.1" not in self.seen[-1]:
            raise OSError("This test lets nobody out.")


_listener = _Listener()
# An audit hook cannot be removed.
sys.addaudithook(_listener)


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """The names looked up and the addresses connected to during the test."""
    _listener.on = True
    yield _listener.seen
    _listener.on = False


@pytest.mark.spec("AGENT-73")
def test_a_turn_of_any_model_name_connects_to_its_provider_alone(
    model: ScriptedModel, runner: asyncio.Runner, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)
    # LiteLLM asks Ollama what a model can do.
    monkeypatch.setenv("OLLAMA_API_BASE", model.url.removesuffix("/v1"))
    for name in REMOTE:
        monkeypatch.setenv(f"{name.split('/')[0].upper()}_API_KEY", "key")
    server = model.url.removeprefix("http://").removesuffix("/v1")
    wrong: list[object] = []

    async def turns() -> None:
        for name in [*LOCAL, *REMOTE]:
            for streaming in (True, False):
                seen.clear()
                model.follow([says("Hello."), says("Hello.")])
                # Some answers are meaningless in their provider's format, and some providers cannot be reached.
                with suppress(ProviderFailed):
                    await asked(made(name, url=model.url if name in LOCAL else None), streaming=streaming)
                await _all_done()
                allowed = server if name in LOCAL else REMOTE[name]
                reached = model.requests if name in LOCAL else seen
                if not reached or any(at != "127.0.0.1" and not at.startswith(allowed) for at in seen):
                    wrong.append((name, streaming, list(seen)))

    runner.run(turns())

    assert len(LOCAL) + len(REMOTE) == 40
    assert not wrong


async def _all_done() -> None:
    """Wait for LiteLLM's background work after a turn."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    await asyncio.sleep(0)
    await GLOBAL_LOGGING_WORKER.flush()
