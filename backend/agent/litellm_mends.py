"""Patches for LiteLLM, which in some places loses how a response ended.

LiteLLM reports `stop` for an error and for the line `[DONE]`. With some providers, it also reports `stop` if the
provider gave no reason. With others, it reports `tool_calls` for every response that has a call. Without patches, a
cut-off response would therefore look complete. The models of a provider are refused if the provider is neither patched
here nor read in the same way as OpenAI: see `choice.reports_endings`.
"""

from collections.abc import Callable
from typing import Any

from litellm.completion_extras.litellm_responses_transformation.transformation import (
    LiteLLMResponsesTransformationHandler,
    OpenAiResponsesToChatCompletionStreamIterator,
)
from litellm.litellm_core_utils import core_helpers
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicIterator
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.bedrock.chat.converse_transformation import AmazonConverseConfig
from litellm.llms.bedrock.chat.invoke_handler import AWSEventStreamDecoder
from litellm.llms.cohere.chat.transformation import CohereChatConfig
from litellm.llms.cohere.chat.v2_transformation import CohereV2ChatConfig
from litellm.llms.databricks.streaming_utils import ModelResponseIterator as OpenAILikeIterator
from litellm.llms.ollama.chat.transformation import OllamaChatCompletionResponseIterator, OllamaChatConfig
from litellm.llms.ollama.completion.transformation import OllamaConfig, OllamaTextCompletionResponseIterator
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator as GeminiIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig

from backend.agent.endings import BROKEN, WHOLE
from backend.agent.errors import ErrorInStream


def mend_litellm() -> None:
    """Apply all patches. Call this once in a process."""
    _mend_openai()
    _mend_streams()
    _mend_responses()
    _mend_anthropic()
    _mend_bedrock()
    _mend_gemini()
    _mend_ollama_and_cohere()


def _mend_openai() -> None:
    theirs = OpenAIGPTConfig._get_finish_reason

    def reason_of(self: OpenAIGPTConfig, message: Any, received: str) -> str:
        mapped = core_helpers.map_finish_reason(received)
        return theirs(self, message, received) if mapped in WHOLE else mapped

    OpenAIGPTConfig._get_finish_reason = reason_of  # type: ignore[method-assign,assignment]


def _mend_streams() -> None:
    """Prevent the line `[DONE]` and errors from counting as `stop`, for providers that LiteLLM reads like OpenAI."""
    theirs = BaseModelResponseIterator._handle_string_chunk

    def read(self: BaseModelResponseIterator, str_line: str) -> Any:
        if "[DONE]" not in str_line and '"error"' not in str_line:
            return theirs(self, str_line)
        sent = BaseModelResponseIterator._string_to_dict_parser(str_line)
        if not sent:
            return theirs(self, "")
        _refuse_errors(sent)
        return self.chunk_parser(chunk=sent)

    BaseModelResponseIterator._handle_string_chunk = read  # type: ignore[method-assign]
    # LiteLLM reads watsonx with a class of its own.
    parse = OpenAILikeIterator.chunk_parser

    def chunk_parser(self: OpenAILikeIterator, chunk: dict[str, Any]) -> Any:
        _refuse_errors(chunk)
        return parse(self, chunk)

    OpenAILikeIterator.chunk_parser = chunk_parser  # type: ignore[method-assign]


def _refuse_errors(sent: dict[str, Any]) -> None:
    if sent.get("error") or sent.get("object") == "error":
        raise ErrorInStream(sent)


def _mend_responses() -> None:
    """Patch how LiteLLM reads OpenAI's Responses API. LiteLLM uses it, not chat completions, for newer models."""
    transform = LiteLLMResponsesTransformationHandler.transform_response
    parse = OpenAiResponsesToChatCompletionStreamIterator.chunk_parser

    def transform_response(self: Any, model: str, raw_response: Any, *rest: Any, **more: Any) -> Any:
        made: Any = transform(self, model, raw_response, *rest, **more)
        if raw_response.status not in (None, "completed", "incomplete"):
            made.choices[0].finish_reason = BROKEN
        return made

    def chunk_parser(self: Any, chunk: dict[str, Any]) -> Any:
        status = (chunk.get("response") or {}).get("status")
        if chunk.get("type") != "response.completed" or status in (None, "completed"):
            return parse(self, chunk)
        # The event's type says only that the response has ended; its status says how.
        made: Any = parse(self, {**chunk, "type": "response.incomplete"})
        if status != "incomplete":
            made.choices[0].finish_reason = BROKEN
        return made

    LiteLLMResponsesTransformationHandler.transform_response = transform_response  # type: ignore[method-assign]
    OpenAiResponsesToChatCompletionStreamIterator.chunk_parser = chunk_parser  # type: ignore[method-assign]


def _mend_anthropic() -> None:
    theirs = AnthropicIterator._handle_message_delta

    def read(self: AnthropicIterator, chunk: dict[str, Any]) -> Any:
        reason, *rest = theirs(self, chunk)
        return (reason if chunk["delta"].get("stop_reason") else "", *rest)

    AnthropicIterator._handle_message_delta = read  # type: ignore[method-assign]


def _mend_bedrock() -> None:
    theirs = AmazonConverseConfig.apply_tool_call_transformation_if_needed

    def call_in(self: AmazonConverseConfig, message: Any, tools: Any = None, initial_finish_reason: Any = None) -> Any:
        # LiteLLM would turn text that looks like a call into a call, and would then report `tool_calls` as the reason.
        return theirs(self, message, tools if initial_finish_reason in WHOLE else None, initial_finish_reason)

    AmazonConverseConfig.apply_tool_call_transformation_if_needed = call_in  # type: ignore[method-assign]
    parse = AWSEventStreamDecoder.converse_chunk_parser

    def chunk_parser(self: AWSEventStreamDecoder, chunk_data: dict[str, Any]) -> Any:
        return parse(self, {name: said for name, said in chunk_data.items() if name != "stopReason" or said})

    AWSEventStreamDecoder.converse_chunk_parser = chunk_parser  # type: ignore[method-assign]


def _mend_gemini() -> None:
    theirs = VertexGeminiConfig._check_finish_reason

    def reason_of(message: Any, received: str | None) -> Any:
        if not received:
            return None
        mapped = core_helpers.map_finish_reason(received)
        return theirs(message, received) if mapped in WHOLE else mapped

    VertexGeminiConfig._check_finish_reason = staticmethod(reason_of)  # type: ignore[method-assign,assignment]
    parse = GeminiIterator.chunk_parser

    def chunk_parser(self: GeminiIterator, chunk: dict[str, Any]) -> Any:
        made = parse(self, chunk)
        if made is not None:
            # While this flag is set, LiteLLM treats no chunk as the end of the stream, and later chunks hide the
            # reason.
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

    for streamed in (CohereChatConfig, CohereV2ChatConfig):
        # LiteLLM cannot read Cohere's streams, so it must request the whole response and pass it on in one piece.
        streamed.should_fake_stream = lambda *_args, **_more: True  # type: ignore[method-assign]
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
    if mapped in WHOLE:
        return
    if isinstance(made, dict):
        made["finish_reason"] = mapped
    else:
        made.choices[0].finish_reason = mapped
