"""A run's input: the conversation as Responses API items, within a size limit and valid for every provider."""

import json
import re
from collections.abc import Collection
from itertools import groupby
from typing import Any

from backend.conversations.models import Message
from backend.errors import for_models

Item = dict[str, Any]

UNANSWERED = "(This message got no answer.)"
"""The placeholder for a failed run's answer. Many servers require that user and assistant messages alternate."""

LEFT_OUT = "The text of documents is left out of earlier turns. Search or read them again before you quote them."
_OURS = re.compile(r"[a-z_]{1,40}")


def items_of(messages: list[Message], *, most_characters: int, quoting: Collection[str] = ()) -> list[Item]:
    """Return a conversation's items, oldest first, ending with the user's new message.

    Results from the tools in `quoting` contain document text. Only their numbers are included, so that the text neither
    costs tokens again nor influences the model again.

    Whole messages are dropped, oldest first, until the rest has at most `most_characters` characters. The last message
    always stays. Providers reject incomplete histories, so every call comes before its output. Every user message
    except the last has an answer, even if its run failed.
    """
    kept: list[list[Item]] = []
    room = most_characters
    for message in reversed(messages):
        if not (items := _items(message, quoting)):
            continue
        room -= sum(len(json.dumps(item, ensure_ascii=False)) for item in items)
        if kept and room < 0:
            break
        kept.append(items)
    while len(kept) > 1 and kept[-1][0].get("role") != "user":
        kept.pop()
    items = []
    for said in reversed(kept):
        if items and said[0].get("role") == "user" and items[-1].get("role") != "assistant":
            items.append({"role": "assistant", "content": UNANSWERED})
        items += said
    return items


def _items(message: Message, quoting: Collection[str]) -> list[Item]:
    if message.role == "user":
        return [{"role": "user", "content": message.content}]
    items: list[Item] = []
    # Each response's calls are followed by their outputs. If all calls came first, they would look parallel, and the
    # model would start to guess task numbers.
    for _, calls in groupby(message.tool_calls, key=lambda call: call["call_id"].rpartition("-")[0]):
        response = list(calls)
        items += [_call(call) for call in response]
        items += [_output(call, quoting) for call in response]
    if message.content:
        items.append({"role": "assistant", "content": message.content})
    return items


def _call(call: dict[str, Any]) -> Item:
    return {
        "type": "function_call",
        "call_id": call["call_id"],
        "name": call.get("name") or "unknown",
        "arguments": json.dumps(call.get("arguments") or {}, ensure_ascii=False),
    }


def _output(call: dict[str, Any], quoting: Collection[str]) -> Item:
    result = call.get("result") or {}
    if call.get("name") in quoting and not call.get("is_error"):
        result = {"text_left_out": LEFT_OUT, **_numbers_in(result)}
    output = for_models(result) if call.get("is_error") else result
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, separators=(",", ":"))
    return {"type": "function_call_output", "call_id": call["call_id"], "output": text}


def _numbers_in(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without its texts and scores.

    Reasons and statuses stay, because they are single words of our own.
    """

    def kept(name: str, value: Any) -> Any:
        match value:
            case dict():
                return {key: inner for key, item in value.items() if (inner := kept(key, item)) is not None}
            case list():
                return [inner for item in value if (inner := kept("", item)) is not None]
            case str():
                return value if name in ("reason", "status") and _OURS.fullmatch(value) else None
            case float():
                return None
            case _:
                return value

    numbers: dict[str, Any] = kept("", result)
    return numbers
