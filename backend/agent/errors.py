"""How a model or its provider can fail; nothing of the provider's own text is shown, it may quote the key."""

from backend.errors import DocuTalkError


class ModelFailed(DocuTalkError):
    """The provider refused the request, or the model answered what nobody can use."""

    status = 502
    code = "model_failed"


class ModelAuthFailed(ModelFailed):
    """The provider refused the key."""

    code = "model_auth"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The provider of the model {model} refused our key. Whoever runs this service has to check the provider's "
            "API key. Your message is kept."
        )


class ModelUnavailable(ModelFailed):
    """The provider does not answer, or limits us."""

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


class BrokeOff(Exception):
    """The provider's stream ended before its answer did."""


class TooManySteps(ModelFailed):
    """The model kept calling tools."""

    code = "model_loop"

    def __init__(self, model: str, steps: int) -> None:
        super().__init__(
            f"The model {model} called tools {steps} times over without coming to an answer, and was stopped. "
            "What it did stays; see the tool calls. Say more exactly what you want, or use another model."
        )
