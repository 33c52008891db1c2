"""What scores mean: BM25, how the halves are combined, and how an answer is recognized."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from backend.documents.search import bm25
from backend.documents.search.bm25 import Term, weighed
from backend.documents.search.holdings import Library
from backend.documents.search.hybrid import Candidates, fused
from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.documents.indexed import axis, indexed, somewhere, sought, texts, user


def between(first: int, second: int) -> list[float]:
    """Return the unit vector halfway between two axes."""
    return [(one + other) / math.sqrt(2) for one, other in zip(axis(first), axis(second), strict=True)]


@pytest.mark.spec("SEARCH-9")
def test_words_are_weighed_by_bm25(database: Database, alice: Caller) -> None:
    chance = random.Random(4)
    vocabulary = [f"w{number}" for number in range(40)]
    passages = [
        " ".join(chance.choice(vocabulary[: chance.randint(5, 40)]) for _ in range(chance.randint(3, 60)))
        for _ in range(120)
    ]
    question = ["w1", "w7", "w19", "w33", "nowhere"]

    with user(database, alice) as scope:
        for first in range(0, 120, 30):
            indexed(scope, passages[first : first + 30], language="simple")
        found = sought(scope, " ".join(question), limit=120)

    # No passage is near, so that half of the score is 0 and the other half comes from words.
    expected = [one for one in by_definition(passages, question) if one[1] > 0]
    got = [passage for passage in found.passages if passage.text_score > 0]
    assert [passage.text for passage in got] == [passages[number] for number, _ in expected]
    for (_, score), passage in zip(expected, got, strict=True):
        assert passage.score == pytest.approx(passage.text_score / 2, abs=0.0001)
        assert passage.text_score == pytest.approx(score * 3.4 / 2.2 / (score + 1.2))


def by_definition(passages: list[str], question: list[str]) -> list[tuple[int, float]]:
    """Return passage numbers and BM25 scores, best first, by the definition, divided by the question's rarity."""
    counts = [Counter(passage.split()) for passage in passages]
    average = sum(count.total() for count in counts) / len(counts)
    rarity = {
        word: math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
        for word in question
        for having in [sum(word in count for count in counts)]
    }

    def score(count: Counter[str]) -> float:
        saturation = 1.2 * (0.25 + 0.75 * count.total() / average)
        found = sum(rarity[word] * count[word] * 2.2 / (count[word] + saturation) for word in question)
        return found / sum(rarity.values())

    return sorted(((number, score(count)) for number, count in enumerate(counts)), key=lambda one: (-one[1], one[0]))


@pytest.mark.spec("SEARCH-10", "SEARCH-26")
def test_the_halves_count_the_same() -> None:
    closeness, wording = np.array([0.8, 0.0, 0.6, 0.0, 1.0]), np.array([0.0, 0.8, 0.6, 0.4, 1.0])

    scores = fused(Candidates(np.arange(5), np.zeros(5), closeness, wording))

    assert scores.tolist() == pytest.approx([0.4, 0.4, 0.6, 0.2, 1.0])


@pytest.mark.spec("SEARCH-10")
def test_repeating_the_question_s_words_is_no_answer(database: Database, alice: Caller) -> None:
    near, far = ([cosine, math.sqrt(1 - cosine**2), *[0.0] * 382] for cosine in (0.75, 0.1))
    answer = "Who sends an article back within thirty days gets a refund to the card that was charged for the article."
    with user(database, alice) as scope:
        indexed(scope, ["Refunds. Refund. Refund of refunds. Refund.", answer], vectors=[far, near])

        found = sought(scope, "refund", axis(0))

    assert texts(found)[0] == answer
    assert found.passages[1].text_score > 0.8
    assert found.passages[1].score <= 0.5


@pytest.mark.spec("SEARCH-28")
def test_a_score_does_not_depend_on_what_else_is_found(database: Database, alice: Caller) -> None:
    faint = [0.25, *[0.0] * 382, math.sqrt(1 - 0.25**2)]
    with user(database, alice) as scope:
        noise = [f"Number {number} of them." for number in range(150)]
        indexed(scope, ["A weak hint.", *noise], vectors=[faint, *[axis(383)] * 150])
        [alone, *_] = sought(scope, "turbine", axis(0)).passages
        indexed(scope, ["A kettle boils."], vectors=[axis(0)])
        beside = {passage.text: passage for passage in sought(scope, "turbine", axis(0)).passages}

    # The best of a bad lot still scores low: 0.05 of 0.8 above what is unrelated, and no word in common.
    assert alone.text == "A weak hint."
    assert alone.score == pytest.approx((0.25 - 0.2) / 0.8 / 2, abs=0.001)
    assert beside["A weak hint."].score == alone.score
    assert beside["A kettle boils."].score == pytest.approx(0.5, abs=0.001)


@pytest.mark.spec("SEARCH-28")
def test_a_passage_that_is_near_comes_before_one_that_shares_a_word(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        passages = [*(f"A remark on paint number {number}." for number in range(150)), "Felines purr at night."]
        indexed(scope, passages, vectors=[*[axis(2)] * 150, axis(1)])

        found = sought(scope, "Which noise do cats make on paint?", axis(1))

    # If scores were stretched between the candidates' extremes, a word that every passage has would be worth as much as
    # equality.
    assert found.passages[0].text == "Felines purr at night."
    assert found.passages[1].score < 0.2


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

    shares = {(one.term.language, one.term.lexeme): one.share for one in weighed(terms, library)}

    house, die, haus = (math.log(1 + (1_000.5 - many) / (many + 0.5)) for many in (9, 103, 20))
    assert shares == pytest.approx(
        {
            ("english", "hous"): house / (house + die + haus),
            ("english", "die"): die / (house + die + haus),
            ("german", "haus"): haus / (house + haus),
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

    # A word that occurs nowhere is a little rarer than one that occurs once, and a longer passage scores a little
    # lower.
    half, whole = shares
    assert half == pytest.approx(0.45, abs=0.1)
    assert whole == pytest.approx(0.7, abs=0.1)


@pytest.mark.spec("SEARCH-23")
def test_the_rarest_words_are_sought(database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bm25, "MOST_TERMS", 4)
    monkeypatch.setattr(bm25, "MOST_POSTINGS", 9)

    with user(database, alice) as scope:
        # The word w3 is in three passages, and so on.
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
    assert half.text_score < rare.text_score / 1.3, "What stands nowhere is missed too."


@pytest.mark.spec("SEARCH-23")
def test_a_word_that_is_rare_in_one_language_alone_is_not_taken_for_rare(
    database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bm25, "MOST_TERMS", 3)

    with user(database, alice) as scope:
        indexed(scope, ["bill annex corner"] * 30)
        indexed(scope, ["annex bill corner landlord turbine winter"], language="simple")
        [found, *_] = sought(scope, "annex bill corner landlord turbine winter").passages

    # By the note alone, all its words would be equally rare, and the alphabetically first would be chosen.
    assert found.text == "annex bill corner landlord turbine winter"
    assert found.text_score > 0.5
