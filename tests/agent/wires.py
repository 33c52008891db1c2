"""What providers send, each in its own format, as the body of an answer with status 200."""

import json
import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from bench.scripted_model import Wire

Sent = dict[str, Any]

PAY = {"title": "Pay"}
DONE = "data: [DONE]\n\n"
JSON = "application/json"
COUNTED = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
OPENAI_CALL = {
    "index": 0,
    "id": "a",
    "type": "function",
    "function": {"name": "add_task", "arguments": json.dumps(PAY)},
}


def chunk(delta: Sent, reason: str | None = None) -> str:
    """Return a chunk of a stream in OpenAI's format."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return event({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def event(data: Sent) -> str:
    """Return one event of a stream."""
    return f"data: {json.dumps(data)}\n\n"


def openai_stream(reason: str | None, *deltas: Sent) -> Wire:
    """Return a stream in OpenAI's format."""
    return Wire("".join(map(chunk, deltas)) + (chunk({}, reason) if reason else "") + DONE)


def openai_whole(reason: str | None, message: Sent) -> Wire:
    """Return a whole response in OpenAI's format."""
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason}
    head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default"}
    return Wire(json.dumps({**head, "choices": [choice], "usage": COUNTED}), JSON)


def anthropic_stream(reason: str | None, *, text: str = "", call: bool = False) -> Wire:
    """Return a stream in Anthropic's format."""
    start: Sent = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "c", "stop_reason": None}
    sent: list[Sent] = [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 1, "output_tokens": 1}}}
    ]
    blocks: list[tuple[Sent, Sent]] = []
    if text:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": text}))
    if call:
        block = {"type": "tool_use", "id": "t", "name": "add_task", "input": {}}
        blocks.append((block, {"type": "input_json_delta", "partial_json": json.dumps(PAY)}))
    for index, (block, delta) in enumerate(blocks):
        sent += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    delta = {"stop_reason": reason, "stop_sequence": None}
    sent += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
    return Wire("".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in sent))


def anthropic_whole(reason: str, *blocks: Sent) -> Wire:
    """Return a whole response in Anthropic's format."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": reason, "usage": usage}
    return Wire(json.dumps({**head, "content": blocks}), JSON)


ANTHROPIC_CALL = {"type": "tool_use", "id": "t", "name": "add_task", "input": PAY}
GEMINI_CALL = {"functionCall": {"name": "add_task", "args": PAY}}


def candidate(parts: Sequence[Sent] | None, reason: str | None = None) -> Sent:
    """Return a candidate in Gemini's format; without parts it has no content at all."""
    content = {} if parts is None else {"content": {"role": "model", "parts": list(parts)}}
    return {**content, "index": 0, **({"finishReason": reason} if reason else {})}


def gemini_stream(*candidates: Sent | None) -> Wire:
    """Return a stream in Gemini's format; None stands for a chunk that has only the usage."""
    counted = {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}
    sent = [counted if one is None else {"candidates": [one]} for one in candidates]
    return Wire("".join(f"data: {json.dumps(one)}\r\n\r\n" for one in sent))


def gemini_whole(one: Sent) -> Wire:
    """Return a whole response in Gemini's format."""
    counted = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return Wire(json.dumps({"candidates": [one], "usageMetadata": counted}), JSON)


COHERE_CALL = {
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add_task", "arguments": json.dumps(PAY)}}]
}


def cohere_whole(reason: str, **message: Any) -> Wire:
    """Return a whole response in the format of Cohere's second version."""
    usage = {"tokens": {"input_tokens": 1, "output_tokens": 1}}
    said = {"role": "assistant", **message}
    return Wire(json.dumps({"id": "1", "finish_reason": reason, "message": said, "usage": usage}), JSON)


def cohere_v1_whole(reason: str, *, text: str = "", call: bool = False) -> Wire:
    """Return a whole response in the format of Cohere's first version."""
    made = {"tool_calls": [{"name": "add_task", "parameters": PAY}]} if call else {}
    counted = {"billed_units": {"input_tokens": 1, "output_tokens": 1}}
    return Wire(
        json.dumps({"generation_id": "1", "text": text, "finish_reason": reason, "meta": counted, **made}), JSON
    )


OLLAMA_CALL = {"tool_calls": [{"function": {"name": "add_task", "arguments": PAY}}]}
_OLLAMA = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}


def ollama_stream(reason: str | None, message: Sent) -> Wire:
    """Return a stream in the format of Ollama's chat API."""
    said: list[Sent] = [
        {**_OLLAMA, "message": {"role": "assistant", "content": "", **message}, "done": False},
        {**_OLLAMA, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason},
    ]
    return Wire("".join(json.dumps(one) + "\n" for one in said), "application/x-ndjson")


def ollama_whole(reason: str | None, message: Sent) -> Wire:
    """Return a whole response in the format of Ollama's chat API."""
    said = {"role": "assistant", "content": "", **message}
    return Wire(json.dumps({**_OLLAMA, "message": said, "done": True, "done_reason": reason}), JSON)


def ollama_text(reason: str, text: str) -> Wire:
    """Return a stream in the format of Ollama's older API, which has no chat."""
    said: list[Sent] = [
        {**_OLLAMA, "response": text, "done": False},
        {**_OLLAMA, "response": "", "done": True, "done_reason": reason},
    ]
    return Wire("".join(json.dumps(one) + "\n" for one in said), "application/x-ndjson")


CONVERSE_CALL = {"toolUse": {"toolUseId": "t", "name": "add_task", "input": PAY}}


def converse_stream(reason: str | None, *, text: str = "", call: bool = False, failing: str = "") -> Wire:
    """Return a stream in the format of Bedrock's Converse API.

    With None as reason, the last message is missing; with an empty reason, it has null. `failing` names an exception.
    """
    frames = [aws_frame("messageStart", {"role": "assistant"})]
    if text:
        frames.append(aws_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}))
        frames.append(aws_frame("contentBlockStop", {"contentBlockIndex": 0}))
    if call:
        block = {"toolUse": {"toolUseId": "t", "name": "add_task"}}
        delta = {"toolUse": {"input": json.dumps(PAY)}}
        frames.append(aws_frame("contentBlockStart", {"contentBlockIndex": 1, "start": block}))
        frames.append(aws_frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": delta}))
        frames.append(aws_frame("contentBlockStop", {"contentBlockIndex": 1}))
    if failing:
        frames.append(aws_frame(failing, {"message": "No."}, message="exception"))
    if reason is not None:
        frames.append(aws_frame("messageStop", {"stopReason": reason or None}))
    counted = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    frames.append(aws_frame("metadata", {"usage": counted, "metrics": {"latencyMs": 1}}))
    return Wire(b"".join(frames), AWS_EVENTS)


def converse_whole(reason: str, *blocks: Sent) -> Wire:
    """Return a whole response in the format of Bedrock's Converse API."""
    counted = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    said = {"message": {"role": "assistant", "content": blocks}}
    return Wire(json.dumps({"output": said, "stopReason": reason, "usage": counted, "metrics": {"latencyMs": 1}}), JSON)


def invoked(wire: Wire) -> Wire:
    """Return a stream of server-sent events in the format of Bedrock's older API, with each event in a frame."""
    assert isinstance(wire.body, str)
    sent = [line.removeprefix("data: ") for line in wire.body.splitlines() if line.startswith("data: {")]
    frames = [aws_frame("chunk", {"bytes": b64encode(one.encode()).decode()}) for one in sent]
    return Wire(b"".join(frames), AWS_EVENTS)


def cut_short(wire: Wire, size: int) -> Wire:
    """Return the beginning of an AWS stream."""
    assert isinstance(wire.body, bytes)
    assert size < len(wire.body)
    return Wire(wire.body[:size], wire.kind)


AWS_EVENTS = "application/vnd.amazon.eventstream"


def aws_frame(kind: str, data: Sent, *, message: str = "event") -> bytes:
    """Return one message of an AWS event stream.

    It consists of lengths, their checksum, headers, payload, and the checksum of everything before.
    """
    named = {":message-type": message, f":{message}-type": kind, ":content-type": JSON}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", crc32(whole))


RESPONSES_TEXT = {
    "type": "message",
    "id": "m",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Half", "annotations": []}],
}
RESPONSES_CALL = {
    "type": "function_call",
    "id": "f",
    "call_id": "c",
    "name": "add_task",
    "arguments": json.dumps(PAY),
    "status": "completed",
}


def responses_stream(last: str | None, status: str, item: Sent, reason: str | None = None) -> Wire:
    """Return a stream in the format of OpenAI's Responses API, whose last event is `last`."""
    place = {"item_id": item["id"], "output_index": 0}
    empty: Sent = {"content": []} if "content" in item else {"arguments": ""}
    begun = {**item, **empty}
    delta = (
        {"type": "response.output_text.delta", "content_index": 0, "delta": "Half", "logprobs": [], **place}
        if "content" in item
        else {"type": "response.function_call_arguments.delta", "delta": item["arguments"], **place}
    )
    sent: list[Sent] = [
        {"type": "response.created", "response": {**_response("in_progress"), "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        delta,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    if last:
        sent.append({"type": last, "response": {**_response(status, reason), "output": [item]}})
    return Wire("".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in sent))


def responses_whole(status: str, item: Sent, reason: str | None = None) -> Wire:
    """Return a whole response in the format of OpenAI's Responses API."""
    return Wire(json.dumps({**_response(status, reason), "output": [item]}), JSON)


def _response(status: str, reason: str | None = None) -> Sent:
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }
