"""Any model that LiteLLM knows. Importing this module imports LiteLLM."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

# Before the import: without it LiteLLM fetches a price map from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm  # after the setting above
import openai
import openai.resources.chat  # else imported by the first request, on the event loop, which takes a second
from agents.extensions.models.litellm_model import LitellmModel
from agents.models.interface import Model

from backend.agent.choice import ModelChoice
from backend.agent.errors import BrokeOff

litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.drop_params = True


def litellm_model(choice: ModelChoice) -> Model:
    """Return the model that a LiteLLM name stands for. Retries are ours: see `recording.py`."""
    provider = _provider_of(choice.name)
    base_url = choice.base_url if provider == "openai" else None
    # OpenAI's client refuses to start without a key; with a wrong one the provider says what is wrong.
    key = choice.keys.get(provider) or ("none" if provider == "openai" else None)
    return WholeAnswers(choice.name, base_url=base_url, api_key=key)


class WholeAnswers(LitellmModel):
    """LiteLLM's model, which does not take half an answer for a whole one."""

    async def _fetch_response(self, *args: Any, **more: Any) -> Any:
        # The SDK's own method, not meant to be overridden: the only place where LiteLLM's stream can be reached.
        fetched = await super()._fetch_response(*args, **more)
        if isinstance(fetched, tuple):
            response, stream = fetched
            return response, _whole(stream)
        return fetched

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps on this event loop: uvloop fails to end with open ones."""
        loop = asyncio.get_running_loop()
        for kept in list(litellm.in_memory_llm_clients_cache.cache_dict.values()):
            # Of OpenAI's client and of LiteLLM's own. It makes a new session where one was closed, so that this one's
            # end is nobody's who uses the client still.
            client = getattr(kept, "_client", None) or getattr(kept, "client", None)
            session: Any = getattr(getattr(client, "_transport", None), "client", None)
            if getattr(session, "_loop", None) is loop:
                await session.close()


async def _whole(stream: Any) -> AsyncIterator[Any]:
    """Pass LiteLLM's stream on.

    Raises:
        BrokeOff: The provider gave no reason for the end. LiteLLM then makes one up, and says the answer is complete.
    """
    async with aclosing(stream):
        async for chunk in stream:
            yield chunk
    if stream.received_finish_reason is None and stream.intermittent_finish_reason is None:
        raise BrokeOff


def _provider_of(name: str) -> str:
    """Return LiteLLM's name of a model's provider: names that it knows need no prefix."""
    try:
        return str(litellm.get_llm_provider(name)[1])
    except openai.BadRequestError:
        return name.split("/", 1)[0]
