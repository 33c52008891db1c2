"""How a response ended: the meaning of each provider's reason, and the mark for a text that was cut off."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from litellm.litellm_core_utils import core_helpers

Cut = Literal["length", "content_filter"]
Ending = Literal["whole", "broken"] | Cut

BROKEN = "finish_reason_unspecified"
"""The reason that we use if a response failed, or if its reason is missing or unknown. LiteLLM's types allow this word.
"""
WHOLE = frozenset({"stop", "tool_calls", "function_call"})
"""LiteLLM's reasons that mean a complete response."""
_STOPS = frozenset(
    {
        "stop",
        "STOP",
        "end_turn",
        "stop_sequence",
        "STOP_SEQUENCE",
        "COMPLETE",
        "eos",
        "eos_token",
        "FINISH",
        "endoftext",
    }
)
"""The words with which OpenAI, Gemini, Anthropic, Cohere, Together, Hugging Face and Bedrock's older models report
`stop`."""
_MORE = {
    "TOOL_CALL": "tool_calls",  # Cohere
    "model_context_window_exceeded": "length",  # Anthropic
    "model_length": "length",  # Mistral
    "max_length": "length",
    "max_new_tokens": "length",
    "token_limit": "length",
    "max_output_tokens": "length",  # OpenAI's Responses API
}
_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})(.*)$", re.MULTILINE)
_MARKS = {
    "length": "(The answer was cut off here: the model reached its length limit.)",
    "content_filter": "(The answer was cut off here: the provider's content filter stopped the model.)",
}


class _Reasons(dict[str, Any]):
    """LiteLLM's table of reasons, changed so that an unknown reason does not count as `stop`."""

    def get(self, reason: str, default: Any = BROKEN) -> Any:
        # A missing reason stays `stop` here. The code that reads a stream decides whether a reason may be missing
        # there.
        return super().get(reason, default) if reason else "stop"


_KEPT = {word: mapped for word, mapped in core_helpers._FINISH_REASON_MAP.items() if mapped != "stop"}
core_helpers._FINISH_REASON_MAP = _Reasons(_KEPT | dict.fromkeys(_STOPS, "stop") | _MORE)  # type: ignore[misc]


def ending(reason: str | None) -> Ending:
    """Return how a response ended, from the reason in any provider's words."""
    match core_helpers.map_finish_reason(reason or BROKEN):
        case "stop" | "tool_calls" | "function_call":
            return "whole"
        case "length" | "content_filter" as how:
            return how
        case _:
            return "broken"


def worst(reasons: Iterable[str | None]) -> Ending:
    """Return the worst ending among a response's reasons. A response without a reason is broken."""
    endings = {ending(reason) for reason in reasons}
    order: tuple[Ending, ...] = ("broken", "length", "content_filter", "whole")
    return next((how for how in order if how in endings), "broken")


def mark(text: str, how: Cut) -> str:
    """Return the text to append to a cut-off answer, so that readers see that the answer is incomplete."""
    indent = fence = ""
    for before, ticks, after in _FENCE.findall(text):
        if fence:
            closes = ticks.startswith(fence) and not after.strip()
            fence = "" if closes else fence
        elif ticks[0] == "~" or "`" not in after:
            indent, fence = before, ticks
    # An open code block is closed first, so that the appended sentence does not look like code.
    return f"\n{indent}{fence}\n\n{_MARKS[how]}" if fence else f"\n\n{_MARKS[how]}"
