"""The errors of models and providers. A provider's own error text is never shown, because it may quote the key."""

from collections.abc import Iterator
from typing import Any, Literal

from backend.errors import DocuTalkError

KEPT = " Your message is kept."
"""The last sentence of an error about a message that got no answer. `docutalk doctor` leaves this sentence out."""


class ModelFailed(DocuTalkError):
    """The provider refused the request, or the model's answer is unusable."""

    status = 502
    code = "model_failed"


class ModelAuthFailed(ModelFailed):
    """The provider refused the key."""

    code = "model_auth"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The provider of the model {model} rejected the API key. Ask the administrator to check the key.{KEPT}"
        )


class ModelUnavailable(ModelFailed):
    """The provider does not answer, or rejects the request because of its rate limit."""

    status = 503
    code = "model_unavailable"

    def __init__(self, model: str, *, retry_after: int = 10) -> None:
        super().__init__(
            f"The provider of the model {model} does not answer right now. Your message is kept; try again soon.",
            retry_after=retry_after,
        )


class ModelTimeout(ModelFailed):
    """The provider took too long."""

    status = 504
    code = "model_timeout"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model} took too long to answer. Your message is kept; try again.")


class ModelMisconfigured(ModelFailed):
    """The model cannot be called with the service's current settings."""

    code = "model_misconfigured"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {model} cannot be used with this service's settings. Ask the administrator to check "
            f"MODEL and the provider's address, key and account.{KEPT}"
        )


class LibraryMissing(ModelFailed):
    """A library that LiteLLM needs for this provider is not installed."""

    code = ModelMisconfigured.code

    def __init__(self, model: str, library: str) -> None:
        super().__init__(
            f"The model {model} needs the Python library {library}, which is not installed on the server. Ask the "
            f"administrator to install it or to choose another model in MODEL.{KEPT}"
        )


class EndingsUnreported(ModelFailed):
    """The model is refused, because LiteLLM does not show whether its responses are complete or cut off."""

    code = ModelMisconfigured.code

    def __init__(self, model: str, instead: str) -> None:
        super().__init__(
            f"The model {model} is not used, because its provider does not reliably report whether an answer was "
            f"cut off. What the administrator can do: {instead}.{KEPT}"
        )


class ModelCut(ModelFailed):
    """The model's response was cut off, and no part of it can be used."""

    code = "model_cut"


class BrokeOff(Exception):
    """The provider's response ended before the answer was complete."""


class CutOff(Exception):
    """The provider cut off a response that contains tool calls or no text. No part of such a response may be used."""

    def __init__(self, reason: Literal["length", "content_filter"], *, has_calls: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.has_calls = has_calls


class ErrorInStream(Exception):
    """A stream contained an error in the place of a chunk. `body` is the error's content."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("message", "")))
        self.body = body


class ProviderFailed(Exception):
    """A provider or its library failed during a request."""

    def __init__(self, failure: ModelFailed, *, again: bool = False, wait: float | None = None, note: str = "") -> None:
        super().__init__(failure.code)
        self.failure = failure
        """The error to report if the request is not retried."""
        self.again = again
        """Whether a retry may help."""
        self.wait = wait
        """How many seconds to wait before a retry, if the provider or the error specifies it; otherwise None."""
        self.note = note
        """Text to add to the instructions for the retry."""


class TooManySteps(ModelFailed):
    """The model kept calling tools until it reached the limit for one run."""

    code = "model_loop"

    def __init__(self, model: str, steps: int) -> None:
        super().__init__(
            f"The model {model} called tools {steps} times in a row without reaching an answer, so it was stopped. "
            "What it did is kept; see the tool calls. Say more precisely what you want, or use another model."
        )


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes. Only the causes show, for example, whether a stream fell silent or broke off."""
    cause: BaseException | None = error
    seen: set[int] = set()
    # Two errors can be each other's causes. Stop at an error that was already yielded.
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
