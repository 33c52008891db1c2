"""How long a provider that limits us wants to be left alone."""

import math


def asked_to_wait(error: Exception) -> float | None:
    """Return after how many seconds the provider wants to be asked again, when it says so."""
    # LiteLLM keeps the provider's headers here; its errors' own response is made up and has none.
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None
