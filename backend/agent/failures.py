"""Translate a provider's or library's error into one of our errors, and decide whether to retry."""

import math
import re
from collections.abc import Sequence
from typing import Any

import litellm
import openai
from litellm.exceptions import ContextWindowExceededError
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers

from backend.agent.errors import (
    BrokeOff,
    CutOff,
    ErrorInStream,
    LibraryMissing,
    ModelAuthFailed,
    ModelCut,
    ModelFailed,
    ModelMisconfigured,
    ModelTimeout,
    ModelUnavailable,
    ProviderFailed,
    causes_of,
)
from backend.retry_after import asked_to_wait

# These errors are compared by name, because each provider's library may use a different HTTP library.
_ADDRESSES = frozenset({"InvalidURL", "UnsupportedProtocol", "LocalProtocolError"})
_TOO_LONG = re.compile(
    r"context_length_exceeded|prompt is too long|context the overflows|maximum (context|prompt|model) length",
    re.IGNORECASE,
)
_KEYS = frozenset({"invalid_api_key", "invalid_key", "authentication_error", "permission_denied"})
_CUT = (
    "Your last response reached the limit of length before it was complete, so none of its calls was made. "
    "Send it again, shorter: one call, with no more than it needs."
)


def failure_of(error: Exception, model: str, *, has_key: bool) -> ProviderFailed:
    """Translate an error that the provider's library raised during a request to `model`.

    The error's text is dropped, because it may quote a key or a message.
    """
    if isinstance(error, CutOff):
        return _cut(error, model)
    causes = list(causes_of(error))
    status = _status(causes)
    if _answer_in(causes) is None and any(isinstance(one, openai.APITimeoutError | TimeoutError) for one in causes):
        return ProviderFailed(ModelTimeout(model))
    if status == 413 or (status in (None, 400, 422) and any(_says_too_long(cause) for cause in causes)):
        return ProviderFailed(
            ModelFailed(f"This conversation is too long for the model {model}. Start a new one; this one is kept.")
        )
    if library := next((cause.name for cause in causes if isinstance(cause, ModuleNotFoundError) and cause.name), None):
        return ProviderFailed(LibraryMissing(model, library))
    if status == 402 or _is_misconfigured(causes, model, has_key=has_key):
        return ProviderFailed(ModelMisconfigured(model))
    if status in (401, 403):
        return ProviderFailed(ModelAuthFailed(model))
    if status is None or status in (408, 429) or status >= 500:
        wait = asked_to_wait(error)
        return ProviderFailed(ModelUnavailable(model, retry_after=math.ceil(wait or 10)), again=True, wait=wait)
    return ProviderFailed(
        ModelFailed(
            f"The provider of the model {model} refused the request (HTTP {status}). Ask the administrator to "
            "check MODEL and the provider's settings. Your message is kept."
        )
    )


def _cut(error: CutOff, model: str) -> ProviderFailed:
    if error.reason == "content_filter":
        said = f"The provider's content filter stopped the model {model}, so its next step was not done."
        return ProviderFailed(ModelCut(f"{said} Your message is kept; say it in other words."))
    if error.has_calls:
        said = f"The model {model} reached its length limit before it finished this step, so the step was not done."
        return ProviderFailed(
            ModelCut(f"{said} Your message is kept; ask for less at once."), again=True, wait=0, note=_CUT
        )
    said = f"The model {model} reached its length limit before it wrote anything."
    return ProviderFailed(ModelCut(f"{said} Your message is kept; ask for less at once, or start a new conversation."))


def _status(causes: Sequence[BaseException]) -> int | None:
    """Return an error's own HTTP status, or the status that fits the kind of error, or None."""
    if any(isinstance(cause, BrokeOff) for cause in causes):
        return None
    for cause in causes:
        # An error that the provider sent with status 200 has its code in the body.
        if type(cause) in (openai.APIError, ErrorInStream) and isinstance(body := getattr(cause, "body", None), dict):
            return _status_in(body)
    if (answered := _answer_in(causes)) is not None:
        return answered
    # Each of these errors means that LiteLLM could not parse the response. LiteLLM then makes up the error's status.
    if any(isinstance(cause, LookupError | ValueError | TypeError | AttributeError) for cause in causes):
        return None
    for cause in causes:
        # LiteLLM makes up this status for an error that came with status 200 and without a code.
        if type(cause) is Exception and getattr(cause, "status_code", None) == 422:
            return None
    for cause in causes:
        if isinstance(status := getattr(cause, "status_code", None), int):
            return status or None
    return None


def _answer_in(causes: Sequence[BaseException]) -> int | None:
    """Return the status that the provider itself sent, or None. LiteLLM makes up the status of some of its errors."""
    for cause in causes:
        if type(cause).__module__.split(".")[0] in ("openai", "httpx"):
            status = getattr(getattr(cause, "response", None), "status_code", None)
            if isinstance(status, int) and status >= 400:
                return status
    return None


def _status_in(body: dict[str, Any]) -> int | None:
    """Return the HTTP status that an error's body contains, as a number or as an error's name, or None."""
    inner = body.get("error")
    said = {**body, **(inner if isinstance(inner, dict) else {})}
    for word in (str(said.get("code")), str(said.get("type"))):
        if word.isdecimal() and 400 <= int(word) < 600:
            return int(word)
        if word in _KEYS:
            return 401
    return None


def _says_too_long(cause: BaseException) -> bool:
    said = str(cause)
    return (
        isinstance(cause, ContextWindowExceededError)
        or ExceptionCheckers.is_error_str_context_window_exceeded(said)
        or _TOO_LONG.search(said) is not None
    )


def _is_misconfigured(causes: Sequence[BaseException], model: str, *, has_key: bool) -> bool:
    """Return whether a name, library, address or key is missing or wrong, so that no retry can help."""
    # If OpenAI's client cannot be created, it raises its base error and not a subclass.
    if any(isinstance(cause, ImportError) or type(cause) is openai.OpenAIError for cause in causes):
        return True
    # The key contains a character that is not allowed in a header.
    if any(isinstance(cause, UnicodeEncodeError) for cause in causes):
        return True
    if any(type(cause).__name__ in _ADDRESSES for cause in causes):
        return True
    if any(
        "insufficient_quota" in str(cause) or getattr(cause, "code", "") == "insufficient_quota" for cause in causes
    ):
        return True
    try:
        litellm.get_llm_provider(model)
    except openai.BadRequestError:
        return True
    if _answer_in(causes) is not None or any(isinstance(cause, BrokeOff | ErrorInStream) for cause in causes):
        return False
    missing = litellm.validate_environment(model)["missing_keys"]
    # An address for Ollama may be missing, because Ollama has a default address.
    return any(
        (name.endswith("_API_KEY") and not has_key) or (name.endswith("_API_BASE") and name != "OLLAMA_API_BASE")
        for name in missing
    )
