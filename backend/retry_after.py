"""How long a provider asks us to wait after it rejected a request because of its rate limit."""

import math


def asked_to_wait(error: Exception) -> float | None:
    """Return how many seconds the provider asks us to wait, at most an hour, or None if it does not say."""
    # LiteLLM stores the provider's headers here. It makes up the `response` of its errors, which has no headers.
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None
