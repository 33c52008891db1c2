"""How search works for a user with very many passages."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from backend.documents.embedding import hnsw
from backend.documents.search import vectors
from backend.identity.caller import Caller
from backend.postgres.database import Database, Scope
from tests.conftest import query
from tests.documents.indexed import axis, indexed, somewhere, sought, texts, user


@pytest.mark.spec("SEARCH-19", "SEARCH-20", "SEARCH-21")
def test_a_large_user_is_searched_by_the_approximate_index(
    database: Database, alice: Caller, bob: Caller, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(6)
    for caller, many in ((alice, 120), (bob, 180)):
        with user(database, caller) as scope:
            indexed(scope, [str(number) for number in range(many)], vectors=[somewhere(chance) for _ in range(many)])
    questions = [somewhere(chance) for _ in range(10)]

    with hnsw_index(superuser_url) as index, user(database, alice) as scope:
        exact = [texts(sought(scope, "", asked, limit=30, unrelated=-1)) for asked in questions]
        assert scans(scope, index) == 0

        monkeypatch.setattr(vectors, "EXACT_UP_TO", 119)
        approximate = [sought(scope, "", asked, limit=30, unrelated=-1) for asked in questions]
        assert scans(scope, index) == 10
        # The graph is built by chance, so one question may miss more than another.
        found = sum(len(set(texts(some)) & set(all_)) for some, all_ in zip(approximate, exact, strict=True))
        assert found >= 10 * 24
        for each in approximate:
            cosines = [passage.vector_score or 0 for passage in each.passages]
            assert cosines == sorted(cosines, reverse=True)

        # The index gives up before it has seen all of the user's rows, and then every embedding is compared.
        scope.session.execute(text("set local hnsw.max_scan_tuples = 1"))
        whole = sought(scope, "", questions[0], limit=120, unrelated=-1)
        assert scans(scope, index) == 11
        assert len(whole.passages) == 120


@pytest.mark.spec("SEARCH-20", "SEARCH-21")
@pytest.mark.parametrize(
    "spoil",
    [
        "update pg_index set indisvalid = false where indexrelid = %s::regclass",
        "update pg_class set reltuples = 1e9 where oid = %s::regclass",
    ],
    ids=["not complete", "nearly all others'"],
)
def test_an_index_that_is_of_no_use_is_not_taken(
    database: Database, alice: Caller, superuser_url: str, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["one", "two"], vectors=[axis(1), axis(2)])
    monkeypatch.setattr(vectors, "EXACT_UP_TO", 1)

    with hnsw_index(superuser_url) as index:
        query(superuser_url, spoil, index)
        with user(database, alice) as scope:
            assert texts(sought(scope, "", axis(1))) == ["one", "two"]
            assert scans(scope, index) == 0


@pytest.mark.slow
@pytest.mark.spec("SEARCH-22")
def test_the_approximate_index_misses_little(
    database: Database, alice: Caller, bob: Caller, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    topics = [somewhere(chance) for _ in range(40)]
    for caller, many in ((alice, 800), (bob, 1_200)):
        with user(database, caller) as scope:
            indexed(
                scope, [str(number) for number in range(many)], vectors=[about(topics, chance) for _ in range(many)]
            )
    questions = [about(topics, chance) for _ in range(50)]

    with hnsw_index(superuser_url) as index, user(database, alice) as scope:
        exact = [set(texts(sought(scope, "", question, limit=10))) for question in questions]
        monkeypatch.setattr(vectors, "EXACT_UP_TO", 0)
        approximate = [set(texts(sought(scope, "", question, limit=10))) for question in questions]
        assert scans(scope, index) == 50

    assert sum(len(one & other) for one, other in zip(exact, approximate, strict=True)) >= 0.95 * 500


def about(topics: list[list[float]], chance: random.Random) -> list[float]:
    """Return a unit vector near a random topic, as passages with similar content have."""
    mixed = [0.8 * one + 0.6 * other for one, other in zip(chance.choice(topics), somewhere(chance), strict=True)]
    length = math.hypot(*mixed)
    return [value / length for value in mixed]


@contextmanager
def hnsw_index(superuser_url: str) -> Iterator[str]:
    """Create the approximate index of the model in use until the test ends; yield its name."""
    name = hnsw.index_name(1)
    query(superuser_url, hnsw.index_ddl(1, 384))
    try:
        yield name
    finally:
        query(superuser_url, f"drop index {name}")


def scans(scope: Scope, name: str) -> int:
    """Return how often this transaction has used an index."""
    counted = text("select pg_stat_get_xact_numscans(cast(:name as regclass))")
    return int(scope.session.execute(counted, {"name": name}).scalar_one())
