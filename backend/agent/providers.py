"""All models that LiteLLM can call. Importing this module imports LiteLLM."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

# Set before the import, or LiteLLM fetches a price map from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm  # after the setting above
import openai
import openai.resources.chat  # else imported by the first request, on the event loop, which takes a second
from agents import ModelResponse, UserError
from agents.extensions.models.litellm_model import LitellmModel
from agents.items import TResponseStreamEvent
from litellm import CustomStreamWrapper
from litellm.llms.bedrock.common_utils import BedrockModelInfo, get_bedrock_chat_config
from litellm.types.utils import Delta, StreamingChoices

from backend.agent.choice import OWN_RESPONSES, ModelChoice, instead_of, reports_endings
from backend.agent.endings import Ending, mark, worst
from backend.agent.errors import (
    BrokeOff,
    CutOff,
    EndingsUnreported,
    ErrorInStream,
    ModelFailed,
    ModelMisconfigured,
    ProviderFailed,
)
from backend.agent.failures import failure_of
from backend.agent.litellm_mends import mend_litellm

litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.drop_params = True
# Otherwise LiteLLM would download a tokenizer, on the event loop, to count tokens for any name containing "llama-3".
litellm.disable_hf_tokenizer_download = True
mend_litellm()

_ELSEWHERE = frozenset({"custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "xinference"})
"""Providers that people host themselves. If their address is not set, LiteLLM would send the request to OpenAI."""
_READ_OF_BEDROCK = (
    litellm.AmazonConverseConfig,
    litellm.AmazonAnthropicClaudeConfig,
    litellm.AmazonBedrockRuntimeChatCompletionsConfig,
)
"""LiteLLM's classes for Bedrock that keep the reason for the end; its older ones lose it."""


def litellm_model(choice: ModelChoice) -> "WholeAnswers":
    """Return the model for a LiteLLM name. Retries are made by `recording.py`."""
    provider, name, address = _resolved(choice)
    base_url = choice.base_url if provider == "openai" else None
    key = choice.keys.get(provider)
    model = WholeAnswers(choice.name, base_url=base_url, api_key=key)
    model.has_key = bool(key or base_url)
    if not _reports_endings(provider, name):
        model.refused = EndingsUnreported(choice.name, instead_of(f"{provider}/{name}"))
    elif not provider or (provider in _ELSEWHERE and not address):
        model.refused = ModelMisconfigured(choice.name)
    if provider == "openai" and not key:
        # OpenAI's client does not start without a key, which a self-hosted server may not need.
        model.api_key = "none"
    return model


class WholeAnswers(LitellmModel):
    """LiteLLM's model, restricted to complete responses; everything its library raises becomes ProviderFailed."""

    has_key = False
    """Whether the model has a key, or needs none."""
    refused: ModelFailed | None = None
    """The error with which every request is refused, if the model cannot be used."""

    async def get_response(self, *args: Any, **more: Any) -> ModelResponse:
        """Return the complete response.

        Raises:
            ProviderFailed: There is no complete response.
        """
        with self._failing():
            return await super().get_response(*args, **more)

    async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Yield the response as it arrives; the last event comes only if the response is complete.

        Raises:
            ProviderFailed: There is no response, or it ended early.
        """
        with self._failing():
            async with aclosing(cast("AsyncGenerator[Any]", super().stream_response(*args, **more))) as events:
                async for event in events:
                    yield event

    async def _fetch_response(self, *args: Any, **more: Any) -> Any:
        # A private method of the SDK, and the only place where LiteLLM's response can be reached.
        if self.refused is not None:
            raise ProviderFailed(self.refused)
        fetched = await super()._fetch_response(*args, **more)
        if not isinstance(fetched, tuple):
            return _whole_response(fetched)
        response, stream = fetched
        if not isinstance(stream, CustomStreamWrapper):
            # LiteLLM swallows an answer with HTTP 422, because it looks for the cause in its own parameters.
            raise ErrorInStream({"code": 422})
        return response, _whole_stream(stream)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (ProviderFailed, UserError):
            # UserError is a bug of ours: the SDK cannot use what we pass to it.
            raise
        except Exception as error:
            raise failure_of(error, str(self.model), has_key=self.has_key) from error

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps on this event loop, because uvloop fails to stop with open ones."""
        loop = asyncio.get_running_loop()
        for kept in list(litellm.in_memory_llm_clients_cache.cache_dict.values()):
            # Covers OpenAI's client and LiteLLM's own. A client whose session was closed opens a new one, so closing it
            # does no harm to anyone still using the client.
            client = getattr(kept, "_client", None) or getattr(kept, "client", None)
            session: Any = getattr(getattr(client, "_transport", None), "client", None)
            if getattr(session, "_loop", None) is loop:
                await session.close()


def _whole_response(response: Any) -> Any:
    """Return LiteLLM's response, marked if its text was cut off; raises like `_after`."""
    if not response.choices:
        raise BrokeOff
    choice = response.choices[0]
    message = choice.message
    text = message.content or ""
    if after := _after(worst([choice.finish_reason]), text, has_calls=bool(message.tool_calls)):
        message.content = text + after
    return response


async def _whole_stream(stream: Any) -> AsyncIterator[Any]:
    """Pass LiteLLM's stream on, and append the mark if its text was cut off; raises like `_after`.

    The reason is read from the stream itself, because LiteLLM's chunks invent one if the provider gave none.
    """
    if isinstance(stream.completion_stream, openai.AsyncStream):
        stream.completion_stream = _without_errors(stream.completion_stream)
    text, has_calls, reasons = "", False, list[str]()
    async with aclosing(stream):
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                has_calls = has_calls or bool(choice.delta.tool_calls or choice.delta.function_call)
            reasons += filter(None, [stream.received_finish_reason or stream.intermittent_finish_reason])
            yield chunk
    reasons += filter(None, [stream.received_finish_reason or stream.intermittent_finish_reason])
    if after := _after(worst(reasons), text, has_calls=has_calls):
        yield litellm.ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta(content=after))])


async def _without_errors(chunks: Any) -> AsyncIterator[Any]:
    """Pass a stream on until an error, which vLLM sends in the place of a chunk."""
    async with chunks:
        async for chunk in chunks:
            if getattr(chunk, "object", None) == "error":
                raise ErrorInStream(chunk.model_dump())
            yield chunk


def _after(how: Ending, text: str, *, has_calls: bool) -> str:
    """Return what to append to the text of a response that ended like this; nothing if it is complete.

    Raises:
        BrokeOff: The response is incomplete, and no limit or filter cut it off.
        CutOff: The response was cut off, and has calls or no text.
    """
    match how:
        case "whole":
            return ""
        case "broken":
            raise BrokeOff
        case "content_filter" if not (text.strip() or has_calls):
            # The SDK turns it into a refusal, which is an answer.
            return ""
        case _ if has_calls or not text.strip():
            raise CutOff(how, has_calls=has_calls)
        case _:
            return mark(text, how)


def _resolved(choice: ModelChoice) -> tuple[str, str, str | None]:
    """Return LiteLLM's provider, model name and address for a choice.

    Names that LiteLLM knows need no prefix. The provider is "" for names it does not know.
    """
    provider, _, model = choice.name.partition("/")
    # LiteLLM would resolve GitHub Copilot's names over the network.
    if not reports_endings(choice.name):
        return provider, model, None
    try:
        model, provider, _, address = litellm.get_llm_provider(choice.name)
        if provider == "openai" and choice.base_url:
            # For a name without a prefix, the address decides the provider.
            model, provider, _, address = litellm.get_llm_provider(choice.name, api_base=choice.base_url)
    except (openai.BadRequestError, ValueError):
        return "", choice.name, None
    return provider, model, address


def _reports_endings(provider: str, model: str) -> bool:
    """Return whether LiteLLM reports how the model's responses end."""
    if provider == "bedrock" and (
        BedrockModelInfo.get_bedrock_route(model) == "converse_like"
        or type(get_bedrock_chat_config(model)) not in _READ_OF_BEDROCK
    ):
        return False
    known = litellm.model_cost.get(f"{provider}/{model}", {})
    is_responses = known.get("mode") == "responses" and provider not in OWN_RESPONSES
    return not is_responses and reports_endings(f"{provider}/{model}")
