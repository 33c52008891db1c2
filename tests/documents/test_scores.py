"""What scores say: BM25, how the halves are put together, and what tells an answer."""

import math
import random
from collections import Counter
from math import nan

import numpy as np
import pytest
from sqlalchemy import text

from backend.database import Database
from backend.documents import words
from backend.documents.holdings import Library
from backend.documents.language import CONFIGURATIONS, UNSURE, WITH_STOP_WORDS
from backend.documents.search import Candidates, fused
from backend.documents.words import Term, weighed
from backend.identity.caller import Caller
from tests.documents.indexed import axis, indexed, somewhere, sought, texts, user


def between(first: int, second: int) -> list[float]:
    """Return the vector half way between two axes."""
    return [(one + other) / math.sqrt(2) for one, other in zip(axis(first), axis(second), strict=True)]


@pytest.mark.spec("SEARCH-9")
def test_words_are_weighed_by_bm25(database: Database, alice: Caller) -> None:
    chance = random.Random(4)
    vocabulary = [f"w{number}" for number in range(40)]
    passages = [
        " ".join(chance.choice(vocabulary[: chance.randint(5, 40)]) for _ in range(chance.randint(3, 60)))
        for _ in range(90)
    ]
    question = ["w1", "w7", "w19", "w33", "nowhere"]

    with user(database, alice) as scope:
        for first in range(0, 90, 30):
            indexed(scope, passages[first : first + 30], language="simple")
        found = sought(scope, " ".join(question), limit=90)

    # With all vectors alike, the order is that of the words.
    expected = [one for one in bm25(passages, question) if one[1] > 0]
    got = [passage.text for passage in found.passages if passage.text_score > 0]
    assert got == [passages[number] for number, _ in expected]
    scores = [passage.score for passage in found.passages]
    _, best = expected[0]
    for (_, weight), score in zip(expected, scores, strict=False):
        assert score / scores[0] == pytest.approx(weight / best, abs=0.001)


def bm25(passages: list[str], question: list[str]) -> list[tuple[int, float]]:
    """Return passages' numbers and their BM25, best first, by the definition."""
    counts = [Counter(passage.split()) for passage in passages]
    average = sum(count.total() for count in counts) / len(counts)
    rarity = {
        word: math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
        for word in question
        for having in [sum(word in count for count in counts)]
    }

    def score(count: Counter[str]) -> float:
        saturation = 1.2 * (0.25 + 0.75 * count.total() / average)
        return sum(rarity[word] * count[word] * 2.2 / (count[word] + saturation) for word in question)

    return sorted(((number, score(count)) for number, count in enumerate(counts)), key=lambda one: (-one[1], one[0]))


@pytest.mark.spec("SEARCH-10", "SEARCH-26")
def test_the_halves_count_the_same() -> None:
    scores = fused(candidates([0.9, 0.1, 0.7, nan], [0.0, 8.0, 6.0, 4.0]))

    assert scores.tolist() == pytest.approx([0.5, 0.5, 0.75, 0.25])
    assert fused(candidates([0.3], [0.0])).tolist() == [0.5]
    assert fused(candidates([-0.1], [2.0])).tolist() == [0.5]
    assert fused(candidates([nan, nan], [2.0, 1.0])).tolist() == [0.5, 0.0]


def candidates(similarity: list[float], bm25: list[float]) -> Candidates:
    ids = np.arange(len(bm25))
    return Candidates(ids, np.array(similarity), np.array(bm25), np.zeros(len(bm25)))


@pytest.mark.spec("SEARCH-10")
def test_what_is_good_in_both_halves_comes_first(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(
            scope,
            ["the reactor was refueled", "a kettle boils", "a reactor, a reactor", "nothing of it"],
            vectors=[between(1, 2), axis(1), axis(3), axis(4)],
        )

        found = sought(scope, "reactor refueled", axis(1))

    assert texts(found) == ["the reactor was refueled", "a kettle boils", "a reactor, a reactor", "nothing of it"]


@pytest.mark.spec("SEARCH-11")
def test_common_words_say_nothing_in_a_document_of_unknown_language(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, [f"The price of the item {number} is the price of the day." for number in range(60)])
        indexed(scope, ["The turbine turns."])
        indexed(scope, ["what is the of the what is the", "turbine"], language="simple")

        found = sought(scope, "What is the price of the turbine?", limit=5)

    shares = {passage.text: passage.text_score for passage in found.passages}
    assert set(texts(found)[:2]) == {"The turbine turns.", "turbine"}
    assert shares.get("what is the of the what is the", 0) < 0.1


@pytest.mark.spec("SEARCH-11")
def test_a_word_weighs_the_same_in_every_language() -> None:
    library = Library(passages={"english": 900, "german": 100}, words=100_000)
    terms = [
        Term("english", "hous", (2,), 9, b"postings"),
        Term("german", "hous", (2,), 0),
        Term("english", "die", (1,), 3, b"postings"),
        Term("german", "haus", (3,), 20, b"postings"),
        Term("english", "haus", (3,), 0),
    ]

    weights = {(one.term.language, one.term.lexeme): one.weight for one in weighed(terms, library)}

    assert weights == pytest.approx(
        {
            ("english", "hous"): math.log(1 + 991.5 / 9.5),
            ("english", "die"): math.log(1 + 897.5 / 103.5),
            ("german", "haus"): math.log(1 + 980.5 / 20.5),
        }
    )


@pytest.mark.spec("SEARCH-16")
def test_the_first_score_tells_an_answer_from_a_shared_word(database: Database, alice: Caller) -> None:
    chance = random.Random(5)
    with user(database, alice) as scope:
        passages = [f"a remark on {word} and on nothing else" for word in ("ships", "bread", "wolves", "paint")]
        indexed(scope, passages, vectors=[somewhere(chance) for _ in passages])
        indexed(scope, ["The deposit for the flat is 900 euros."], vectors=[between(1, 2)])

        answered = sought(scope, "How high is the deposit for the flat?", axis(1))
        unanswered = sought(scope, "Who drew wolves on the ceiling of the cave?", somewhere(chance))

    assert answered.passages[0].score > 0.5 > 0.3 > unanswered.passages[0].score > 0
    for found in (answered, unanswered):
        scores = [passage.score for passage in found.passages]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


@pytest.mark.spec("SEARCH-16")
@pytest.mark.parametrize("others", [0, 3, 200])
def test_half_of_a_question_s_words_is_half_however_few_passages_there_are(
    database: Database, alice: Caller, others: int
) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["The deposit is 900 euros.", *(f"Number {place} of them." for place in range(others))])

        shares = [sought(scope, asked).passages[0].text_score for asked in ("high deposit", "deposit")]

    # What stands nowhere is a little rarer than what stands in one.
    assert shares == pytest.approx([0.45, 1], abs=0.02)


@pytest.mark.spec("SEARCH-16")
@pytest.mark.parametrize("language", ["simple", "romanian"])
def test_common_words_are_no_answer_where_a_language_does_not_leave_them_out(
    database: Database, alice: Caller, language: str
) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["The rent is due on the first of May."], language=language)

        found = sought(scope, "Is the dog of Anna on the lawn?")

    assert found.passages[0].text_score < 0.3


@pytest.mark.spec("SEARCH-16")
def test_which_languages_leave_words_out_is_what_the_database_does(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        rows = scope.session.execute(
            text("select dictname from pg_catalog.pg_ts_dict where dictinitoption like '%stopwords%'")
        ).scalars()
        having = {name.removesuffix("_stem") for name in rows}

    assert having & {*CONFIGURATIONS.values(), UNSURE} == WITH_STOP_WORDS


@pytest.mark.spec("SEARCH-23")
def test_the_rarest_words_are_sought(database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_TERMS", 4)
    monkeypatch.setattr(words, "MOST_POSTINGS", 9)

    with user(database, alice) as scope:
        # The word w3 stands in three passages, and so on.
        indexed(scope, [f"w{number}" for number in range(1, 10) for _ in range(number)])
        indexed(scope, ["a1", "a2", "a3", "a4", "a5"])

        def found(query: str) -> set[str]:
            passages = sought(scope, query, limit=60).passages
            return {passage.text for passage in passages if passage.text_score > 0}

        assert found("w9 w8 w7 w2 w4 w3") == {"w2", "w3", "w4"}, "As many postings as nine are looked at."
        assert found("w9") == {"w9"}
        assert found("w7 w5") == {"w5"}
        assert found("a5 a4 a3 a2 a1 w2") == {"a1", "a2", "a3", "a4"}, "Four words are looked for."
        [rare, *_] = sought(scope, "w1 w4").passages
        [half, *_] = sought(scope, "w1 w4 nowhere").passages
    assert half.text_score < rare.text_score / 1.5, "What stands nowhere is missed too."


@pytest.mark.spec("SEARCH-23")
def test_a_word_that_is_rare_in_one_language_alone_is_not_taken_for_rare(
    database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "MOST_TERMS", 3)

    with user(database, alice) as scope:
        indexed(scope, ["The bill of the house at the corner."] * 30)
        indexed(scope, ["the bill of a landlord at the turbine"], language="simple")
        [found, *_] = sought(scope, "a at bill of the landlord turbine").passages

    # By the note alone, all of its words would be as rare as each other, and the first of the alphabet be taken.
    assert found.text == "the bill of a landlord at the turbine"
    assert found.text_score > 0.9
