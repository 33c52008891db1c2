"""What a run works on: the conversation so far, in the Responses API's items, bounded and whole."""

import json
from typing import Any

from backend.conversations.models import Message

Item = dict[str, Any]


def items_of(messages: list[Message], *, most_characters: int) -> list[Item]:
    """Return the items of a conversation, oldest first, ending with the user's new message.

    Whole messages are left out from the oldest on until the rest has at most `most_characters` characters; the last
    stays in any case. Every call stands before its own output, whatever became of its run: a provider refuses a
    history in which one is missing.
    """
    kept: list[list[Item]] = []
    room = most_characters
    for message in reversed(messages):
        items = _items(message)
        room -= sum(len(json.dumps(item, ensure_ascii=False)) for item in items)
        if kept and room < 0:
            break
        kept.append(items)
    while len(kept) > 1 and kept[-1][0].get("role") != "user":
        kept.pop()
    return [item for items in reversed(kept) for item in items]


def _items(message: Message) -> list[Item]:
    if message.role == "user":
        return [{"role": "user", "content": message.content}]
    items: list[Item] = [
        {
            "type": "function_call",
            "call_id": call["call_id"],
            "name": call.get("name") or "unknown",
            "arguments": json.dumps(call.get("arguments") or {}, ensure_ascii=False),
        }
        for call in message.tool_calls
    ]
    for call in message.tool_calls:
        result = call.get("result") or {}
        output = result.get("error", result) if call.get("is_error") else result
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, separators=(",", ":"))
        items.append({"type": "function_call_output", "call_id": call["call_id"], "output": text})
    if message.content:
        items.append({"role": "assistant", "content": message.content})
    return items
