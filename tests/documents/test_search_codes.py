"""A code that stands nowhere finds nothing, whatever words the question puts around it."""

# ruff: noqa: RUF001  # Other alphabets are what this is about.
import pytest

from backend.database import Database, Scope
from backend.identity.caller import Caller
from tests.documents.indexed import axis, indexed, sought, texts, user

pytestmark = pytest.mark.database

LIBRARY = {
    "english": ["What is the plan for the mill, and where is it kept?", "There was no wind, so we are at the harbor."],
    "german": ["Was ist mit der Mühle, und wo ist der Plan?", "Wie der Wind war, so wird es auch am Hafen."],
    "greek": ["Τι είναι το σχέδιο και πού είναι ο μύλος;", "Ποιος είναι στο λιμάνι με τον άνεμο;"],
    "romanian": ["Ce este cu moara și unde este planul?", "Care este vântul din port?"],
    "simple": ["What is this?", "Was ist das, und wo ist es?", "Τι είναι αυτό;", "Co to jest i gdzie jest?"],
}
QUESTIONS = [
    "INV-9999",
    "QX-77120",
    "54-OR323099",
    "ZK/4417/B2",
    "GB29NWBK60161331926819",
    "What is INV-9999?",
    "Where is it, and who has QX-77120?",
    "Was ist INV-9999?",
    "Wo ist die QX-77120, und wer hat sie?",
    "Τι είναι το INV-9999;",
    "ΠΟΥ ΕΙΝΑΙ ΤΟ QX-77120;",
    "Ce este INV-9999?",
    "Co to jest INV-9999?",
    "Qu'est-ce que c'est que le INV-9999 ?",
]


def keep_library(scope: Scope, *languages: str) -> None:
    """Index texts whose embeddings are all equal to that of `axis(0)`, many of each language."""
    for language in languages or LIBRARY:
        indexed(scope, LIBRARY[language] * 30, vectors=[axis(0)] * 30 * len(LIBRARY[language]), language=language)


@pytest.mark.spec("SEARCH-29")
def test_a_code_that_stands_nowhere_finds_nothing_among_many_languages(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        keep_library(scope)

        found = {question: sought(scope, question, axis(0)) for question in QUESTIONS}

    assert {question: texts(one) for question, one in found.items() if one.passages} == {}
    assert {one.reason for one in found.values()} == {"below_threshold"}


@pytest.mark.spec("SEARCH-11", "SEARCH-29")
@pytest.mark.parametrize("language", LIBRARY)
def test_a_code_that_stands_nowhere_finds_nothing_in_one_language(
    database: Database, alice: Caller, language: str
) -> None:
    with user(database, alice) as scope:
        keep_library(scope, language)

        assert {sought(scope, question, axis(0)).reason for question in QUESTIONS} == {"below_threshold"}


@pytest.mark.spec("SEARCH-29")
@pytest.mark.parametrize("language", LIBRARY)
def test_a_code_that_stands_somewhere_is_found_first(database: Database, alice: Caller, language: str) -> None:
    with user(database, alice) as scope:
        keep_library(scope)
        indexed(scope, ["INV-2041 was paid.", "INV-2042 was not."], vectors=[axis(1)] * 2, language=language)

        for question in ("INV-2041", "What is INV-2041?", "Was ist INV-2041?", "Τι είναι το INV-2041;"):
            assert texts(sought(scope, question, axis(0)))[0] == "INV-2041 was paid."


@pytest.mark.spec("SEARCH-29")
def test_a_word_with_a_digit_or_two_is_found_by_its_meaning(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["Carbon dioxide is heavy."], vectors=[axis(0)])

        assert texts(sought(scope, "What is CO2?", axis(0))) == ["Carbon dioxide is heavy."]
