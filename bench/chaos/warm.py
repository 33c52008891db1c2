"""What a service loads before its first answer, loaded once: services forked from here are up in a second.

A start of its own takes ten seconds of CPU, most of it for imports, some of them at the first question to a model.
"""

import asyncio
import gc
import importlib
import threading
from typing import Any

from agents import Agent, ModelSettings, RunConfig, Runner

from backend.agent.choice import ModelChoice
from backend.agent.loop import Loop  # noqa: F401  # switches tracing off
from backend.agent.providers import litellm_model
from bench.scripted_model import says, scripted_model

for name in ("backend.cli", "backend.mcp_server.http"):
    importlib.import_module(name)
# Only now: our own module tells it first to stay off the network.
litellm: Any = importlib.import_module("litellm")

with scripted_model([says("Hello.")]) as model:
    choice = ModelChoice(name="openai/scripted", keys={"openai": "x"}, base_url=model.url)
    agent = Agent(name="Warm", model=litellm_model(choice), model_settings=ModelSettings(include_usage=True))

    async def ask() -> None:
        """Ask once, and leave no connection behind: they belong to this loop."""
        answered = Runner.run_streamed(agent, "Hello", run_config=RunConfig(tracing_disabled=True))
        async for _ in answered.stream_events():
            continue
        await litellm.close_litellm_async_clients()

    asyncio.run(ask())

litellm.in_memory_llm_clients_cache.flush_cache()
if threading.active_count() > 1:
    raise RuntimeError("A process with threads cannot be forked safely.")
# What all processes share is not looked through, and so copied, by each one's collector.
gc.freeze()
