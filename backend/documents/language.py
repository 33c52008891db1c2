"""Which language a text is in, so that its words are stemmed by that language's rules."""

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]  # It has no types.

UNSURE = "simple"
"""The configuration that leaves words as they are."""
MOST_CHARACTERS = 3_000
"""Characters that are looked at; more make it no surer."""
LEAST_LETTERS = 50
"""A name or a short line is taken for any language."""
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
"""The text search configurations of PostgreSQL 16, by the code of their language."""
OTHERS = (
    *("af", "am", "az", "be", "bg", "bn", "bs", "cs", "cy", "et", "fa", "gl", "gu", "he", "hr", "is", "ja", "ka"),
    *("kk", "km", "kn", "ko", "la", "lb", "lo", "lv", "mk", "ml", "mn", "mr", "ms", "mt", "my", "pa", "pl", "ps", "si"),
    *("sk", "sl", "sq", "sw", "te", "th", "tl", "uk", "ur", "uz", "vi", "yue", "zh", "zxx"),
)
"""Languages that PostgreSQL has no rules for, told apart so that none is taken for its neighbor.

Creoles and regional languages that hardly differ from one above in a technical text are not among them.
"""

_SCRIPTS = {
    "russian": re.compile("[\u0400-\u052f]"),
    "greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "armenian": re.compile("[\u0530-\u058f]"),
    "arabic": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "hindi": re.compile("[\u0900-\u097f]"),
    "tamil": re.compile("[\u0b80-\u0bff]"),
}
"""The letters of each script but the Latin, by the language above that most people write in it."""

_loading = threading.Lock()


def language_of(text: str) -> str:
    """Return the PostgreSQL text search configuration of the language that a text begins in, or `simple` when unsure.

    The same text has the same answer always. The first call takes most of a second and 80 MB.
    """
    text = text[:MOST_CHARACTERS]
    if sum(character.isalpha() for character in text) < LEAST_LETTERS:
        return UNSURE
    with _loading:
        identifier = _loaded()
    language, confidence = identifier.classify(text)
    return CONFIGURATIONS.get(language, UNSURE) if confidence >= LEAST_CONFIDENCE else UNSURE


def language_of_script(text: str) -> str:
    """Return a language that is written in the script of most of a text's letters; `simple` for a Latin one."""
    letters = sum(map(str.isalpha, text))
    return next((one for one, script in _SCRIPTS.items() if 2 * len(script.findall(text)) > letters), UNSURE)


@cache
def _loaded() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*CONFIGURATIONS, *OTHERS])
    return identifier
