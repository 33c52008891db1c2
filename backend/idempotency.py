"""Idempotency keys, which show that a request repeats an earlier request."""

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header
from pydantic import Field, StringConstraints

from backend.errors import InvalidInput
from backend.plain_text import ONE_LINE

KEY_LIFETIME = timedelta(hours=24)
"""How long a later request with a key counts as a repeat of the key's first request."""

IdempotencyKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Field(description="Any text that is the same when the same request is sent again: it is then done only once."),
    ONE_LINE,
]

IdempotencyHeader = Annotated[IdempotencyKey | None, Header(alias="Idempotency-Key")]


class KeyUsedForSomethingElse(InvalidInput):
    """An idempotency key was used again with different content."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This request was sent before with different content.", hint="Use a new idempotency key for a new request."
        )


def hash_of(request: dict[str, Any]) -> str:
    """Return the SHA-256, in hex, of a request's content. The order of the content's keys does not matter."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode(errors="surrogatepass")).hexdigest()
