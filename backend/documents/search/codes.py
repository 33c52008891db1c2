"""Find the codes in a question, such as invoice or part numbers, and the part of each code that identifies it.

Embeddings cannot distinguish codes: the texts nearest to one code are texts with any codes.
"""

import re

DIGITS_OF_A_CODE = 3
"""A code has a part with at least this many digits, and at least a third of that part's letters and digits are digits.
CO2 and COVID-19 are therefore ordinary words."""

_PARTS = re.compile(r"[^\W_]+")
_AROUND = re.compile(r"^[\W_]+|[\W_]+$")
# 24/7, 10:30, v1.2.3, 12.05.2024, 1,234.56, 1920x1080, 1990s, 500mg, 100-year: a text may write these differently.
_NUMBER = re.compile(
    r"v?\d{1,4}(?:[,:/'\u2019x\u00d7\u2013]\d{1,4}|\.\d+)*[^\W\d_]{0,3}(?:-[^\W\d_]{4,})*", re.IGNORECASE
)
# 2024-05-01, 01-05-2024, 2024-25.
_DATE = re.compile("[12]\\d{3}[-\u2013]\\d{1,4}(?:-\\d{1,2})?|\\d{1,2}-\\d{1,2}-\\d{2,4}")
_JOINED = re.compile(r"(?<![^\W_])([^\W\d_]+)(?=\d{3})")


def codes_of(question: str) -> tuple[str, str]:
    """Return a question's codes as one string and its other words as another, both joined by spaces."""
    words = [word for word in question.split() if any(map(str.isalnum, word))]
    are_codes = [is_code(word) for word in words]
    codes = [word for word, is_one in zip(words, are_codes, strict=True) if is_one]
    others = [word for word, is_one in zip(words, are_codes, strict=True) if not is_one]
    return " ".join(codes), " ".join(others)


def is_code(word: str) -> bool:
    """Return whether a word is a code. Dates, times, versions, short numbers and amounts are not codes."""
    bare = _AROUND.sub("", word)
    return not (_NUMBER.fullmatch(bare) or _DATE.fullmatch(bare)) and any(map(identifies, _PARTS.findall(bare)))


def identifies(part: str) -> bool:
    """Return whether this part identifies its code. In INV-9999, the digits identify the code, not the letters."""
    signs = [sign for sign in part if sign.isalnum()]
    return sum(map(str.isdigit, signs)) >= max(DIGITS_OF_A_CODE, len(signs) / 3)


def spellings(codes: str) -> list[str]:
    """Return the codes in each spelling: unchanged, and with a space or a hyphen between joined letters and digits."""
    return list(dict.fromkeys([codes, _JOINED.sub(r"\1 ", codes), _JOINED.sub(r"\1-", codes)]))
