"""Deleted documents are removed for good, beside other work."""

import asyncio
from datetime import timedelta

import pytest
from anyio.to_thread import run_sync

from backend.identity.caller import Caller
from backend.postgres.database import Database
from tests.documents.desk import (
    Shelf,
    TinyEmbedder,
    at_work,
    delete,
    desk,
    keep,
    until,
)


@pytest.mark.database
@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("FORGET-3")
def test_housekeeping_removes_what_was_deleted_long_ago_the_oldest_first(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    days = timedelta(days=30)

    async def story() -> list[int]:
        numbers = [keep(database, caller, f"Note {number}.") for number in range(3)]
        one = desk(database, embedders=[TinyEmbedder()], keep_deleted=days)
        async with at_work(one):
            for number in numbers:
                await until(shelf.is_("ready", caller, number))
        for number, age in zip(numbers, ("29 days 23 hours", "30 days 1 hour"), strict=False):
            await run_sync(delete, database, caller, number)
            shelf.ask(f"update documents set deleted_at = now() - interval '{age}' where id = %s", number)  # noqa: S608
        async with at_work(desk(database, embedders=[TinyEmbedder()], keep_deleted=days)):
            await until(lambda: len(shelf.ask("select id from documents where user_id = %s", caller.user_id)) == 2)
        return numbers

    first, second, third = asyncio.run(story())

    left = shelf.ask("select id from documents where user_id = %s order by id", caller.user_id)
    assert left == [(first,), (third,)]
    for table in ("chunks", "chunk_vectors", "postings", "document_pages", "document_bytes"):
        of = shelf.ask(f"select distinct document_id from {table} order by 1")  # noqa: S608
        assert of == [(first,), (third,)], table
    assert second not in (first, third)


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("FORGET-2")
def test_a_purge_that_has_to_wait_for_a_run_is_done_as_soon_as_the_run_has_ended(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    is_reading = True

    async def story() -> None:
        document_id = keep(database, caller, "A note.")
        one = desk(database, embedders=[TinyEmbedder()], forget=lambda _scope, _id: not is_reading)
        async with at_work(one):
            await until(shelf.is_("ready", caller, document_id))
            await run_sync(delete, database, caller, document_id)
            assert await run_sync(one.purge.one, caller.user_id, document_id) is False
            assert shelf.row(caller, document_id, "chunks") == (1,)
            nonlocal is_reading
            is_reading = False
            # The end of a run is news.
            one.ingestion.heard("news", "a run")
            await until(lambda: not shelf.ask("select id from documents where user_id = %s", caller.user_id))
        assert one.purge.is_put_off is False

    asyncio.run(story())
