"""What the index keeps of a passage."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from backend.database import Database
from backend.documents.index import Index
from backend.identity.caller import Caller
from tests.conftest import query
from tests.documents.indexed import ENTRY, as_passages, axis, indexed, sought, texts, user

pytestmark = pytest.mark.database


@pytest.mark.spec("SEARCH-1")
def test_passages_are_numbered_over_all_documents_of_a_user(database: Database, alice: Caller, bob: Caller) -> None:
    with user(database, alice) as scope:
        for document in range(3):
            indexed(scope, [f"passage {number} of {document}" for number in range(5)])
    with user(database, bob) as scope:
        indexed(scope, ["passage of another"])
        [other] = scope.session.execute(text("select id from chunks")).scalars()

    with user(database, alice) as scope:
        rows = scope.session.execute(text("select id, document_id, chunk_index from chunks order by id")).all()
    assert [tuple(row) for row in rows] == [(place + 1, place // 5 + 1, place % 5) for place in range(15)]
    assert other == 1


@pytest.mark.spec("SEARCH-1")
def test_writers_at_once_get_no_number_twice(database: Database, alice: Caller, superuser_url: str) -> None:
    with user(database, alice) as scope:
        documents = [indexed(scope, []) for _ in range(4)]

    def write(document_id: int) -> None:
        for batch in range(5):
            with user(database, alice) as scope:
                passages = as_passages([f"{batch} {number}" for number in range(7)], [axis(1)] * 7)
                Index(scope).add(document_id, language="english", model_id=1, passages=passages)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, documents))

    found = query(superuser_url, "select id from chunks where user_id = %s order by id", alice.user_id)
    assert [row[0] for row in found] == list(range(1, 141))


@pytest.mark.spec("SEARCH-2")
def test_each_passage_is_kept_with_how_often_it_has_a_word_and_how_long_it_is(
    database: Database, alice: Caller
) -> None:
    with user(database, alice) as scope:
        document_id = indexed(scope, [])
        passages = as_passages(["red red blue", "red green blue yellow", "green"], [axis(1)] * 3)
        added = Index(scope).add(document_id, language="simple", model_id=1, passages=passages)

        rows = scope.session.execute(text("select lexeme, entries from postings order by lexeme")).all()
    assert (added.chunks, added.words) == (3, 8)
    # The passage, how often it has the word, how many words it has.
    assert [(lexeme, list(ENTRY.iter_unpack(entries))) for lexeme, entries in rows] == [
        ("blue", [(1, 1, 3), (2, 1, 4)]),
        ("green", [(2, 1, 4), (3, 1, 1)]),
        ("red", [(1, 2, 3), (2, 1, 4)]),
        ("yellow", [(2, 1, 4)]),
    ]


@pytest.mark.spec("SEARCH-2")
def test_a_large_batch_and_an_empty_one_are_kept_too(database: Database, alice: Caller) -> None:
    many = [f"alike {number}" for number in range(150)]

    with user(database, alice) as scope:
        document_id = indexed(scope, many)
        nothing = Index(scope).add(document_id, language="english", model_id=1, passages=[])
        rows = scope.session.execute(text("select octet_length(entries) from postings where lexeme = 'alik'"))
        found = sought(scope, "alike", limit=200)

    assert (nothing.chunks, nothing.words) == (0, 0)
    assert sum(rows.scalars()) == 150 * ENTRY.size
    assert sorted(texts(found)) == sorted(many)


@pytest.mark.spec("SEARCH-3")
def test_headings_are_found_and_are_no_part_of_the_text(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["Twenty-eight days a year."], headings="Handbook > Holidays")
        indexed(scope, ["Thirty minutes at noon."], headings="Handbook > Breaks")

        [first, _] = sought(scope, "How many holidays are there?").passages

    assert first.text == "Twenty-eight days a year."
    assert first.headings == "Handbook > Holidays"


@pytest.mark.spec("SEARCH-4")
def test_words_are_stemmed_by_their_documents_language(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["Die Häuser stehen am Fluss."], language="german")
        indexed(scope, ["The mills were running."], language="english")
        indexed(scope, ["Die Häuser stehen am See."], language="simple")

        by_words = [passage.text for passage in sought(scope, "Haus").passages if passage.text_score > 0]
        runs = [passage.text for passage in sought(scope, "mill runs").passages if passage.text_score > 0]

    assert by_words == ["Die Häuser stehen am Fluss."]
    assert runs == ["The mills were running."]


@pytest.mark.spec("SEARCH-5")
@pytest.mark.parametrize("letter", ["x", "ß", "語"])
def test_a_word_of_endless_length_does_no_harm(database: Database, alice: Caller, letter: str) -> None:
    chance = random.Random(1)
    # Random ends keep an index row from being compressed.
    endless = letter * 300 + "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1500))

    with user(database, alice) as scope:
        indexed(scope, [f"The turbine {endless}", endless])
        found = sought(scope, "turbine")

    assert texts(found) == [f"The turbine {endless}", endless]


@pytest.mark.spec("SEARCH-6")
def test_all_of_a_document_goes_with_its_row(database: Database, alice: Caller) -> None:
    with user(database, alice) as scope:
        kept, gone = indexed(scope, ["a turbine stays"]), indexed(scope, ["a turbine goes"])

        scope.session.execute(text("delete from documents where id = :id"), {"id": gone})

        for table in ("chunks", "chunk_vectors", "postings"):
            rows = scope.session.execute(text(f"select distinct document_id from {table}"))  # noqa: S608
            assert list(rows.scalars()) == [kept], table
        assert texts(sought(scope, "turbine")) == ["a turbine stays"]
