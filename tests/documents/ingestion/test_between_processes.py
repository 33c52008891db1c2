"""Who works on which document: between processes, after deaths, and between users."""

import asyncio
import time

import pytest
from anyio.to_thread import run_sync
from sqlalchemy import text

from backend.documents.ingestion.attempt import begin
from backend.documents.ingestion.index_pages import BATCH_PASSAGES
from backend.identity.caller import Caller
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS, LeaseLost
from backend.postgres.database import Database
from tests.documents.desk import (
    UTC,
    Held,
    Shelf,
    TinyEmbedder,
    at_work,
    delete,
    desk,
    keep,
    lapse,
    long_text,
    until,
)
from tests.own_database import OwnDatabase, knowing_everybody


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-4")
def test_two_processes_never_work_on_one_document_and_on_one_user_s_one_by_one(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=1)
    ours, theirs = TinyEmbedder(before=held), TinyEmbedder()

    async def story() -> list[int]:
        numbers = [keep(database, caller, f"Note {number}.") for number in range(4)]
        one, other = desk(database, embedders=[ours], max_concurrent=2), desk(database, embedders=[theirs])
        async with at_work(one):
            await held.until_reached()
            async with at_work(other):
                # The other process has had its chance: it hears of every new document.
                numbers.append(await run_sync(keep, database, caller, "A fifth."))
                other.ingestion.look_now()
                await asyncio.sleep(0.2)
                at_once = shelf.ask("select id from documents where status <> 'pending'")
                assert (at_once, theirs.calls) == ([(numbers[0],)], 0)
                held.let_go.set()
                for number in numbers:
                    await until(shelf.is_("ready", caller, number))
        return numbers

    numbers = asyncio.run(story())

    assert ours.calls + theirs.calls == len(numbers)
    assert [shelf.row(caller, number, "attempt")[0] for number in numbers] == [1] * 5


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-5")
def test_who_has_lost_the_lease_writes_nothing(database: Database, shelf: Shelf, caller: Caller) -> None:
    document_id = keep(database, caller, long_text(BATCH_PASSAGES + 4))
    first, second = desk(database, embedders=[TinyEmbedder()]), desk(database, embedders=[TinyEmbedder()])
    lost = first.leases.claim(begin)
    assert lost is not None
    lapse(shelf)
    taken = second.leases.claim(begin)
    assert taken is not None

    with pytest.raises(LeaseLost):
        first.ingestor.ingest(lost, lambda: False)
    assert shelf.row(caller, document_id, "status, pages_read, chunks") == ("processing", 0, 0)
    assert shelf.ask("select number from document_pages where user_id = %s", caller.user_id) == []
    assert second.ingestor.ingest(taken, lambda: False) == "ready"
    with pytest.raises(LeaseLost):
        first.ingestor.crashed(lost)

    shelf.assert_whole(caller.user_id, document_id)


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-5")
def test_who_is_taken_over_in_the_middle_stops_there_and_nothing_is_double(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    slow, quick = TinyEmbedder(before=held), TinyEmbedder()

    async def story() -> int:
        document_id = keep(database, caller, long_text(3 * BATCH_PASSAGES))
        one = desk(database, embedders=[slow], lease_seconds=60)
        async with at_work(one):
            await held.until_reached()
            assert shelf.row(caller, document_id, "chunks") == (BATCH_PASSAGES,)
            lapse(shelf)
            async with at_work(desk(database, embedders=[quick])):
                await until(shelf.is_("ready", caller, document_id))
            held.let_go.set()
        return document_id

    document_id = asyncio.run(story())

    chunks = shelf.assert_whole(caller.user_id, document_id)
    # The second process embedded what the first had not committed, and the first stopped at its next write.
    assert len(quick.texts) == chunks - BATCH_PASSAGES
    assert slow.calls == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-6")
def test_a_document_that_is_deleted_meanwhile_ends_its_work_and_makes_room_for_the_next(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    embedder = TinyEmbedder(before=held)

    async def story() -> tuple[int, int]:
        gone = keep(database, caller, long_text(6 * BATCH_PASSAGES))
        next_one = keep(database, caller, "The next one.")
        async with at_work(desk(database, embedders=[embedder], lease_seconds=60)):
            await held.until_reached()
            await run_sync(delete, database, caller, gone)
            held.let_go.set()
            await until(shelf.is_("ready", caller, next_one))
        return gone, next_one

    gone, next_one = asyncio.run(story())

    assert shelf.row(caller, gone, "chunks, ended_at") == (BATCH_PASSAGES, None)
    # Two batches of the one that is gone and one of the next: the lease, which has most of a minute to go, is let go.
    assert embedder.calls == 3
    assert shelf.assert_whole(caller.user_id, next_one) == 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-7")
def test_a_document_at_which_five_processes_died_fails(database: Database, shelf: Shelf, caller: Caller) -> None:
    document_id = keep(database, caller, long_text(2))
    one = desk(database, embedders=[TinyEmbedder()])

    class Died(BaseException):
        """What ends a process leaves nothing behind."""

    def dies(_calls: int) -> None:
        raise Died

    dying = desk(database, embedders=[TinyEmbedder(before=dies)])
    for _ in range(MOST_FRUITLESS_ATTEMPTS + 1):
        work = dying.leases.claim(begin)
        assert work is not None
        with pytest.raises(Died):
            dying.ingestor.ingest(work, lambda: False)
        lapse(shelf)
    # The first attempt read the file, which is a step; the five after it came to nothing.
    assert shelf.row(caller, document_id, "attempt, fruitless, is_read") == (6, 5, True)
    last = one.leases.claim(begin)
    assert last is not None
    assert one.ingestor.ingest(last, lambda: False) == "failed"

    assert "5 attempts" in shelf.row(caller, document_id, "reason")[0]


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-8")
def test_a_process_that_goes_down_hands_its_document_to_the_next_at_once(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    first, second = TinyEmbedder(before=held), TinyEmbedder()

    async def story() -> int:
        document_id = keep(database, caller, long_text(4 * BATCH_PASSAGES))
        async with at_work(desk(database, embedders=[first], lease_seconds=60)):
            await held.until_reached()
            asyncio.get_running_loop().call_later(0.1, held.let_go.set)
        row = shelf.row(caller, document_id, "status, lease_owner, lease_until, fruitless, chunks")
        assert row == ("pending", None, None, 0, 2 * BATCH_PASSAGES)
        async with at_work(desk(database, embedders=[second])):
            await until(shelf.is_("ready", caller, document_id))
        return document_id

    document_id = asyncio.run(story())

    assert len(second.texts) == shelf.assert_whole(caller.user_id, document_id) - 2 * BATCH_PASSAGES


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-9")
def test_a_process_without_room_leaves_documents_to_others(database: Database, shelf: Shelf, caller: Caller) -> None:
    async def story() -> int:
        document_id = keep(database, caller, "A note.")
        without = desk(database, embedders=[TinyEmbedder()], max_concurrent=0)
        async with at_work(without):
            without.ingestion.look_now()
            await asyncio.sleep(0.3)
            assert shelf.row(caller, document_id, "status, attempt") == ("pending", 0)
            async with at_work(desk(database, embedders=[TinyEmbedder()])):
                await until(shelf.is_("ready", caller, document_id))
        return document_id

    assert shelf.assert_whole(caller.user_id, asyncio.run(story())) == 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-15")
def test_a_user_s_many_documents_do_not_hold_up_another_user_s(
    own: OwnDatabase, database: Database, shelf: Shelf, caller: Caller
) -> None:
    authenticator = knowing_everybody(database)
    other = authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1])
    held = Held(at=1)

    async def story() -> int:
        many = [keep(database, caller, f"Note {number}.") for number in range(5)]
        async with at_work(desk(database, embedders=[TinyEmbedder(before=held)], max_concurrent=2)):
            await held.until_reached()
            # Only now, so that it is one of the many that is held.
            single = keep(database, other, "The other's.")
            await until(shelf.is_("ready", other, single))
            assert own.query("select count(*)::int from documents where status = 'pending'") == [(4,)]
            held.let_go.set()
            await until(shelf.is_("ready", caller, many[-1]))
        return len(many)

    assert asyncio.run(story()) == 5


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-4")
def test_a_look_is_quick_although_a_user_has_thousands_waiting(
    own: OwnDatabase, database: Database, caller: Caller
) -> None:
    own.query(
        "insert into documents (user_id, id, filename, original_filename, content_type, file_size, sha256) "
        "select %s, n, 'a', 'a', 'text/plain', 1, n::text from generate_series(1, 6000) n",
        caller.user_id,
    )
    own.query("analyze documents")
    one = desk(database, embedders=[TinyEmbedder()], lease_seconds=60)
    assert one.leases.claim(begin) is not None
    began = time.monotonic()
    with database.transaction(None) as session:
        found = session.execute(text("select * from claimable_documents(1, array[]::text[])")).all()
    seconds = time.monotonic() - began

    assert found == []
    assert seconds < 20, "It took 87 seconds without the index."
