"""What a provider's or its library's error means: which of our errors it becomes, and whether to ask again."""

import math
from collections.abc import Sequence
from typing import Any

import litellm
import openai
from litellm.exceptions import ContextWindowExceededError
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers

from backend.agent.errors import (
    BrokeOff,
    CutOff,
    ModelAuthFailed,
    ModelCut,
    ModelFailed,
    ModelMisconfigured,
    ModelTimeout,
    ModelUnavailable,
    ProviderFailed,
    causes_of,
)

# By name: which library of HTTP lies below is the concern of the provider's own.
_ADDRESSES = frozenset({"InvalidURL", "UnsupportedProtocol", "LocalProtocolError"})
_ANSWERS = frozenset({"BrokeOff", "HTTPStatusError"})
_KEYS = frozenset({"invalid_api_key", "invalid_key", "authentication_error", "permission_denied"})
_CUT = (
    "Your last response reached the limit of length before it was complete, so none of its calls was made. "
    "Send it again, shorter: one call, with no more than it needs."
)


class ErrorInStream(Exception):
    """An error that stands in a stream where a piece of the answer is to be; `body` is what it says."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("message", "")))
        self.body = body


def failure_of(error: Exception, model: str, *, has_key: bool) -> ProviderFailed:
    """Return what an error means that came out of the provider's library while `model` was asked.

    Nothing of the error's words is in it; they may quote a key or a message.
    """
    if isinstance(error, CutOff):
        return _cut(error, model)
    causes = list(causes_of(error))
    if any(isinstance(cause, openai.APITimeoutError | TimeoutError) for cause in causes):
        return ProviderFailed(ModelTimeout(model))
    status = _status(causes)
    if status in (None, 400, 413, 422) and any(_says_too_long(cause) for cause in causes):
        return ProviderFailed(
            ModelFailed(f"This conversation is too long for the model {model}. Start a new one; this one is kept.")
        )
    if _is_misconfigured(causes, model, has_key=has_key):
        return ProviderFailed(ModelMisconfigured(model))
    if status in (401, 403):
        return ProviderFailed(ModelAuthFailed(model))
    if status is None or status == 429 or status >= 500:
        wait = _asked_to_wait(error)
        return ProviderFailed(ModelUnavailable(model, retry_after=math.ceil(wait or 10)), again=True, wait=wait)
    return ProviderFailed(
        ModelFailed(
            f"The provider of the model {model} refused the request (HTTP {status}). Whoever runs this service has to "
            "check MODEL and the provider's settings. Your message is kept."
        )
    )


def _cut(error: CutOff, model: str) -> ProviderFailed:
    if error.reason == "content_filter":
        said = "was stopped by the provider's content filter, so nothing of what it was about to do was done. Say it"
        return ProviderFailed(ModelCut(f"The model {model} {said} in another way; your message is kept."))
    if error.has_calls:
        said = "reached its limit of length before it had said all that is to be done, so nothing of it was done. Ask"
        return ProviderFailed(
            ModelCut(f"The model {model} {said} for less at once; your message is kept."), again=True, wait=0, note=_CUT
        )
    said = "reached its limit of length before it said anything. Ask for less at once, or start a new conversation;"
    return ProviderFailed(ModelCut(f"The model {model} {said} your message is kept."))


def _status(causes: Sequence[BaseException]) -> int | None:
    """Return the HTTP status that an error has or stands for, or None where it has none."""
    if any(isinstance(cause, BrokeOff) for cause in causes):
        return None
    for cause in causes:
        # An error that comes with status 200 has its code inside.
        if type(cause) in (openai.APIError, ErrorInStream) and isinstance(body := getattr(cause, "body", None), dict):
            return _status_in(body)
        # LiteLLM makes this number up for an error with status 200 that has none.
        if type(cause) is Exception and getattr(cause, "status_code", None) == 422:
            return None
    for cause in causes:
        if isinstance(status := getattr(cause, "status_code", None), int):
            return status or None
    return None


def _status_in(body: dict[str, Any]) -> int | None:
    """Return the status that an error's own words stand for; some put a number there, some a name."""
    inner = body.get("error")
    said = {**body, **(inner if isinstance(inner, dict) else {})}
    for word in (str(said.get("code")), str(said.get("type"))):
        if word.isdecimal() and 400 <= int(word) < 600:
            return int(word)
        if word in _KEYS:
            return 401
    return None


def _says_too_long(cause: BaseException) -> bool:
    return isinstance(cause, ContextWindowExceededError) or ExceptionCheckers.is_error_str_context_window_exceeded(
        str(cause)
    )


def _is_misconfigured(causes: Sequence[BaseException], model: str, *, has_key: bool) -> bool:
    """Tell whether trying again cannot help: a name, a library, an address or a key is missing or wrong."""
    # OpenAI's client says with the plainest of its errors that it cannot be made.
    if any(isinstance(cause, ImportError) or type(cause) is openai.OpenAIError for cause in causes):
        return True
    if any(type(cause).__name__ in _ADDRESSES for cause in causes):
        return True
    if any(getattr(cause, "code", None) == "insufficient_quota" for cause in causes):
        return True
    try:
        litellm.get_llm_provider(model)
    except openai.BadRequestError:
        return True
    # LiteLLM's own errors, which come first, have kinds of OpenAI's although no provider may have answered.
    answered = any(isinstance(cause, openai.APIStatusError) or type(cause).__name__ in _ANSWERS for cause in causes[1:])
    return not (has_key or answered) and any(
        name.endswith("_API_KEY") for name in litellm.validate_environment(model)["missing_keys"]
    )


def _asked_to_wait(error: Exception) -> float | None:
    """Return after how many seconds the provider wants to be asked again, when it says so."""
    # LiteLLM keeps the provider's headers here; its errors' own response is made up and has none.
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None
