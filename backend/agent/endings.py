"""How a response ended, as its provider says it. LiteLLM loses that in some places, which are mended here.

LiteLLM takes an error, a word that it does not know and, for some providers, no word at all for `stop`; and for some
providers a response with a call ends in `tool_calls` whatever they say. Half a response would pass for a whole one.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

from litellm.litellm_core_utils import core_helpers
from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator, OllamaChatConfig
from litellm.llms.ollama.completion.transformation import OllamaConfig, OllamaTextCompletionResponseIterator
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig

Cut = Literal["length", "content_filter"]
Ending = Literal["whole", "broken"] | Cut

_BROKEN = "finish_reason_unspecified"
"""A word that LiteLLM's types know, for all that no response is whole with."""
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})
_STOPS = frozenset({"stop", "STOP", "end_turn", "stop_sequence", "STOP_SEQUENCE", "COMPLETE", "eos", "eos_token"})
"""What OpenAI, Gemini, Anthropic and Bedrock, Cohere, Hugging Face and Together call a `stop`."""
_MORE = {
    "TOOL_CALL": "tool_calls",  # Cohere
    "model_context_window_exceeded": "length",  # Anthropic
    "model_length": "length",  # Mistral
    "max_output_tokens": "length",  # OpenAI's Responses API
}
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_MARKS = {
    "length": "(The answer was cut off here: the model reached its limit of length.)",
    "content_filter": "(The answer was cut off here by the provider's content filter.)",
}


def ending(reason: str | None) -> Ending:
    """Return how a response ended that gives this reason, in the words of any provider."""
    match core_helpers.map_finish_reason(reason or _BROKEN):
        case "stop" | "tool_calls" | "function_call":
            return "whole"
        case "length" | "content_filter" as how:
            return how
        case _:
            return "broken"


def mark(text: str, how: Cut) -> str:
    """Return what is to follow the text of an answer that ended like this, so that nobody takes it for whole."""
    fence = ""
    for found in _FENCE.finditer(text):
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence):
            fence = ""
    # Within a block of code the sentence would pass for code.
    return f"\n{fence}\n\n{_MARKS[how]}" if fence else f"\n\n{_MARKS[how]}"


class _Reasons(dict[str, Any]):
    """LiteLLM's table of reasons, in which what it does not know is no `stop`."""

    def get(self, reason: str, default: Any = _BROKEN) -> Any:
        # A whole body without a word has its length to tell that it is whole.
        return super().get(reason, default) if reason else "stop"


def _mend_the_table() -> None:
    kept = {word: mapped for word, mapped in core_helpers._FINISH_REASON_MAP.items() if mapped != "stop"}
    core_helpers._FINISH_REASON_MAP = _Reasons(kept | dict.fromkeys(_STOPS, "stop") | _MORE)  # type: ignore[misc]


def _mend_openai() -> None:
    theirs = OpenAIGPTConfig._get_finish_reason

    def reason_of(self: OpenAIGPTConfig, message: Any, received: str) -> str:
        mapped = core_helpers.map_finish_reason(received)
        return theirs(self, message, received) if mapped in _WHOLE else mapped

    OpenAIGPTConfig._get_finish_reason = reason_of  # type: ignore[method-assign,assignment]


def _mend_gemini() -> None:
    theirs = VertexGeminiConfig._check_finish_reason

    def reason_of(message: Any, received: str | None) -> Any:
        if not received:
            return None
        mapped = core_helpers.map_finish_reason(received)
        return theirs(message, received) if mapped in _WHOLE else mapped

    VertexGeminiConfig._check_finish_reason = staticmethod(reason_of)  # type: ignore[method-assign,assignment]


def _mend_ollama() -> None:
    def keeping(parse: Callable[..., Any]) -> Callable[..., Any]:
        def chunk_parser(self: Any, chunk: dict[str, Any]) -> Any:
            made = parse(self, chunk)
            if chunk.get("done"):
                _set_reason(made, chunk.get("done_reason"))
            return made

        return chunk_parser

    def keeping_whole(transform: Callable[..., Any]) -> Callable[..., Any]:
        def transform_response(self: Any, model: str, raw_response: Any, *rest: Any, **more: Any) -> Any:
            made = transform(self, model, raw_response, *rest, **more)
            _set_reason(made, raw_response.json().get("done_reason"))
            return made

        return transform_response

    for iterator in (OllamaChatCompletionResponseIterator, OllamaTextCompletionResponseIterator):
        iterator.chunk_parser = keeping(iterator.chunk_parser)  # type: ignore[method-assign]
    for config in (OllamaChatConfig, OllamaConfig):
        config.transform_response = keeping_whole(config.transform_response)  # type: ignore[method-assign]


def _set_reason(made: Any, received: str | None) -> None:
    mapped = core_helpers.map_finish_reason(received or "stop")
    if mapped in _WHOLE:
        return
    if isinstance(made, dict):
        made["finish_reason"] = mapped
    else:
        made.choices[0].finish_reason = mapped


for _mend in (_mend_the_table, _mend_openai, _mend_gemini, _mend_ollama):
    _mend()
