"""Another user's passages cannot be found by any question, vector or filter."""

import random
from collections.abc import Iterator

import pytest

from backend.documents.embedding.embedder import QueryVector
from backend.documents.language import UNSURE
from backend.documents.search.hybrid import Search
from backend.identity.caller import Caller
from backend.postgres.database import Database, Scope
from tests.documents.indexed import MODEL_ID, axis, indexed, somewhere, sought, user

pytestmark = pytest.mark.database

WORDS = [f"word{number}" for number in range(30)]


def stock(database: Database, caller: Caller, chance: random.Random, *, secret: str) -> None:
    """Give a user passages with the words that all users have, each passage with the user's own word added."""
    with user(database, caller) as scope:
        for _ in range(3):
            passages = [f"{secret} {' '.join(chance.sample(WORDS, 8))}" for _ in range(12)]
            vectors = [somewhere(chance) for _ in passages]
            indexed(scope, passages, vectors=vectors, filename=f"{secret}.txt", headings=secret)


def foreign(scope: Scope, chance: random.Random, *, secret: str, many: int) -> Iterator[str]:
    """Ask random questions, and yield the found texts that do not contain the user's own word."""
    for _ in range(many):
        question = " ".join(chance.sample([*WORDS, "alpha", "beta"], chance.randint(0, 4)))
        chosen = chance.choice([None, None, [1, 2], [3], [4, 5, 6], list(range(1, 40))])
        vector = QueryVector(MODEL_ID, somewhere(chance), unrelated={UNSURE: -1})
        found = Search(scope).find(question, vector, document_ids=chosen, limit=chance.choice([1, 8, 100]))
        # Every user's documents are numbered from 1, so the filter also names other users' documents.
        assert bool(found.passages) == (chosen != [4, 5, 6])
        for passage in found.passages:
            if not passage.text.startswith(secret) or passage.filename != f"{secret}.txt":
                yield passage.text


@pytest.mark.spec("SEARCH-24")
@pytest.mark.parametrize("many", [50, pytest.param(5_000, marks=pytest.mark.long)])
def test_no_question_finds_a_passage_of_another_user(database: Database, alice: Caller, bob: Caller, many: int) -> None:
    chance = random.Random(many)
    stock(database, alice, chance, secret="alpha")
    stock(database, bob, chance, secret="beta")

    for _ in range(max(many // 500, 1)):
        for caller, secret in ((alice, "alpha"), (bob, "beta")):
            with user(database, caller) as scope:
                assert not list(foreign(scope, chance, secret=secret, many=min(many, 500)))


@pytest.mark.spec("SEARCH-24")
def test_a_word_of_another_user_weighs_nothing(database: Database, alice: Caller, bob: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["a turbine", "a kettle"])
        before = sought(scope, "turbine kettle")

    with user(database, bob) as scope:
        indexed(scope, ["turbine " * 3] * 50, language="german", vectors=[axis(0)] * 50)

    with user(database, alice) as scope:
        assert sought(scope, "turbine kettle") == before


@pytest.mark.spec("SEARCH-25")
def test_nothing_is_found_without_a_tenant_or_with_anothers(database: Database, alice: Caller, bob: Caller) -> None:
    with user(database, alice) as scope:
        indexed(scope, ["a turbine"], vectors=[axis(0)])
        assert sought(scope, "turbine").reason is None

    for tenant in (None, bob.user_id):
        # The statements still name alice, so only the policies keep her rows hidden.
        with database.transaction(tenant) as session:
            found = sought(Scope(session, alice.user_id, database.now(), alice.zone), "turbine")
        assert (found.passages, found.reason) == ([], "no_documents")
