"""A model whose responses are recorded.

Each response gets our own call ids and is committed before its tools run. If a later attempt takes over the run, it
reads the committed responses instead of asking the model again.
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

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
    ResponseRefusalDeltaEvent,
    ResponseTextDeltaEvent,
)
from pydantic import TypeAdapter

from backend.agent.errors import ModelFailed, ProviderFailed, causes_of
from backend.plain_text import storable_json
from backend.runs.journal import Journal

log = structlog.get_logger()

ATTEMPTS = 3
"""The most requests for one response, if the provider is down, rejects requests because of its rate limit, or breaks
off."""
MOST_CALLS = 32
"""The most tool calls that are executed from one response. Further calls are dropped."""
FIRST_WAIT = 0.5
"""Seconds to wait before the first retry, if the provider does not say how long. The wait doubles with every retry."""
LONGEST_WAIT = 10.0
"""The most seconds to wait before a retry. If the provider asks for a longer wait, the request fails."""
LONGEST_RESPONSE = 1_000_000
"""The most characters in one response. A longer response is stopped and counts as failed."""
DEEPEST_ARGUMENTS = 20
"""How deeply a call's arguments may be nested, in levels."""

Dumped = dict[str, Any]
_OUTPUT: TypeAdapter[list[ResponseOutputItem]] = TypeAdapter(list[ResponseOutputItem])


class RecordedModel(Model):
    """Calls another model, records its responses, and returns them to the SDK.

    The SDK's own streaming is not used. Followers get the text from the journal, so a slow follower does not delay the
    loop.
    """

    def __init__(self, inner: Model, name: str, journal: Journal, *, streaming: bool) -> None:
        self._inner = inner
        self._name = name
        self._journal = journal
        self._streaming = streaming
        self._asked_for = 0
        self._final: tuple[Dumped, dict[str, str]] | None = None

    async def get_response(
        self, system_instructions: str | None, input: str | list[TResponseInputItem], *rest: Any, **more: Any
    ) -> ModelResponse:
        """Return the next response: the one that an earlier attempt committed, or else a new one from the model.

        A new response with tool calls is committed before it is returned. The final response is committed by `finish`.
        """
        self._journal.go_on()
        self._asked_for += 1
        if (committed := self._journal.committed_response(self._asked_for)) is not None:
            return _played_back(committed)
        items = _in_plain_text(input)
        response = await self._asked((system_instructions, items, *rest), more)
        number = self._journal.next_response
        output, calls = _with_our_ids(response.output, f"{self._journal.run_id}-{number}")
        if not calls and not any(text.strip() for text in _texts(output)):
            await self._journal.reset()
            raise ModelFailed(f"The model {self._name} gave an empty answer. Your message is kept; try again.")
        usage = response.usage
        dumped = {
            "output": [item.model_dump(mode="json", exclude_none=True) for item in output],
            "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        }
        outputs = _outputs(items)
        if calls:
            await self._journal.add_response(dumped, calls, outputs=outputs)
        else:
            self._final = (dumped, outputs)
        return ModelResponse(output=output, usage=usage, response_id=None)

    def stream_response(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Raise TypeError, because the loop does not stream."""
        raise TypeError("RecordedModel is run with Runner.run, not run_streamed.")

    async def finish(self) -> None:
        """Commit the final response, which also ends the run."""
        if self._final is None:
            raise ModelFailed(f"The model {self._name} gave no answer. Your message is kept; try again.")
        dumped, outputs = self._final
        await self._journal.finish(dumped, outputs=outputs)

    async def _asked(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        instructions, *rest = args
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await (self._streamed(args, more) if self._streaming else self._whole(args, more))
            except ProviderFailed as failed:
                # Only the errors' types are logged, because their texts may quote a key or a message.
                kinds = [type(cause).__name__ for cause in causes_of(failed)][1:]
                log.warning("model_failed", code=failed.failure.code, attempt=attempt, error=kinds[0], causes=kinds[1:])
                await self._journal.reset()
                wait = FIRST_WAIT * 2 ** (attempt - 1) if failed.wait is None else failed.wait
                if not failed.again or attempt == ATTEMPTS or wait > LONGEST_WAIT:
                    raise failed.failure from failed
                await asyncio.sleep(wait)
                if failed.note:
                    args = (f"{instructions or ''}\n\n{failed.note}", *rest)
        raise AssertionError("unreachable")

    async def _streamed(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        final: Response | None = None
        size = 0
        stream = cast("AsyncGenerator[TResponseStreamEvent]", self._inner.stream_response(*args, **more))
        async with aclosing(stream):
            async for event in stream:
                size += len(getattr(event, "delta", ""))
                if size > LONGEST_RESPONSE:
                    raise ModelFailed(f"The model {self._name} wrote too much and was stopped. Try again.")
                if isinstance(event, ResponseTextDeltaEvent | ResponseRefusalDeltaEvent):
                    await self._journal.add_text(event.delta)
                elif isinstance(event, ResponseCompletedEvent):
                    final = event.response
        if final is None:
            raise ModelFailed(f"The model {self._name} gave no answer. Your message is kept; try again.")
        usage = Usage(requests=1)
        if final.usage is not None:
            usage.input_tokens, usage.output_tokens = final.usage.input_tokens, final.usage.output_tokens
        return ModelResponse(output=final.output, usage=usage, response_id=None)

    async def _whole(self, args: tuple[Any, ...], more: dict[str, Any]) -> ModelResponse:
        response = await self._inner.get_response(*args, **more)
        for text in _texts(response.output):
            await self._journal.add_text(text)
        return response


def _played_back(committed: Dumped) -> ModelResponse:
    """Return a committed response with no usage, because its tokens were counted when it was committed."""
    return ModelResponse(output=_OUTPUT.validate_python(committed["output"]), usage=Usage(), response_id=None)


def _texts(output: list[ResponseOutputItem]) -> Iterator[str]:
    """Yield a response's texts that the user sees, including refusals."""
    for item in output:
        if isinstance(item, ResponseOutputMessage):
            for part in item.content:
                yield part.text if isinstance(part, ResponseOutputText) else part.refusal


def _with_our_ids(output: list[ResponseOutputItem], prefix: str) -> tuple[list[ResponseOutputItem], list[Dumped]]:
    """Return the output with our own call ids, and the calls in the output.

    Our own ids are needed because providers reuse ids or leave them out. Unusable arguments are replaced by an object
    whose only key names the problem. The tool rejects this object, and the model gets the reason.
    """
    renamed: list[ResponseOutputItem] = []
    calls: list[Dumped] = []
    for item in output:
        if isinstance(item, ResponseFunctionToolCall):
            if len(calls) == MOST_CALLS:
                continue
            arguments = _arguments(item.arguments)
            call_id = f"{prefix}-{len(calls) + 1}"
            # The name is sent back to the provider later, and an invalid name would make the provider reject the whole
            # conversation.
            name = re.sub(r"[^A-Za-z0-9_-]", "_", item.name)[:64] or "unknown"
            calls.append({"call_id": call_id, "name": name, "arguments": arguments})
            update = {"call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
            renamed.append(item.model_copy(update=update))
        elif isinstance(item, ResponseOutputMessage):
            # The SDK crashes on a refusal, so a refusal is turned into text. To the user, it is an answer like any
            # other.
            said = [ResponseOutputText(text=text, annotations=[], type="output_text") for text in _texts([item])]
            renamed.append(item.model_copy(update={"content": said}))
        else:
            renamed.append(item)
    return renamed, calls


def _arguments(text: str) -> Dumped:
    try:
        # Reject infinity and NaN: JSON does not have them, and the database would reject them.
        parsed = json.loads(text or "{}", parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or not _is_flat(parsed, DEEPEST_ARGUMENTS):
        return {"arguments_were_not_a_json_object": True}
    return parsed if storable_json(parsed) == parsed else {"arguments_had_control_characters": True}


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _is_flat(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(item, levels - 1) for item in inside)


def _in_plain_text(items: str | list[TResponseInputItem]) -> list[TResponseInputItem]:
    """Return the input with each tool output as text.

    The SDK makes each output a list of parts, which many servers reject.
    """
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    plain: list[TResponseInputItem] = []
    for item in items:
        told: Any = item
        if told.get("type") == "function_call_output" and not isinstance(told["output"], str):
            told = {**told, "output": "".join(part.get("text", "") for part in told["output"])}
        plain.append(told)
    return plain


def _outputs(items: list[TResponseInputItem]) -> dict[str, str]:
    told: list[Any] = [item for item in items if item.get("type") == "function_call_output"]
    return {item["call_id"]: item["output"] for item in told}
