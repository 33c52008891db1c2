"""How a response ended, as its provider says it. LiteLLM loses that in many places; the known ones are mended here.

LiteLLM takes an error, a word that it does not know, the line `[DONE]` and, for some providers, no word at all for
`stop`; and for some a response with a call ends in `tool_calls` whatever they say. So half a response would pass for a
whole one.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from litellm.litellm_core_utils import core_helpers
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicIterator
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.cohere.chat.transformation import CohereChatConfig
from litellm.llms.cohere.chat.v2_transformation import CohereV2ChatConfig
from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator, OllamaChatConfig
from litellm.llms.ollama.completion.transformation import OllamaConfig, OllamaTextCompletionResponseIterator
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator as GeminiIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig

from backend.agent.errors import ErrorInStream

Cut = Literal["length", "content_filter"]
Ending = Literal["whole", "broken"] | Cut

_BROKEN = "finish_reason_unspecified"
"""Stands for every reason that ends no whole response; LiteLLM's types allow this word."""
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})
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
"""What OpenAI, Gemini, Anthropic, Cohere, Together, Hugging Face and Bedrock's older models call a `stop`."""
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
    "length": "(The answer was cut off here: the model reached its limit of length.)",
    "content_filter": "(The answer was cut off here: the provider did not let the model go on.)",
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


def worst(reasons: Iterable[str | None]) -> Ending:
    """Return how a response ended that gave these reasons, one after another; none at all is a broken one."""
    endings = {ending(reason) for reason in reasons}
    order: tuple[Ending, ...] = ("broken", "length", "content_filter", "whole")
    return next((how for how in order if how in endings), "broken")


def mark(text: str, how: Cut) -> str:
    """Return what is to follow the text of an answer that ended like this, so that nobody takes it for whole."""
    indent = fence = ""
    for before, ticks, after in _FENCE.findall(text):
        if fence:
            closes = ticks.startswith(fence) and not after.strip()
            fence = "" if closes else fence
        elif ticks[0] == "~" or "`" not in after:
            indent, fence = before, ticks
    # Within a block of code the sentence would pass for code.
    return f"\n{indent}{fence}\n\n{_MARKS[how]}" if fence else f"\n\n{_MARKS[how]}"


class _Reasons(dict[str, Any]):
    """LiteLLM's table of reasons, in which what it does not know is no `stop`."""

    def get(self, reason: str, default: Any = _BROKEN) -> Any:
        # Where no reason is given at all: whether a stream may end like that is decided where it is read.
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


def _mend_streams() -> None:
    """Take neither the line `[DONE]` nor an error for a `stop`, in the forms that are read like OpenAI's."""
    theirs = BaseModelResponseIterator._handle_string_chunk

    def read(self: BaseModelResponseIterator, str_line: str) -> Any:
        if "[DONE]" not in str_line and '"error"' not in str_line:
            return theirs(self, str_line)
        sent = BaseModelResponseIterator._string_to_dict_parser(str_line)
        if sent and (sent.get("error") or sent.get("object") == "error"):
            raise ErrorInStream(sent)
        return self.chunk_parser(chunk=sent) if sent else theirs(self, "")

    BaseModelResponseIterator._handle_string_chunk = read  # type: ignore[method-assign]


def _mend_anthropic() -> None:
    theirs = AnthropicIterator._handle_message_delta

    def read(self: AnthropicIterator, chunk: dict[str, Any]) -> Any:
        reason, *rest = theirs(self, chunk)
        return (reason if chunk["delta"].get("stop_reason") else "", *rest)

    AnthropicIterator._handle_message_delta = read  # type: ignore[method-assign]


def _mend_gemini() -> None:
    theirs = VertexGeminiConfig._check_finish_reason

    def reason_of(message: Any, received: str | None) -> Any:
        if not received:
            return None
        mapped = core_helpers.map_finish_reason(received)
        return theirs(message, received) if mapped in _WHOLE else mapped

    VertexGeminiConfig._check_finish_reason = staticmethod(reason_of)  # type: ignore[method-assign,assignment]
    parse = GeminiIterator.chunk_parser

    def chunk_parser(self: GeminiIterator, chunk: dict[str, Any]) -> Any:
        made = parse(self, chunk)
        if made is not None:
            # With this no chunk ends the stream, and what comes after the last reason hides it.
            made.hidden_params.pop("is_finished", None)
        return made

    GeminiIterator.chunk_parser = chunk_parser  # type: ignore[method-assign]


def _mend_ollama_and_cohere() -> None:
    def keeping(parse: Callable[..., Any]) -> Callable[..., Any]:
        def chunk_parser(self: Any, chunk: dict[str, Any]) -> Any:
            made = parse(self, chunk)
            if chunk.get("done"):
                _set_reason(made, chunk.get("done_reason"))
            return made

        return chunk_parser

    def keeping_whole(transform: Callable[..., Any], name: str) -> Callable[..., Any]:
        def transform_response(self: Any, model: str, raw_response: Any, *rest: Any, **more: Any) -> Any:
            made = transform(self, model, raw_response, *rest, **more)
            _set_reason(made, raw_response.json().get(name))
            return made

        return transform_response

    for iterator in (OllamaChatCompletionResponseIterator, OllamaTextCompletionResponseIterator):
        iterator.chunk_parser = keeping(iterator.chunk_parser)  # type: ignore[method-assign]
    for config, name in (
        (OllamaChatConfig, "done_reason"),
        (OllamaConfig, "done_reason"),
        (CohereChatConfig, "finish_reason"),
        (CohereV2ChatConfig, "finish_reason"),
    ):
        config.transform_response = keeping_whole(config.transform_response, name)  # type: ignore[method-assign]


def _set_reason(made: Any, received: str | None) -> None:
    mapped = core_helpers.map_finish_reason(received or "stop")
    if mapped in _WHOLE:
        return
    if isinstance(made, dict):
        made["finish_reason"] = mapped
    else:
        made.choices[0].finish_reason = mapped


for _mend in (
    _mend_the_table,
    _mend_openai,
    _mend_streams,
    _mend_anthropic,
    _mend_gemini,
    _mend_ollama_and_cohere,
):
    _mend()
