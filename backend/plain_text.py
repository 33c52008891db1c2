"""The one choke point for text that Postgres or a terminal cannot take.

PostgreSQL refuses NUL in text and jsonb, and UTF-8 has no lone surrogates. Both come in through JSON escapes.
Input that carries them is refused; text that we did not ask a person for (a model's, a provider's) is cleaned.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator

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


def storable(value: str) -> str:
    """Return the text with every character that cannot be stored replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", value)


def storable_json(value: Any) -> Any:
    """Return the JSON value with every string in it, keys included, made storable."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(str(key)): storable_json(item) for key, item in value.items()}
        case list() | tuple():
            return [storable_json(item) for item in value]
        case _:
            return value


PlainText = Annotated[str, AfterValidator(refuse_unstorable)]
"""Text of several lines."""

LineOfText = Annotated[str, AfterValidator(refuse_unstorable), AfterValidator(refuse_line_breaks)]
"""Text of one line."""
