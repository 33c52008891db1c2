"""Idempotency keys. A request with the same key as an earlier request is a repeat of it, and is not executed again."""

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header
from pydantic import Field, StringConstraints

from backend.errors import InvalidInput
from backend.plain_text import ONE_LINE

KEY_LIFETIME = timedelta(hours=24)
"""A request counts as a repeat if its idempotency key was first used less than this time ago."""

IdempotencyKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Field(description="Any text that is the same when the same request is sent again: it is then done only once."),
    ONE_LINE,
]

IdempotencyHeader = Annotated[IdempotencyKey | None, Header(alias="Idempotency-Key")]


class KeyUsedForSomethingElse(InvalidInput):
    """An idempotency key was sent again, but the request's content differs from that of the first request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This request was sent before with different content.", hint="Use a new idempotency key for a new request."
        )


def hash_of(request: dict[str, Any]) -> str:
    """Return the SHA-256, in hex, of a request's content. The order of its JSON keys does not matter."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode(errors="surrogatepass")).hexdigest()
