"""A model whose responses are committed before any of their tools runs, under call ids of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import structlog
from agents import ModelResponse
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from backend.agent.errors import ModelAuthFailed, ModelFailed, ModelTimeout, ModelUnavailable
from backend.plain_text import storable
from backend.runs.journal import Journal

log = structlog.get_logger()

ATTEMPTS = 3
"""How often a provider that is away, limits us or breaks off is asked for one response."""
MOST_CALLS = 32
"""Calls of one response that are followed."""
LONGEST_WAIT = 10.0
"""Seconds between two attempts, whatever the provider asks for."""

Dumped = dict[str, Any]


class RecordedModel(Model):
    """Asks another model, writes down what it says, and hands it to the SDK.

    The SDK's own streaming is not used: the text reaches followers through the journal, so the loop depends on no
    reader.
    """

    def __init__(self, inner: Model, name: str, journal: Journal, *, streaming: bool) -> None:
        self._inner = inner
        self._name = name
        self._journal = journal
        self._streaming = streaming
        self._final: tuple[Dumped, dict[str, str]] | None = None

    async def get_response(
        self, system_instructions: str | None, input: str | list[TResponseInputItem], *rest: Any, **more: Any
    ) -> ModelResponse:
        """Return the model's next response after it was committed; a final one is committed by `finish`."""
        response = await self._asked((system_instructions, input, *rest), more)
        number = self._journal.next_response
        output, calls = _with_our_ids(response.output, f"{self._journal.run_id}-{number}")
        if not calls and not any(isinstance(item, ResponseOutputMessage) for item in output):
            raise ModelFailed(f"The model {self._name} gave an empty answer. Your message is kept; try again.")
        usage = response.usage
        dumped = {
            "output": [item.model_dump(mode="json", exclude_none=True) for item in output],
            "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        }
        outputs = _outputs(input)
        if calls:
            await self._journal.add_response(dumped, calls, outputs=outputs)
        else:
            self._final = (dumped, outputs)
        return ModelResponse(output=output, usage=usage, response_id=None)

    def stream_response(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Refuse: the loop does not stream."""
        raise TypeError("RecordedModel is run with Runner.run, not run_streamed.")

    async def finish(self) -> None:
        """Commit the final response, and with it the run's end."""
        if self._final is None:
            raise ModelFailed(f"The model {self._name} came to no answer. Your message is kept; try again.")
        dumped, outputs = self._final
        await self._journal.finish(dumped, outputs=outputs)

    async def _asked(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await (self._streamed(args, more) if self._streaming else self._whole(args, more))
            except Exception as error:
                failure = _failure(error, self._name)
                if failure is None:
                    raise
                log.warning("model_failed", code=failure.code, attempt=attempt, error=type(error).__name__)
                await self._journal.reset()
                if not isinstance(failure, ModelUnavailable) or attempt == ATTEMPTS:
                    raise failure from error
                await asyncio.sleep(_wait_before_retry(error, attempt))
        raise AssertionError("unreachable")

    async def _streamed(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        final: Response | None = None
        async for event in self._inner.stream_response(*args, **more):
            if isinstance(event, ResponseTextDeltaEvent):
                await self._journal.add_text(event.delta)
            elif isinstance(event, ResponseCompletedEvent):
                final = event.response
        if final is None:
            raise BrokeOff
        usage = Usage(requests=1)
        if final.usage is not None:
            usage.input_tokens, usage.output_tokens = final.usage.input_tokens, final.usage.output_tokens
        return ModelResponse(output=final.output, usage=usage, response_id=None)

    async def _whole(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        response = await self._inner.get_response(*args, **more)
        for item in response.output:
            if isinstance(item, ResponseOutputMessage):
                for part in item.content:
                    if isinstance(part, ResponseOutputText):
                        await self._journal.add_text(part.text)
        return response


class BrokeOff(Exception):
    """The provider's stream ended without a response."""


def _with_our_ids(output: list[ResponseOutputItem], prefix: str) -> tuple[list[ResponseOutputItem], list[Dumped]]:
    """Return the output with every call renamed, and the calls: providers reuse ids and leave them out.

    Arguments that are no JSON object become one whose only name says so: the tool refuses it, and the model reads why.
    """
    renamed: list[ResponseOutputItem] = []
    calls: list[Dumped] = []
    for item in output:
        if isinstance(item, ResponseFunctionToolCall):
            if len(calls) == MOST_CALLS:
                continue
            arguments = _arguments(item.arguments)
            call_id = f"{prefix}-{len(calls) + 1}"
            calls.append({"call_id": call_id, "name": storable(item.name), "arguments": arguments})
            update = {"call_id": call_id, "name": storable(item.name), "arguments": json.dumps(arguments)}
            renamed.append(item.model_copy(update=update))
        else:
            renamed.append(item)
    return renamed, calls


def _arguments(text: str) -> Dumped:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"arguments_were_not_a_json_object": True}


def _outputs(items: str | list[TResponseInputItem]) -> dict[str, str]:
    if isinstance(items, str):
        return {}
    outputs: dict[str, str] = {}
    for item in items:
        if item.get("type") == "function_call_output":
            told: Any = item
            output = told["output"]
            outputs[told["call_id"]] = output if isinstance(output, str) else json.dumps(output)
    return outputs


def _failure(error: Exception, model: str) -> ModelFailed | None:
    """Return our own error for a provider's; None for a defect of ours. LiteLLM's errors are kinds of OpenAI's."""
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return ModelAuthFailed(model)
        case openai.APITimeoutError() | TimeoutError():
            return ModelTimeout(model)
        case openai.RateLimitError() | openai.APIConnectionError() | openai.InternalServerError() | BrokeOff():
            return ModelUnavailable(model)
        case openai.APIStatusError() if error.status_code >= 500:
            return ModelUnavailable(model)
        case openai.APIStatusError() if type(error).__name__ == "ContextWindowExceededError":
            return ModelFailed(f"This conversation is too long for the model {model}. Start a new one.")
        case openai.APIStatusError():
            return ModelFailed(
                f"The provider of the model {model} refused the request (HTTP {error.status_code}). Whoever runs this "
                "service has to check MODEL and the provider's settings. Your message is kept."
            )
        case openai.OpenAIError():
            return ModelUnavailable(model)
        case _:
            return None


def _wait_before_retry(error: Exception, attempt: int) -> float:
    response = getattr(error, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    seconds = float(asked) if asked.replace(".", "", 1).isdigit() else 0.5 * 2 ** (attempt - 1)
    return min(seconds, LONGEST_WAIT)
