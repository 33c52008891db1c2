"""Create a model for any provider that LiteLLM can call. Importing this module imports LiteLLM."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

# This must be set before the import. Otherwise LiteLLM fetches a list of prices from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm  # after the setting above
import openai
import openai.resources.chat  # Otherwise the first request imports it on the event loop, which takes a second.
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
# Without this, LiteLLM would download a tokenizer on the event loop to count tokens if a model's name contains
# "llama-3".
litellm.disable_hf_tokenizer_download = True
mend_litellm()

_ELSEWHERE = frozenset({"custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "xinference"})
"""Providers that people host themselves. If no address is set for one of them, LiteLLM sends the request to OpenAI."""
_READ_OF_BEDROCK = (
    litellm.AmazonConverseConfig,
    litellm.AmazonAnthropicClaudeConfig,
    litellm.AmazonBedrockRuntimeChatCompletionsConfig,
)
"""LiteLLM's classes for Bedrock that preserve the reason for a response's end. Its older classes lose the reason."""


def litellm_model(choice: ModelChoice) -> "WholeAnswers":
    """Return the model for a choice with a LiteLLM name. The model does not retry requests; `recording.py` does."""
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
        # A self-hosted server may need no key, but OpenAI's client does not start without one.
        model.api_key = "none"
    return model


class WholeAnswers(LitellmModel):
    """LiteLLM's model, restricted to complete responses. It turns every error from LiteLLM into ProviderFailed."""

    has_key = False
    """Whether a key is set for the model, or the model needs none."""
    refused: ModelFailed | None = None
    """The error that every request raises if the model cannot be used; otherwise None."""

    async def get_response(self, *args: Any, **more: Any) -> ModelResponse:
        """Return the response.

        Raises:
            ProviderFailed: There is no response, or it is incomplete.
        """
        with self._failing():
            return await super().get_response(*args, **more)

    async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Yield the response's events as they arrive. The last event is yielded only if the response is complete.

        Raises:
            ProviderFailed: There is no response, or it ended early.
        """
        with self._failing():
            async with aclosing(cast("AsyncGenerator[Any]", super().stream_response(*args, **more))) as events:
                async for event in events:
                    yield event

    async def _fetch_response(self, *args: Any, **more: Any) -> Any:
        # This overrides a private method of the SDK, because LiteLLM's response can be reached nowhere else.
        if self.refused is not None:
            raise ProviderFailed(self.refused)
        fetched = await super()._fetch_response(*args, **more)
        if not isinstance(fetched, tuple):
            return _whole_response(fetched)
        response, stream = fetched
        if not isinstance(stream, CustomStreamWrapper):
            # LiteLLM treats an HTTP 422 from the provider as a mistake in its own parameters, and raises no error for
            # it.
            raise ErrorInStream({"code": 422})
        return response, _whole_stream(stream)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (ProviderFailed, UserError):
            # UserError means a bug of ours: the SDK cannot use the arguments that we pass.
            raise
        except Exception as error:
            raise failure_of(error, str(self.model), has_key=self.has_key) from error

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps open on this event loop. Otherwise uvloop could not stop."""
        loop = asyncio.get_running_loop()
        for kept in list(litellm.in_memory_llm_clients_cache.cache_dict.values()):
            # This finds the sessions of OpenAI's client and of LiteLLM's own client. Closing a session is harmless even
            # if the client is still in use, because the client then opens a new session.
            client = getattr(kept, "_client", None) or getattr(kept, "client", None)
            session: Any = getattr(getattr(client, "_transport", None), "client", None)
            if getattr(session, "_loop", None) is loop:
                await session.close()


def _whole_response(response: Any) -> Any:
    """Return LiteLLM's response. If its text was cut off, a sentence that says so is appended.

    Raises the same errors as `_after`.
    """
    if not response.choices:
        raise BrokeOff
    choice = response.choices[0]
    message = choice.message
    text = message.content or ""
    if after := _after(worst([choice.finish_reason]), text, has_calls=bool(message.tool_calls)):
        message.content = text + after
    return response


async def _whole_stream(stream: Any) -> AsyncIterator[Any]:
    """Yield LiteLLM's chunks. If the text was cut off, then yield the sentence that says so.

    Raises the same errors as `_after`. The reason for the end is read from the stream object, not from the chunks. If
    the provider gave no reason, LiteLLM makes one up for the chunks.
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
    """Yield a stream's chunks. Raise ErrorInStream for an error, which vLLM sends in the place of a chunk."""
    async with chunks:
        async for chunk in chunks:
            if getattr(chunk, "object", None) == "error":
                raise ErrorInStream(chunk.model_dump())
            yield chunk


def _after(how: Ending, text: str, *, has_calls: bool) -> str:
    """Return the text to append to a response that ended as `how`; "" if the response is complete.

    Raises:
        BrokeOff: The response is incomplete, and neither a limit nor a filter cut it off.
        CutOff: The response was cut off, and has tool calls or no text.
    """
    match how:
        case "whole":
            return ""
        case "broken":
            raise BrokeOff
        case "content_filter" if not (text.strip() or has_calls):
            # The SDK turns such a response into a refusal, which is an answer.
            return ""
        case _ if has_calls or not text.strip():
            raise CutOff(how, has_calls=has_calls)
        case _:
            return mark(text, how)


def _resolved(choice: ModelChoice) -> tuple[str, str, str | None]:
    """Return LiteLLM's provider, model name and address for a choice.

    A name that LiteLLM knows needs no provider prefix. If LiteLLM does not know the name, the provider is "".
    """
    provider, _, model = choice.name.partition("/")
    # A refused name is not resolved, because LiteLLM would resolve GitHub Copilot's names over the network.
    if not reports_endings(choice.name):
        return provider, model, None
    try:
        model, provider, _, address = litellm.get_llm_provider(choice.name)
        if provider == "openai" and choice.base_url:
            # For a name without a provider prefix, the address determines the provider.
            model, provider, _, address = litellm.get_llm_provider(choice.name, api_base=choice.base_url)
    except (openai.BadRequestError, ValueError):
        return "", choice.name, None
    return provider, model, address


def _reports_endings(provider: str, model: str) -> bool:
    """Return whether LiteLLM reports how this model's responses end."""
    if provider == "bedrock" and (
        BedrockModelInfo.get_bedrock_route(model) == "converse_like"
        or type(get_bedrock_chat_config(model)) not in _READ_OF_BEDROCK
    ):
        return False
    known = litellm.model_cost.get(f"{provider}/{model}", {})
    is_responses = known.get("mode") == "responses" and provider not in OWN_RESPONSES
    return not is_responses and reports_endings(f"{provider}/{model}")
