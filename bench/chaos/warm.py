"""Load once what a service loads before its first answer, so that services forked from here start within a second.

A new interpreter takes ten seconds of CPU, most of it for imports, some of which happen only at the first request to a
model.
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
# After our own module, which first keeps LiteLLM off the network.
litellm: Any = importlib.import_module("litellm")

with scripted_model([says("Hello.")]) as model:
    choice = ModelChoice(name="openai/scripted", keys={"openai": "x"}, base_url=model.url)
    agent = Agent(name="Warm", model=litellm_model(choice), model_settings=ModelSettings(include_usage=True))

    async def ask() -> None:
        """Send the model one request, then close the connections, because they belong to this event loop."""
        answered = Runner.run_streamed(agent, "Hello", run_config=RunConfig(tracing_disabled=True))
        async for _ in answered.stream_events():
            continue
        await litellm.close_litellm_async_clients()

    asyncio.run(ask())

litellm.in_memory_llm_clients_cache.flush_cache()
if threading.active_count() > 1:
    raise RuntimeError("A process with threads cannot be forked safely.")
# Frozen objects are not scanned by the collector of each forked process, so their memory stays shared.
gc.freeze()
