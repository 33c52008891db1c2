"""Words that say nothing about a question's subject are ignored, in the question's own language."""

# ruff: noqa: RUF001  # Other alphabets are what this is about.
import pytest

from backend.documents.language import CONFIGURATIONS
from backend.documents.search.common_words import COMMON, without_common_words
from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.documents.indexed import indexed, sought, texts, user
from tests.documents.test_language import TEXTS

LEFT = {
    "What's the price of the turbine?": "price turbine?",
    "Wie hoch ist die Kaution?": "hoch Kaution?",
    "Quel est le prix de l'été ?": "prix été",
    "Qu'est-ce que c'est ?": "Qu'est-ce que c'est ?",
    "¿Cuál es el precio?": "precio?",
    "Τι είναι η εγγύηση;": "εγγύηση;",
    "τι ειναι η εγγυηση": "εγγυηση",
    "Какова цена мельницы и где она?": "Какова цена мельницы",
    "What is a to-do list?": "to-do list?",
    "O'Reilly's book is here": "O'Reilly book",
    "Is IT in the US safe?": "IT US safe?",
    "What does the WHO say about OR, and who is it?": "WHO say OR,",
    "Quel est le code de l'unité SI ?": "code unité SI",
    "WHAT IS THE PRICE?": "PRICE?",
    "What is the price of l'or?": "price l'or?",
    "Quel est le prix de l'or ?": "prix or",
    "Qual è il prezzo dell'oro?": "prezzo oro?",
    "I'm sure we're late, and he'd say you've won": "sure late, say won",
    "They\u2019ll pay, won\u2019t they?": "pay,",
    "Who won and hasn't paid, or wouldn't, shouldn't, hadn't, weren't, haven't, mustn't?": "won paid,",
    "Who is Don, and where is Don's house?": "Don, Don house?",
    "Gibt's einen Rabatt?": "Rabatt?",
    "Where is vitamin D in it?": "vitamin D",
    "Tell us about William Tell": "Tell us William Tell",
}


@pytest.mark.spec("SEARCH-11")
@pytest.mark.parametrize(("question", "left"), LEFT.items(), ids=LEFT)
def test_common_words_of_the_question_s_language_are_left_out(question: str, left: str) -> None:
    assert without_common_words(question, ["english"]) == left


@pytest.mark.spec("SEARCH-11")
@pytest.mark.parametrize(
    "question", ["", " ", "?", "INV-2041", "to be or not to be", "war", "man of war", "ano fiscal"]
)
def test_what_is_common_in_another_language_alone_stays(question: str) -> None:
    kept = {"man of war": "man war"}
    assert without_common_words(question, ["english", "simple"]) == kept.get(question, question)


@pytest.mark.spec("SEARCH-11")
def test_the_documents_language_decides_between_two() -> None:
    # "Was" is common in both languages, "wer" and "has" in one each.
    assert without_common_words("was wer has", ["german"]) == "has"
    assert without_common_words("was wer has", ["english"]) == "wer"
    assert without_common_words("was wer has", ["simple"]) == "wer"


@pytest.mark.spec("SEARCH-11")
@pytest.mark.parametrize(("language", "text"), TEXTS.items(), ids=TEXTS)
def test_a_text_loses_its_common_words_and_keeps_the_others(language: str, text: str) -> None:
    left = without_common_words(text, []).split()

    assert len(text.split()) * 0.3 < len(left) < len(text.split()), language


@pytest.mark.spec("SEARCH-11")
def test_every_language_whose_words_are_stemmed_has_common_words() -> None:
    assert set(CONFIGURATIONS.values()) <= set(COMMON)


@pytest.mark.database
@pytest.mark.spec("SEARCH-11")
@pytest.mark.parametrize("language", ["simple", "romanian", "english", "greek"])
def test_common_words_are_not_found_in_whatever_language(database: Database, alice: Caller, language: str) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["The rent is due on the first of May.", "A dog is on it."], language=language)

        assert sought(scope, "Is the cat of Anna on the lawn?").reason == "below_threshold"
        [dog] = [one for one in sought(scope, "Is the dog of Anna on the lawn?").passages if one.text_score]
    assert dog.text == "A dog is on it."
    assert dog.text_score == pytest.approx(0.34, abs=0.1)


@pytest.mark.database
@pytest.mark.spec("SEARCH-11")
def test_a_question_of_common_words_alone_is_sought_as_it_is(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["To be or not to be.", "A kettle boils."], language="simple")

        assert texts(sought(scope, "to be or not to be"))[0] == "To be or not to be."
