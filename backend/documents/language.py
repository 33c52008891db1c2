"""Which language a text is in, so that its words are stemmed by that language's rules."""

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


@cache
def _loaded() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*CONFIGURATIONS, *OTHERS])
    return identifier
