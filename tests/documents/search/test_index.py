"""What the index stores for a passage."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from backend.documents.search.holdings import Library
from backend.documents.search.index import Index, literal
from backend.documents.search.vectors import nearest
from backend.identity.caller import Caller
from backend.postgres.database import Database, make_engine
from tests.conftest import query
from tests.documents.indexed import ENTRY, MODEL_ID, as_passages, axis, indexed, sought, texts, user

pytestmark = pytest.mark.database

STATISTICS = {"none": -1, "of an empty table": 0}
"""The number of rows PostgreSQL assumes for the table, from before it was filled."""
CASCADE = "delete from only chunk_vectors v where $1 = v.user_id and $2 = v.chunk_id"
"""The statement that the foreign key runs for each deleted passage."""
OTHER_MODEL = """
insert into chunk_vectors (user_id, model_id, chunk_id, document_id, embedding)
select user_id, 2, chunk_id, document_id, embedding from chunk_vectors
"""
READS = """
select pg_stat_get_xact_numscans('pk_chunk_vectors'::regclass) as scans,
       -- They are counted at the index, or at the table after a bitmap.
       pg_stat_get_xact_tuples_fetched('pk_chunk_vectors'::regclass)
           + pg_stat_get_xact_tuples_fetched('chunk_vectors'::regclass) as rows,
       pg_stat_get_xact_tuples_returned('chunk_vectors'::regclass) as rows_without_index
"""
"""What this connection has read of the vectors since its counts were last collected."""


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
    # Random endings keep an index row from being compressed.
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


@pytest.mark.spec("SEARCH-31")
@pytest.mark.parametrize("rows", STATISTICS.values(), ids=STATISTICS)
def test_vectors_are_looked_up_by_the_key_whatever_the_statistics(
    database: Database, alice: Caller, superuser_url: str, rows: int
) -> None:
    many = 300
    with user(database, alice) as scope:
        indexed(scope, [str(number) for number in range(many)])
        scope.session.execute(text(OTHER_MODEL))

    with old_statistics(superuser_url, rows):
        # Deleting a passage reads its own vectors by the key, and not all of the user's vectors.
        assert columns_of(superuser_url, index_of_a_deletion(superuser_url))[:2] == ["user_id", "chunk_id"]

        # A search reads one model's rows, in one scan.
        values = {"user_id": alice.user_id, "model_id": MODEL_ID, "vector": literal(axis(0)), "document_ids": None}
        library = Library(passages={"english": many}, words=many, sought=many)
        with user(database, alice) as scope:
            before = scope.session.execute(text(READS)).one()
            assert len(nearest(scope.session, library, values, most=5)) == 5
            after = scope.session.execute(text(READS)).one()
        assert [late - early for early, late in zip(before, after, strict=True)] == [1, many, 0]


@contextmanager
def old_statistics(superuser_url: str, rows: int) -> Iterator[None]:
    """Keep PostgreSQL's statistics of the vectors' table outdated until the block ends."""
    query(superuser_url, "alter table chunk_vectors set (autovacuum_enabled = off)")
    try:
        query(superuser_url, "delete from pg_statistic where starelid = 'chunk_vectors'::regclass")
        query(superuser_url, "update pg_class set reltuples = %s, relpages = 0 where relname = 'chunk_vectors'", rows)
        yield
    finally:
        query(superuser_url, "alter table chunk_vectors reset (autovacuum_enabled)")


def index_of_a_deletion(superuser_url: str) -> str:
    """Return the name of the index that the foreign key uses to find a deleted passage's vectors."""
    engine = make_engine(superuser_url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("set local plan_cache_mode = force_generic_plan")
            connection.exec_driver_sql(f"prepare cascade (varchar, integer) as {CASCADE}")
            plans = connection.exec_driver_sql("explain (format json) execute cascade ('', 0)").scalar_one()
    finally:
        engine.dispose()
    [scan] = plans[0]["Plan"]["Plans"]
    return str(scan["Index Name"])


def columns_of(superuser_url: str, index: str) -> list[str]:
    """Return the columns of an index, in order."""
    columns = query(
        superuser_url,
        "select a.attname::text from pg_index i, unnest(i.indkey) with ordinality as k (number, place), pg_attribute a "
        "where i.indexrelid = %s::regclass and a.attrelid = i.indrelid and a.attnum = k.number order by k.place",
        index,
    )
    return [name for (name,) in columns]
