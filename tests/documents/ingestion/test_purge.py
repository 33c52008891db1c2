"""Deleted documents are removed for good, beside other work."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from anyio.to_thread import run_sync

from backend.identity.caller import Caller
from backend.jobs import finder, housekeeping
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
from tests.runs.replicas import held
from tests.statements import on_statement

RESTS = (
    "select lease_owner is null and due_at > now() + interval '59 minutes' from chores where id = 'deleted_documents'"
)
PASSES = "select attempt from chores where id = 'deleted_documents'"


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
        shelf.ask("update chores set due_at = now()")
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
    database: Database, shelf: Shelf, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(housekeeping, "LOOK_SECONDS", 0.1)
    is_reading = True

    async def story() -> None:
        document_id = keep(database, caller, "A note.")
        one = desk(database, embedders=[TinyEmbedder()], forget=lambda _scope, _id: not is_reading)
        async with at_work(one):
            await until(shelf.is_("ready", caller, document_id))
            await run_sync(delete, database, caller, document_id)
            assert await run_sync(one.purge.one, caller.user_id, document_id) is False
            assert shelf.row(caller, document_id, "chunks") == (1,)
            passes = shelf.ask(PASSES)
            one.housekeeper.look_now()
            await until(lambda: shelf.ask(PASSES) != passes)
            assert shelf.row(caller, document_id, "chunks") == (1,)
            nonlocal is_reading
            is_reading = False
            # Nothing tells of the end of the run: it is looked for.
            await until(lambda: not shelf.ask("select id from documents where user_id = %s", caller.user_id))
        assert one.purge.is_put_off is False

    asyncio.run(story())


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("FORGET-2")
def test_a_purge_that_waits_is_not_tried_again_and_again(
    database: Database, shelf: Shelf, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LOOK_SECONDS", 3600)

    async def story() -> None:
        document_id = keep(database, caller, "A note.")
        one = desk(database, embedders=[TinyEmbedder()], keep_deleted=timedelta(0), forget=lambda _scope, _id: False)
        async with at_work(one):
            await until(shelf.is_("ready", caller, document_id))
            await run_sync(delete, database, caller, document_id)
            shelf.ask("update chores set due_at = now()")
            looks: list[str] = []
            on_statement(database, lambda asked: looks.append(asked) if "claimable_chores" in asked else None)
            one.housekeeper.look_now()
            await until(lambda: one.purge.is_put_off)
            [(passes,)] = shelf.ask(PASSES)
            for times in (2, 3, 4):
                one.housekeeper.look_now()
                await until(partial(_has, looks, times))
            assert shelf.ask(PASSES) in ([(passes,)], [(passes + 1,)])

    asyncio.run(story())


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("CHORE-3")
def test_a_document_that_cannot_be_purged_keeps_no_other_and_is_not_tried_again_at_once(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    async def story() -> None:
        stuck, other = [keep(database, caller, f"Note {number}.") for number in range(2)]
        one = desk(database, embedders=[TinyEmbedder()], keep_deleted=timedelta(0))
        async with at_work(one):
            for number in (stuck, other):
                await until(shelf.is_("ready", caller, number))
                await run_sync(delete, database, caller, number)
            with held(shelf.url, "select 1 from chunks where document_id = %s for update", stuck):
                shelf.ask("update chores set due_at = now()")
                one.housekeeper.look_now()
                await until(lambda: shelf.ask(RESTS) == [(True,)])
                assert shelf.ask("select id from documents") == [(stuck,)]
                # The process does not try it every few seconds, as it does while a run uses the document.
                assert one.purge.is_put_off is False
            shelf.ask("update chores set due_at = now()")
            one.housekeeper.look_now()
            await until(lambda: shelf.ask("select id from documents") == [])

    asyncio.run(story())


def _has(looks: list[str], least: int) -> bool:
    return len(looks) >= least
