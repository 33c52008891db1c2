"""What is found, in which order, and why nothing is found."""

# ruff: noqa: RUF001  # Other alphabets are what this is about.
import math
import random
import time

import pytest
from sqlalchemy import text

from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.conftest import query
from tests.documents.indexed import axis, indexed, somewhere, sought, texts, user

pytestmark = pytest.mark.database

HOSTILE = {
    "empty": "",
    "blanks": " \t\n\u3000",
    "stop words": "the of and to be or not to be",
    "operators": "a & !b | (c <-> d:*) '\\' \"--; drop table chunks; %s :user_id {only}",
    "NUL": "turbine\x00blade\x07",
    "lone surrogates": "\ud800turbine\udfff",
    "emoji": "🦊" * 3_000 + "👩‍👩‍👧‍👦 turbine",
    "words": " ".join(f"word{number}" for number in range(20_000)),
    "100 kB": "x" * 100_000,
    "cut in a letter": "a" + "語" * 40_000,
    "right to left": "\u202eturbine \u05d0\u05d1\u05d2",
    "a query language": 'turbine OR -blade "exact phrase" NEAR(3) [p12] ../../etc',
}


@pytest.mark.spec("SEARCH-7")
def test_a_passage_is_found_by_its_words_and_says_where_it_stands(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        document_id = indexed(
            scope,
            ["Rent is due on the first.", "The deposit is 900 euros.", "Pets are welcome."],
            headings="Lease",
            filename="lease.pdf",
        )

        found = sought(scope, "How much is the deposit?", limit=1)

    [passage] = found.passages
    assert found.reason is None
    assert (passage.document_id, passage.filename, passage.page_number) == (document_id, "lease.pdf", 3)
    assert (passage.text, passage.start, passage.end) == ("The deposit is 900 euros.", 26, 51)
    assert passage.headings == "Lease"
    assert passage.vector_score == 0
    assert 0 < passage.text_score <= 1
    assert 0 < passage.score <= 0.5


@pytest.mark.spec("SEARCH-8")
def test_a_passage_is_found_by_its_meaning_alone(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["Felines purr.", "Stocks fell."], vectors=[axis(1), axis(2)])

        found = sought(scope, "cat noises", axis(1))

    assert texts(found) == ["Felines purr.", "Stocks fell."]
    assert found.passages[0].vector_score == pytest.approx(1)
    assert found.passages[0].text_score == 0


@pytest.mark.spec("SEARCH-12")
@pytest.mark.parametrize("limit", [1, 20, 140])
def test_as_many_are_found_as_are_asked_for(database: Database, alice: Caller, limit: int) -> None:
    chance = random.Random(limit)
    with user(database, alice) as scope:
        passages = [f"number {number} {'turbine' * (number % 2)}" for number in range(130)]
        indexed(scope, passages, vectors=[somewhere(chance) for _ in passages])

        found = sought(scope, "turbine", somewhere(chance), limit=limit)
        again = sought(scope, "turbine", axis(3), limit=limit)
        assert sought(scope, "turbine", axis(3), limit=limit) == again

    assert len(found.passages) == len(set(texts(found))) == min(limit, 130)


@pytest.mark.spec("SEARCH-13")
def test_only_what_is_ready_and_not_deleted_is_found(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["the turbine runs", "a bird sings"])
        before = sought(scope, "turbine")
        for about in ({"status": "processing"}, {"status": "failed"}, {"deleted_at": scope.now}):
            # They would fill all places of both halves, and make the word a common one.
            indexed(scope, [f"turbine {number} {about}" for number in range(210)], vectors=[axis(0)] * 210, **about)

        assert sought(scope, "turbine") == before
        assert texts(before) == ["the turbine runs", "a bird sings"]
        scope.session.execute(text("update documents set deleted_at = now() where id = 1"))
        assert sought(scope, "turbine").reason == "still_indexing"


@pytest.mark.spec("SEARCH-14")
def test_only_documents_that_are_asked_for_are_found(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        wanted = indexed(scope, ["the turbine runs", "a bird sings"], vectors=[axis(5), axis(6)])
        indexed(scope, [f"turbine turbine {number}" for number in range(210)], vectors=[axis(0)] * 210)

        everywhere = sought(scope, "turbine bird", limit=300)
        filtered = sought(scope, "turbine bird", document_ids=[wanted, 999])

    assert texts(filtered) == ["a bird sings", "the turbine runs"]
    shares = {passage.text: passage.text_score for passage in everywhere.passages}
    for passage in filtered.passages:
        assert passage.text_score == pytest.approx(shares[passage.text])


@pytest.mark.spec("SEARCH-15")
def test_vectors_of_another_model_are_not_compared(database: Database, alice: Caller, other_model: int) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["by the one model"], vectors=[axis(1)])
        indexed(scope, ["by the other model"], vectors=[axis(1)[:8]], model_id=other_model)

        found = sought(scope, "model", axis(1))
        by_other = sought(scope, "model", axis(1)[:8], model_id=other_model)

    assert [(one.text, one.vector_score) for one in found.passages] == [
        ("by the one model", pytest.approx(1)),
        ("by the other model", None),
    ]
    assert [(one.text, one.vector_score) for one in by_other.passages] == [
        ("by the other model", pytest.approx(1)),
        ("by the one model", None),
    ]


@pytest.fixture
def other_model(superuser_url: str) -> int:
    """A model with 8 dimensions beside the one in use; returns its id."""
    query(superuser_url, "insert into embedding_models (name, dim) values ('small', 8) on conflict do nothing")
    [(model_id,)] = query(superuser_url, "select id from embedding_models where name = 'small'")
    return int(model_id)


@pytest.mark.spec("SEARCH-17")
@pytest.mark.parametrize("name", HOSTILE)
def test_no_question_is_an_error(database: Database, alice: Caller, name: str) -> None:
    with user(database, alice) as scope:
        for language in ("english", "german", "simple", "russian"):
            indexed(scope, [f"the turbine {language}", "word3 word19000 x語"], language=language)

        began = time.monotonic()
        found = sought(scope, HOSTILE[name], axis(7))
        took = time.monotonic() - began

    has_words = "turbine" in HOSTILE[name][:8_000] or name in ("words", "stop words")
    if name != "emoji":
        assert bool(found.passages) == has_words
    assert bool(found.passages) == (found.reason is None)
    assert took < 20, "The cost grows faster than the question."


@pytest.mark.spec("SEARCH-17")
def test_the_end_of_a_long_question_is_not_sought(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["the turbine"])

        assert sought(scope, "a " * 4_000 + "turbine").reason is None
        assert sought(scope, "a " * 4_100 + "turbine").reason == "below_threshold"


@pytest.mark.spec("SEARCH-27")
@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("The e\ufb03cient o\ufb00er", "efficient offer"),
        ("u\u0308bermut", "\u00fcbermut"),
        ("\u00fcbermut", "u\u0308bermut"),
        ("tur\u00adbine and tur\u200bbine", "turbine"),
        ("turbine", "\u202etur\u00adbine\u202c"),
        ("\uff34\uff55\uff52\uff42\uff49\uff4e\uff45", "turbine"),
    ],
)
def test_words_are_found_however_their_letters_are_encoded(
    database: Database, alice: Caller, written: str, asked: str
) -> None:
    with user(database, alice) as scope:
        indexed(scope, [written])

        [passage] = sought(scope, asked).passages

    assert passage.text == written
    assert passage.text_score > 0.7


@pytest.mark.spec("SEARCH-18")
def test_the_reason_says_why_nothing_was_found(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        assert sought(scope, "turbine").reason == "no_documents"

        scanned = indexed(scope, [], status="failed")
        assert sought(scope, "turbine").reason == "no_text"

        coming = indexed(scope, [], status="pending")
        assert sought(scope, "turbine").reason == "still_indexing"
        assert sought(scope, "turbine", document_ids=[scanned]).reason == "no_text"

        there = indexed(scope, ["the turbine"])
        assert sought(scope, "turbine").reason is None
        assert sought(scope, "turbine", document_ids=[there]).reason is None
        assert sought(scope, "turbine", document_ids=[coming]).reason == "still_indexing"
        assert sought(scope, "turbine", document_ids=[999]).reason == "filtered_out"
        assert sought(scope, "turbine", document_ids=[]).reason == "filtered_out"
        assert sought(scope, "giraffe").reason == "still_indexing"

        scope.session.execute(text("update documents set status = 'failed' where id = :id"), {"id": coming})
        assert sought(scope, "giraffe").reason == "below_threshold"
        assert sought(scope, "giraffe", axis(383)).reason is None


@pytest.mark.spec("EMB-30")
def test_what_is_no_nearer_than_unrelated_texts_are_is_not_found(database: Database, alice: Caller) -> None:
    near = [0.75, math.sqrt(1 - 0.75**2), *[0.0] * 382]

    with user(database, alice) as scope:
        indexed(scope, ["the turbine"], vectors=[near])

        assert sought(scope, "giraffe", unrelated=0.79).reason == "below_threshold"
        [passage] = sought(scope, "giraffe", unrelated=0.2).passages
    assert passage.vector_score == pytest.approx(0.75, abs=0.001)


@pytest.mark.spec("EMB-30", "SEARCH-28")
@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ціна 5 €", "russian"),
        ("Η τιμή", "greek"),
        ("السعر", "arabic"),
        ("कीमत", "hindi"),
        ("விலை", "tamil"),
        ("Գինը", "armenian"),
        ("Το Internet είναι εδώ", "greek"),
    ],
)
def test_how_near_is_unrelated_depends_on_the_script_where_the_language_is_unknown(
    database: Database, alice: Caller, text: str, language: str
) -> None:
    near = [0.75, math.sqrt(1 - 0.75**2), *[0.0] * 382]
    with user(database, alice) as scope:
        indexed(scope, [text, "The price"], vectors=[near, near], language="simple")

        found = sought(scope, "giraffe", unrelated={"simple": 0.5, language: 0.8})

    assert {passage.text: passage.score for passage in found.passages} == {text: 0, "The price": 0.25}


@pytest.mark.spec("EMB-30", "SEARCH-28")
def test_how_near_is_unrelated_depends_on_the_passage_s_language(database: Database, alice: Caller) -> None:
    near = [0.75, math.sqrt(1 - 0.75**2), *[0.0] * 382]
    unrelated = {"simple": 0.5, "english": 0.2, "greek": 0.8}

    with user(database, alice) as scope:
        for language in ("greek", "english", "german", "simple"):
            indexed(scope, [f"turbine {language}"], vectors=[near], language=language)
        found = sought(scope, "giraffe", unrelated=unrelated)
        greek = sought(scope, "giraffe", unrelated=unrelated, document_ids=[1])

    scores = {passage.text: passage.score for passage in found.passages}
    assert scores == pytest.approx(
        {"turbine english": 0.344, "turbine german": 0.25, "turbine simple": 0.25, "turbine greek": 0}, abs=0.001
    )
    assert (greek.passages, greek.reason) == ([], "below_threshold")
