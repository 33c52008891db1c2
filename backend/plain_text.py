"""The one choke point for text that Postgres or a terminal cannot take.

PostgreSQL refuses NUL in text and jsonb, and UTF-8 has no lone surrogates. Both come in through JSON escapes.
Input that carries them is refused; text that we did not ask a person for (a model's, a provider's) is cleaned.
"""

import math
import re
from typing import Any

from pydantic import AfterValidator, BeforeValidator

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAK = re.compile("[\t\n\r\u2028\u2029]")


def refuse_unstorable(value: str) -> str:
    """Return the text unchanged, or raise ValueError when it has control characters other than tab and line breaks."""
    if _CONTROL.search(value):
        raise ValueError("The text contains control characters. Remove them and try again.")
    return value


def refuse_line_breaks(value: str) -> str:
    """Return the text unchanged, or raise ValueError when it does not stand on one line."""
    if _LINE_BREAK.search(value):
        raise ValueError("The text must stand on one line.")
    return value


def refuse_truth(value: Any) -> Any:
    """Return the value unchanged, or raise ValueError for true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("This must be a whole number.")
    return value


def storable(value: str) -> str:
    """Return the text with every character that cannot be stored replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", value)


def storable_json(value: Any) -> Any:
    """Return the JSON value with every string in it, keys included, made storable; NaN and infinity become null."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(str(key)): storable_json(item) for key, item in value.items()}
        case list() | tuple():
            return [storable_json(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


PLAIN = AfterValidator(refuse_unstorable)
"""Marks text of several lines.

It comes last in an Annotated: of what a validator returns, pydantic would check the length before it strips blanks.
"""

ONE_LINE = AfterValidator(lambda value: refuse_line_breaks(refuse_unstorable(value)))
"""Marks text of one line; it too comes last."""

NUMBER = BeforeValidator(refuse_truth)
"""Marks a whole number; digits in a string are one, true and false are none."""
