"""The conversation in the form that the rules read: each user message with the tool calls that followed the message."""

import json
from typing import Any

from backend.agent.offline import patterns as said
from backend.agent.offline.plan import Result
from backend.mcp_server.server import QUOTED

Made = tuple[int, Result]
"""The position of a call in the conversation, and the call's result."""
Turn = tuple[str, dict[str, list[Made]]]
"""A user's message, and the calls that followed it, by the keys that `key_of` returns."""


def turns_of(items: list[Any]) -> list[Turn]:
    """Return each user message with the results of the calls that followed the message."""
    turns: list[Turn] = [("", {})]
    calls: dict[str, tuple[list[Made], int]] = {}
    for place, item in enumerate(items):
        kind, call = item.get("type"), str(item.get("call_id"))
        if item.get("role") == "user":
            turns.append((_text(item.get("content")), {}))
        elif kind == "function_call":
            made = turns[-1][1].setdefault(key_of(item.get("name"), _data(str(item.get("arguments")))), [])
            calls[call] = made, len(made)
            made.append((place, "The tool gave no answer."))
        elif kind == "function_call_output" and call in calls:
            made, nth = calls[call]
            made[nth] = made[nth][0], _data(_text(item.get("output")))
    return turns


def key_of(name: object, arguments: object) -> str:
    """Return a key for a call. Calls of the same tool with the same arguments have the same key."""
    return f"{name} {json.dumps(arguments, sort_keys=True)}"


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    return " ".join(str((part.get("text") if isinstance(part, dict) else part) or "") for part in parts)


def _data(text: str) -> Result:
    """Parse a tool's output.

    If it is not a JSON object, it is an error message, of which the first line is returned.
    """
    try:
        data = json.loads(text.removeprefix(QUOTED))
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        return data
    # The lines after the first are a hint for models.
    return said.on_one_line(text.strip().partition("\n")[0])[:500] or "The tool gave no answer."
