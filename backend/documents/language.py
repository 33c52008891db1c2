"""Detect the language of a text, so that its words are stemmed by that language's rules."""

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]  # It has no types.

UNSURE = "simple"
"""The text search configuration that leaves words unstemmed."""
MOST_CHARACTERS = 3_000
"""Characters that are read; more do not make the result more certain."""
LEAST_LETTERS = 50
"""The fewest letters from which a language can be detected. A shorter text, such as a name, could be in any
language."""
LEAST_CONFIDENCE = 0.5

CONFIGURATIONS = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
"""PostgreSQL 16's text search configurations, by language code."""
OTHERS = (
    *("af", "am", "az", "be", "bg", "bn", "bs", "cs", "cy", "et", "fa", "gl", "gu", "he", "hr", "is", "ja", "ka"),
    *("kk", "km", "kn", "ko", "la", "lb", "lo", "lv", "mk", "ml", "mn", "mr", "ms", "mt", "my", "pa", "pl", "ps", "si"),
    *("sk", "sl", "sq", "sw", "te", "th", "tl", "uk", "ur", "uz", "vi", "yue", "zh", "zxx"),
)
"""Languages for which PostgreSQL has no rules. They are detected only so that a text in one of them is not mistaken for
a related language above.

Creoles and regional languages that hardly differ from a language above in technical text are left out."""

_SCRIPTS = {
    "russian": re.compile("[\u0400-\u052f]"),
    "greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "armenian": re.compile("[\u0530-\u058f]"),
    "arabic": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "hindi": re.compile("[\u0900-\u097f]"),
    "tamil": re.compile("[\u0b80-\u0bff]"),
}
"""The letters of each non-Latin script, by the most common of the listed languages that use this script."""

_loading = threading.Lock()


def language_of(text: str) -> str:
    """Return the text search configuration for the language that a text begins in, or `simple` if uncertain.

    The same text always gets the same answer. The first call takes nearly a second and 80 MB.
    """
    text = text[:MOST_CHARACTERS]
    if sum(character.isalpha() for character in text) < LEAST_LETTERS:
        return UNSURE
    with _loading:
        identifier = _loaded()
    language, confidence = identifier.classify(text)
    return CONFIGURATIONS.get(language, UNSURE) if confidence >= LEAST_CONFIDENCE else UNSURE


def language_of_script(text: str) -> str:
    """Return the main language of the script that most of a text's letters belong to, or `simple` for Latin script."""
    letters = sum(map(str.isalpha, text))
    return next((one for one, script in _SCRIPTS.items() if 2 * len(script.findall(text)) > letters), UNSURE)


@cache
def _loaded() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*CONFIGURATIONS, *OTHERS])
    return identifier
