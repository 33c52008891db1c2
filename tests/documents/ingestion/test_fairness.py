"""One process with one slot, and documents of several users: a long one pauses, and everybody's come on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from backend.documents.ingestion.attempt import begin
from backend.documents.ingestion.index_pages import SLICE_PASSAGES
from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.documents.desk import (
    UTC,
    Held,
    Shelf,
    TinyEmbedder,
    at_work,
    desk,
    keep,
    lapse,
    long_text,
    until,
)
from tests.own_database import OwnDatabase, knowing_everybody, opened
from tests.statements import on_statement

pytestmark = pytest.mark.usefixtures("tiny")

CHAPTER = "# Chapter {}\n\n## Rules of the harbor\n\n"
LONG = "\n\n".join(CHAPTER.format(number) + long_text(150) for number in range(2))
"""Some 300 passages under headings that go on over its pages."""
MARKDOWN: dict[str, Any] = {"name": "rules.md", "content_type": "text/markdown"}
HEADED = "select content, headings from chunks where user_id = %s and document_id = %s order by chunk_index"


@pytest.fixture
def others(database: Database, caller: Caller) -> Callable[[], Caller]:  # noqa: ARG001  # It deletes all users first.
    """Makes further users."""
    authenticator = knowing_everybody(database)
    return lambda: authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1])


def place(embedder: TinyEmbedder, words: str) -> int:
    """Return how many passages were embedded before the one with these words."""
    return next(number for number, text in enumerate(embedder.texts) if words in text)


@pytest.mark.spec("ING-18")
def test_a_long_document_pauses_for_another_user_s_and_goes_on_where_it_was(
    database: Database, shelf: Shelf, caller: Caller, others: Callable[[], Caller]
) -> None:
    ben, held = others(), Held(at=1)
    embedder = TinyEmbedder(before=held)

    async def story() -> tuple[int, int, int]:
        long = keep(database, caller, LONG, **MARKDOWN)
        own_next = keep(database, caller, "Another note of hers.")
        async with at_work(desk(database, embedders=[embedder], lease_seconds=60)):
            await held.until_reached()
            short = keep(database, ben, "Ben's note.")
            held.let_go.set()
            await until(shelf.is_("ready", ben, short))
            await until(shelf.is_("ready", caller, long))
            await until(shelf.is_("ready", caller, own_next))
        return long, short, own_next

    long, short, own_next = asyncio.run(story())

    chunks = shelf.assert_whole(caller.user_id, long)
    assert chunks > 4 * SLICE_PASSAGES
    assert place(embedder, "Ben's note.") == SLICE_PASSAGES
    # Each passage once, in spite of the pause.
    assert len(embedder.texts) == chunks + 2
    assert shelf.row(caller, long, "attempt, fruitless, lease_owner") == (2, 0, None)
    assert [shelf.row(ben, short, "attempt"), shelf.row(caller, own_next, "attempt")] == [(1,), (1,)]
    # The headings are those of a document that was never paused.
    alone = others()

    async def undisturbed() -> int:
        document_id = keep(database, alone, LONG, **MARKDOWN)
        async with at_work(desk(database, embedders=[TinyEmbedder()])):
            await until(shelf.is_("ready", alone, document_id))
        return document_id

    document_id = asyncio.run(undisturbed())
    assert shelf.row(alone, document_id, "attempt") == (1,)
    assert shelf.ask(HEADED, caller.user_id, long) == shelf.ask(HEADED, alone.user_id, document_id)


@pytest.mark.spec("ING-18")
def test_long_documents_take_turns_and_a_short_one_waits_for_one_slice_of_each(
    database: Database, shelf: Shelf, caller: Caller, others: Callable[[], Caller]
) -> None:
    ben, carla, held = others(), others(), Held(at=1)
    embedder = TinyEmbedder(before=held)

    async def story() -> tuple[int, int]:
        first = keep(database, caller, f"First.\n\n{LONG}")
        async with at_work(desk(database, embedders=[embedder], lease_seconds=60)):
            await held.until_reached()
            second = keep(database, ben, f"Second.\n\n{LONG}")
            third = keep(database, carla, "Carla's note.")
            held.let_go.set()
            await until(shelf.is_("ready", carla, third))
            await until(shelf.is_("ready", caller, first))
            await until(shelf.is_("ready", ben, second))
        return first, second

    first, second = asyncio.run(story())

    assert place(embedder, "Carla's note.") == 2 * SLICE_PASSAGES
    assert shelf.assert_whole(caller.user_id, first) == shelf.assert_whole(ben.user_id, second)


@pytest.mark.spec("ING-18")
def test_a_user_s_many_long_documents_hold_up_another_user_s_by_one_slice(
    database: Database, shelf: Shelf, caller: Caller, others: Callable[[], Caller]
) -> None:
    ben, held = others(), Held(at=1)
    embedder = TinyEmbedder(before=held)

    async def story() -> None:
        for number in range(4):
            keep(database, caller, f"Number {number}.\n\n{long_text(2 * SLICE_PASSAGES)}")
        async with at_work(desk(database, embedders=[embedder], lease_seconds=60)):
            await held.until_reached()
            short = keep(database, ben, "Ben's note.")
            held.let_go.set()
            await until(shelf.is_("ready", ben, short))

    asyncio.run(story())

    assert place(embedder, "Ben's note.") == SLICE_PASSAGES


@pytest.mark.spec("ING-18")
def test_a_process_that_dies_in_a_pause_leaves_both_documents_to_the_next(
    database: Database, shelf: Shelf, caller: Caller, others: Callable[[], Caller]
) -> None:
    ben, embedder = others(), TinyEmbedder()
    long, short = keep(database, caller, LONG), keep(database, ben, "Ben's note.")
    dying = desk(database, embedders=[TinyEmbedder()])

    class Died(BaseException):
        """What ends a process leaves nothing behind."""

    def dies() -> bool:
        assert dying.leases.claim(begin) is not None
        raise Died

    work = dying.leases.claim(begin)
    assert work is not None
    with pytest.raises(Died):
        dying.ingestor.ingest(work, lambda: False, dies)
    assert shelf.row(caller, long, "status, chunks") == ("processing", SLICE_PASSAGES)
    assert shelf.row(ben, short, "status, attempt") == ("processing", 1)
    lapse(shelf)

    async def next_process() -> None:
        async with at_work(desk(database, embedders=[embedder])):
            await until(shelf.is_("ready", ben, short))
            await until(shelf.is_("ready", caller, long))

    asyncio.run(next_process())

    chunks = shelf.assert_whole(caller.user_id, long)
    assert len(embedder.texts) == chunks - SLICE_PASSAGES + shelf.assert_whole(ben.user_id, short)


@pytest.mark.spec("ING-18")
def test_a_process_that_goes_down_in_a_pause_hands_back_both_documents(
    own: OwnDatabase, shelf: Shelf, caller: Caller, others: Callable[[], Caller]
) -> None:
    ben, held = others(), Held(at=1)
    pausing, go_on = threading.Event(), threading.Event()

    def heard(statement: str) -> None:
        if "lease_owner = null, lease_until = null, status" in statement:
            pausing.set()
            go_on.wait(30)

    async def story(database: Database) -> tuple[int, int]:
        long = keep(database, caller, LONG)
        one = desk(database, embedders=[TinyEmbedder(before=held)], lease_seconds=60)
        async with at_work(one):
            await held.until_reached()
            short = keep(database, ben, "Ben's note.")
            held.let_go.set()
            await until(pausing.is_set)
            one.ingestion.stop_claiming()
            go_on.set()
        return long, short

    with opened(own.url) as database:
        on_statement(database, heard)
        long, short = asyncio.run(story(database))

    assert shelf.row(caller, long, "status, lease_owner, fruitless, chunks") == ("pending", None, 0, SLICE_PASSAGES)
    assert shelf.row(ben, short, "status, lease_owner, lease_until, fruitless") == ("pending", None, None, 0)
