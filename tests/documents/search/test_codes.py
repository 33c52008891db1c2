"""A code that occurs nowhere finds nothing, whatever words the question has around it."""

# ruff: noqa: RUF001  # Other alphabets are what this is about.
import pytest

from backend.identity.caller import Caller
from backend.postgres.database import Database, Scope
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
    """Index many texts in each language whose embeddings all equal that of `axis(0)`."""
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


@pytest.mark.spec("SEARCH-29")
@pytest.mark.parametrize(
    ("question", "passage"),
    [
        ("What is 9/11?", "The attacks of September 11, 2001"),
        ("What was 9/11?", "The attacks of September 11, 2001"),
        ("Are you there 24/7?", "Around the clock"),
        ("10:30", "Half past ten"),
        ("What is v1.2.3?", "The third patch"),
        ("What are the 1990s?", "The last decade of the century"),
        ("What was on 2001-09-11?", "The attacks of September"),
        ("What was on 11.09.2001?", "The attacks of September"),
        ("What is 1,234.50?", "A sum"),
        ("What is 3.14159?", "The ratio of a circle"),
        ("500mg?", "Half a gram"),
        ("What is 1920x1080?", "A resolution"),
        ("1066", "The battle of Hastings"),
        ("Was ist mit den 1970er-Jahren?", "Ein Jahrzehnt"),
        ("What was 973–1048?", "The life of a scholar"),
    ],
)
def test_a_number_that_can_be_put_in_other_ways_is_found_by_its_meaning(
    database: Database, alice: Caller, question: str, passage: str
) -> None:
    with user(database, alice) as scope:
        indexed(scope, [passage], vectors=[axis(0)])

        assert texts(sought(scope, question, axis(0))) == [passage]


@pytest.mark.spec("SEARCH-30")
@pytest.mark.parametrize("question", ["INV-9999", "What is INV-9999?", "INVOICE-777", "PROJECT-777?", "54-OR323099"])
def test_a_code_is_not_found_by_the_letters_that_it_shares_with_others(
    database: Database, alice: Caller, question: str
) -> None:
    others = ["INV-2041 was paid by Miller.", "INV-2042 was not.", "INVOICE-123", "PROJECT-042", "54-OR111111 is blue."]
    with user(database, alice) as scope:
        for language in ("english", "german", "simple"):
            indexed(scope, others, vectors=[axis(0)] * len(others), language=language)

        assert sought(scope, question, axis(0)).reason == "below_threshold"


@pytest.mark.spec("SEARCH-30")
@pytest.mark.parametrize("question", ["show me INV-9999", "find INV-9999", "What is the status of INV-9999?"])
def test_letters_of_a_code_are_no_words_that_were_found(database: Database, alice: Caller, question: str) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["INV-2041 was paid by Miller.", "INV-2042 was not."])

        assert sought(scope, question).reason == "below_threshold"


@pytest.mark.spec("SEARCH-30")
def test_letters_of_a_code_tell_it_from_one_with_the_same_digits(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["PO-2041", "The one with the number INV-2041 was paid by Miller a week ago.", "INV-2042"])

        found = sought(scope, "What is INV-2041?")

    assert texts(found)[0].startswith("The one with the number INV-2041")
    assert [passage.text_score > 0 for passage in found.passages] == [True, True, False]


@pytest.mark.spec("SEARCH-30")
@pytest.mark.parametrize("question", ["iso9001", "Which supplier has ISO9001?", "What is iso9001?"])
@pytest.mark.parametrize("written", ["ISO 9001", "ISO-9001", "ISO9001"])
def test_a_code_is_found_however_its_letters_and_digits_are_joined(
    database: Database, alice: Caller, question: str, written: str
) -> None:
    with user(database, alice) as scope:
        indexed(scope, [f"The company is certified to {written}.", "It is certified to ISO 14001."])

        [first, *others] = sought(scope, question).passages

    assert first.text == f"The company is certified to {written}."
    assert first.text_score > 0.4
    assert [other.text_score for other in others] == [0] * len(others)
