"""The SDK's model interface for `respond`, whose rules take the place of a language model."""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from agents.items import ModelResponse, TResponseOutputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.tool import Tool
from agents.usage import Usage
from anyio.to_thread import run_sync
from openai.types import responses as wire

from backend.agent.choice import OFFLINE_NAME
from backend.agent.offline.mind import respond


class OfflineModel(Model):
    """A model for the SDK that answers by the rules in `respond`. It uses no tokens."""

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: list[Tool], *_: Any, **__: Any
    ) -> ModelResponse:
        """Return the answer, or the tool calls to make first."""
        answer, output = await run_sync(respond, input, {tool.name for tool in tools}), list[TResponseOutputItem]()
        if isinstance(answer, str):
            text = wire.ResponseOutputText(text=answer, type="output_text", annotations=[])
            item = {"id": uuid4().hex, "role": "assistant", "status": "completed", "type": "message"}
            output.append(wire.ResponseOutputMessage.model_validate(item | {"content": [text]}))
        for name, arguments in answer if isinstance(answer, list) else []:
            item = {"call_id": uuid4().hex, "type": "function_call", "name": name, "arguments": json.dumps(arguments)}
            output.append(wire.ResponseFunctionToolCall.model_validate(item))
        return ModelResponse(output=output, usage=Usage(requests=1), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Yield the events of the response that `get_response` would return. The answer comes word by word."""
        output = (await self.get_response(*args, **kwargs)).output
        shape = {
            "id": uuid4().hex,
            "created_at": time.time(),
            "model": OFFLINE_NAME,
            "object": "response",
            "output": [],
        }
        shape |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
        response = wire.Response.model_validate(shape)
        yield wire.ResponseCreatedEvent(response=response, type="response.created", sequence_number=0)
        number = 0
        for item in output:
            for part in item.content if isinstance(item, wire.ResponseOutputMessage) else []:
                for number, delta in enumerate(re.findall(r"\s*\S+", getattr(part, "text", "")), 1):
                    event = {"content_index": 0, "delta": delta, "item_id": item.id, "logprobs": [], "output_index": 0}
                    event |= {"type": "response.output_text.delta", "sequence_number": number}
                    yield wire.ResponseTextDeltaEvent.model_validate(event)
        usage: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
        usage["output_tokens_details"] = {"reasoning_tokens": 0}
        done = response.model_copy(update={"output": output, "usage": wire.ResponseUsage.model_validate(usage)})
        yield wire.ResponseCompletedEvent(response=done, type="response.completed", sequence_number=number + 1)
