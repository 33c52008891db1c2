"""Reject or replace characters that PostgreSQL or a terminal does not accept. No other module does this.

PostgreSQL rejects NUL in text and jsonb, and UTF-8 has no lone surrogates. NUL and lone surrogates can arrive through
JSON escapes. Input from people is rejected if it contains such characters. In text from elsewhere, such as a model or a
provider, they are replaced.
"""

import math
import re
from typing import Any

from pydantic import AfterValidator, BeforeValidator

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAK = re.compile("[\t\n\r\u2028\u2029]")


def refuse_unstorable(value: str) -> str:
    """Return the text unchanged, or raise ValueError if it has control characters other than tab and line breaks."""
    if _CONTROL.search(value):
        raise ValueError("The text contains control characters. Remove them and try again.")
    return value


def refuse_line_breaks(value: str) -> str:
    """Return the text unchanged, or raise ValueError if it is not on one line."""
    if _LINE_BREAK.search(value):
        raise ValueError("The text must stand on one line.")
    return value


def refuse_truth(value: Any) -> Any:
    """Return the value unchanged, or raise ValueError for true and false, which Python would treat as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("This must be a whole number.")
    return value


def storable(value: str) -> str:
    """Return the text with every character that cannot be stored replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", value)


def storable_json(value: Any) -> Any:
    """Return a JSON value with every string made storable, including keys. NaN and infinity become null."""
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
"""Marks text that may have several lines.

PLAIN must come last in an Annotated. Otherwise pydantic would check the length before it strips the spaces at both
ends.
"""

ONE_LINE = AfterValidator(lambda value: refuse_line_breaks(refuse_unstorable(value)))
"""Marks text on one line. ONE_LINE must come last in an Annotated, for the same reason as PLAIN."""

NUMBER = BeforeValidator(refuse_truth)
"""Marks a whole number. Digits in a string are accepted, but true and false are not."""
