"""Ingestion in one process and between two, up to every end it can have."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync
from sqlalchemy import text

from backend.database import Database
from backend.documents import ingesting
from backend.documents.embedding import EmbeddingFailed, EmbeddingRefused
from backend.documents.reading import Stopped, read
from backend.documents.repository import DocumentRepository
from backend.embedded_postgres import EmbeddedPostgres
from backend.identity.caller import Caller
from backend.leases import MOST_FRUITLESS_ATTEMPTS, LeaseLost
from tests.documents.files import PDF, PICTURE, TEXT, pdf
from tests.documents.ingesting import (
    UTC,
    Held,
    Shelf,
    TinyEmbedder,
    assert_rising,
    at_work,
    desk,
    keep,
    long_text,
    model_in_use,
    until,
    use,
)
from tests.own_database import OwnDatabase, knowing_everybody, opened, own_database

BATCH = ingesting.BATCH_PASSAGES


@pytest.fixture(scope="module")
def own(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[OwnDatabase]:
    with own_database(cluster, template, f"ingestion_{worker_id}") as made:
        yield made


@pytest.fixture(scope="module")
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def shelf(own: OwnDatabase) -> Shelf:
    return Shelf(own.superuser_url)


@pytest.fixture
def caller(own: OwnDatabase, database: Database) -> Caller:
    """The only user there is: nobody else's documents are in the way."""
    own.query("delete from users")
    authenticator = knowing_everybody(database)
    return authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1])


@pytest.fixture
def tiny(shelf: Shelf, caller: Caller) -> Iterator[None]:  # noqa: ARG001  # Users' vectors are gone by then.
    """Have the tiny model in use."""
    with model_in_use(shelf, "tiny", TinyEmbedder.dim):
        yield


def delete(database: Database, caller: Caller, document_id: int) -> None:
    with database.scope(caller.user_id, UTC) as scope:
        DocumentRepository(scope).delete(document_id)


def lapse(shelf: Shelf) -> None:
    """Make every lease run out, as those of a dead process do."""
    shelf.ask("update documents set lease_until = now() - interval '1 second' where lease_until is not null")


@pytest.mark.spec("ING-1", "ING-2")
def test_a_file_becomes_pages_passages_and_vectors_and_is_ready(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    pages = [f"# Chapter {number}\n\nThe harbor closes at {number} in the evening." for number in range(1, 25)]
    seen: list[tuple[Any, ...]] = []

    async def story() -> int:
        document_id = keep(database, caller, pdf(*pages, title="Harbor rules"), name="rules.pdf", content_type=PDF)
        columns = "status, pages, pages_read, pages_cut, chunks"

        def is_ready() -> bool:
            seen.append(shelf.row(caller, document_id, columns))
            return bool(seen[-1][0] == "ready")

        async with at_work(desk(database)):
            await until(is_ready)
        return document_id

    document_id = asyncio.run(story())

    assert shelf.assert_whole(caller.user_id, document_id) >= 24
    assert [page for _, page, *_ in shelf.passages(caller, document_id)] == list(range(1, 25))
    row = shelf.row(caller, document_id, "title, has_pages, language, reason, lease_owner, lease_until, pages")
    assert row == ("Harbor rules", True, "english", None, None, None, 24)
    # Whoever looks sees it come on: 20 pages are stored at once, and 16 passages.
    for place in (2, 3, 4):
        assert_rising([row[place] for row in seen])
    assert {row[1] for row in seen} <= {None, 24}


@pytest.mark.spec("ING-3")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pdf(PICTURE, PICTURE), "OCR"),
        (b"%PDF-1.7 and then nothing of it", "damaged"),
        (pdf("A secret.", password="secret"), "password"),
    ],
    ids=["scanned", "damaged", "encrypted"],
)
def test_what_cannot_be_read_fails_with_a_reason_and_is_not_tried_again(
    database: Database, shelf: Shelf, caller: Caller, content: bytes, words: str
) -> None:
    async def story() -> int:
        document_id = keep(database, caller, content, name="file.pdf", content_type=PDF)
        async with at_work(desk(database)):
            await until(shelf.is_("failed", caller, document_id))
        return document_id

    document_id = asyncio.run(story())

    reason, attempt, owner, ended = shelf.row(caller, document_id, "reason, attempt, lease_owner, ended_at")
    assert words in reason
    assert reason.endswith(".")
    assert (attempt, owner) == (1, None)
    assert ended is not None
    assert shelf.passages(caller, document_id) == []


@pytest.mark.spec("ING-3")
def test_a_file_is_read_and_named_as_scanned_although_its_first_half_was_read_before(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    # What an attempt finds out about the pages that it reads is not all that there is to know.
    document_id = keep(database, caller, pdf("Some text.", PICTURE), name="half.pdf", content_type=PDF)
    shelf.ask(
        "insert into document_pages (user_id, document_id, number, content) values (%s, %s, 1, 'Some text.')",
        caller.user_id,
        document_id,
    )
    shelf.ask("update documents set pages_read = 1 where user_id = %s", caller.user_id)

    async def story() -> None:
        async with at_work(desk(database)):
            await until(shelf.is_("ready", caller, document_id))

    asyncio.run(story())

    scanned = shelf.ask("select is_scanned from document_pages where user_id = %s order by number", caller.user_id)
    assert scanned == [(False,), (True,)]
    assert shelf.assert_whole(caller.user_id, document_id) == 1


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
                # The other one has looked: its lookout is told of each new document.
                numbers.append(await run_sync(keep, database, caller, "A fifth."))
                other.ingestion.notice()
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
    document_id = keep(database, caller, long_text(BATCH + 4))
    first, second = desk(database, embedders=[TinyEmbedder()]), desk(database, embedders=[TinyEmbedder()])
    lost = first.leases.claim(first.ingestor.begin)
    assert lost is not None
    lapse(shelf)
    taken = second.leases.claim(second.ingestor.begin)
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
        document_id = keep(database, caller, long_text(3 * BATCH))
        one = desk(database, embedders=[slow], lease_seconds=60)
        async with at_work(one):
            await held.until_reached()
            assert shelf.row(caller, document_id, "chunks") == (BATCH,)
            lapse(shelf)
            async with at_work(desk(database, embedders=[quick])):
                await until(shelf.is_("ready", caller, document_id))
            held.let_go.set()
        return document_id

    document_id = asyncio.run(story())

    chunks = shelf.assert_whole(caller.user_id, document_id)
    # The second process embedded what the first had not committed, and the first stopped at its next write.
    assert len(quick.texts) == chunks - BATCH
    assert slow.calls == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-6")
def test_a_document_that_is_deleted_meanwhile_ends_its_work_and_makes_room_for_the_next(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    embedder = TinyEmbedder(before=held)

    async def story() -> tuple[int, int]:
        gone = keep(database, caller, long_text(6 * BATCH))
        next_one = keep(database, caller, "The next one.")
        async with at_work(desk(database, embedders=[embedder], lease_seconds=60)):
            await held.until_reached()
            await run_sync(delete, database, caller, gone)
            held.let_go.set()
            await until(shelf.is_("ready", caller, next_one))
        return gone, next_one

    gone, next_one = asyncio.run(story())

    assert shelf.row(caller, gone, "chunks, ended_at") == (BATCH, None)
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
        work = dying.leases.claim(dying.ingestor.begin)
        assert work is not None
        with pytest.raises(Died):
            dying.ingestor.ingest(work, lambda: False)
        lapse(shelf)
    # The first attempt read the file, which is a step; the five after it came to nothing.
    assert shelf.row(caller, document_id, "attempt, fruitless, is_read") == (6, 5, True)
    last = one.leases.claim(one.ingestor.begin)
    assert last is not None
    assert one.ingestor.ingest(last, lambda: False) == "failed"

    assert "5 attempts" in shelf.row(caller, document_id, "reason")[0]


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-7")
def test_to_begin_reading_is_no_step(
    database: Database, shelf: Shelf, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = keep(database, caller, long_text(2))
    one = desk(database, embedders=[TinyEmbedder()])

    class Died(BaseException):
        """What ends a process leaves nothing behind."""

    def dies(*_: object) -> None:
        raise Died

    # The process dies after it was told what the file is, and before a page is stored.
    monkeypatch.setattr(one.ingestor, "_store", dies)
    for _ in range(MOST_FRUITLESS_ATTEMPTS):
        work = one.leases.claim(one.ingestor.begin)
        assert work is not None
        with pytest.raises(Died):
            one.ingestor.ingest(work, lambda: False)
        lapse(shelf)

    assert shelf.row(caller, document_id, "fruitless, has_pages") == (MOST_FRUITLESS_ATTEMPTS, False)
    last = one.leases.claim(one.ingestor.begin)
    assert last is not None
    assert last.lease.is_hopeless


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-8")
def test_a_process_that_goes_down_hands_its_document_to_the_next_at_once(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    first, second = TinyEmbedder(before=held), TinyEmbedder()

    async def story() -> int:
        document_id = keep(database, caller, long_text(4 * BATCH))
        async with at_work(desk(database, embedders=[first], lease_seconds=60)):
            await held.until_reached()
            asyncio.get_running_loop().call_later(0.1, held.let_go.set)
        row = shelf.row(caller, document_id, "status, lease_owner, lease_until, fruitless, chunks")
        assert row == ("pending", None, None, 0, 2 * BATCH)
        async with at_work(desk(database, embedders=[second])):
            await until(shelf.is_("ready", caller, document_id))
        return document_id

    document_id = asyncio.run(story())

    assert len(second.texts) == shelf.assert_whole(caller.user_id, document_id) - 2 * BATCH


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-8")
def test_a_process_that_goes_down_does_not_wait_for_a_provider_that_hangs(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=1)

    async def story() -> tuple[int, float]:
        document_id = keep(database, caller, "A note.")
        async with at_work(desk(database, embedders=[TinyEmbedder(before=held)], lease_seconds=60)):
            await held.until_reached()
            began = asyncio.get_running_loop().time()
        return document_id, asyncio.get_running_loop().time() - began

    document_id, seconds = asyncio.run(story())
    held.let_go.set()

    assert seconds < 4
    assert shelf.row(caller, document_id, "status, lease_owner, lease_until") == ("pending", None, None)


@pytest.mark.spec("ING-8")
def test_reading_ends_soon_after_it_is_told_to_although_the_child_says_nothing(tmp_path: Path) -> None:
    file, silent, told = tmp_path / "file", tmp_path / "silent.py", tmp_path / "told"
    file.write_text("Some text.")
    silent.write_text(f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    began: list[float] = []

    def is_stopped() -> bool:
        if told.exists() and told.read_text():
            began.append(time.monotonic())
        return bool(began)

    with pytest.raises(Stopped):
        next(read(file, TEXT, program=silent, is_stopped=is_stopped))

    assert time.monotonic() - began[0] < 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-9")
def test_a_process_without_room_leaves_documents_to_others(database: Database, shelf: Shelf, caller: Caller) -> None:
    async def story() -> int:
        document_id = keep(database, caller, "A note.")
        without = desk(database, embedders=[TinyEmbedder()], max_concurrent=0)
        async with at_work(without):
            without.ingestion.notice()
            await asyncio.sleep(0.3)
            assert shelf.row(caller, document_id, "status, attempt") == ("pending", 0)
            async with at_work(desk(database, embedders=[TinyEmbedder()])):
                await until(shelf.is_("ready", caller, document_id))
        return document_id

    assert shelf.assert_whole(caller.user_id, asyncio.run(story())) == 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-10")
def test_while_the_provider_is_away_a_document_is_put_off_and_never_given_up(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    def away(_calls: int) -> None:
        raise EmbeddingFailed("The provider does not answer.", retry_after=1)

    away_from = TinyEmbedder(before=away)

    async def story() -> int:
        document_id = keep(database, caller, "A note.")
        async with at_work(desk(database, embedders=[away_from])):
            await until(lambda: shelf.row(caller, document_id, "is_read, lease_owner") == (True, None))
            assert shelf.row(caller, document_id) == ("processing", None)
        return document_id

    document_id = asyncio.run(story())
    one = desk(database, embedders=[away_from])
    for _ in range(2 * MOST_FRUITLESS_ATTEMPTS):
        lapse(shelf)
        work = one.leases.claim(one.ingestor.begin)
        assert work is not None
        assert not work.lease.is_hopeless
        with pytest.raises(EmbeddingFailed):
            one.ingestor.ingest(work, lambda: False)
        one.ingestor.spare(work.lease)
        one.leases.put_off(work.lease)
        [(wait,)] = shelf.ask("select extract(epoch from lease_until - now())::float from documents")
        assert wait <= 8
    assert shelf.row(caller, document_id) == ("processing", None)
    lapse(shelf)

    async def back() -> None:
        async with at_work(desk(database, embedders=[TinyEmbedder()])):
            await until(shelf.is_("ready", caller, document_id))

    asyncio.run(back())
    assert shelf.assert_whole(caller.user_id, document_id) == 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-10")
def test_a_provider_that_refuses_fails_the_document_with_its_sentence(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    def refuses(_calls: int) -> None:
        raise EmbeddingRefused("The provider refused our key. Whoever runs this service has to check it.")

    async def story() -> int:
        document_id = keep(database, caller, "A note.")
        async with at_work(desk(database, embedders=[TinyEmbedder(before=refuses)])):
            await until(shelf.is_("failed", caller, document_id))
        return document_id

    assert "refused our key" in shelf.row(caller, asyncio.run(story()), "reason")[0]


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-11")
def test_a_defect_of_ours_fails_the_document_and_the_next_one_is_read(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    def breaks(calls: int) -> None:
        if calls == 1:
            raise ZeroDivisionError

    async def story() -> tuple[int, int]:
        first, second = keep(database, caller, "A note."), keep(database, caller, "Another.")
        async with at_work(desk(database, embedders=[TinyEmbedder(before=breaks)])):
            await until(shelf.is_("ready", caller, second))
        return first, second

    first, second = asyncio.run(story())

    status, reason = shelf.row(caller, first)
    assert (status, "on our side" in reason) == ("failed", True)
    assert shelf.assert_whole(caller.user_id, second) == 1
    assert "ZeroDivision" not in reason


@pytest.mark.spec("ING-12")
def test_a_model_that_comes_into_use_meanwhile_embeds_the_batch_anew(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    old, new = TinyEmbedder("old", before=held), TinyEmbedder("new")

    async def story() -> int:
        document_id = keep(database, caller, long_text(3 * BATCH))
        async with at_work(desk(database, embedders=[old, new])):
            await held.until_reached()
            await run_sync(use, shelf, "new", new.dim)
            held.let_go.set()
            await until(shelf.is_("ready", caller, document_id))
        return document_id

    with model_in_use(shelf, "old", old.dim) as old_id:
        document_id = asyncio.run(story())
        counted = shelf.ask(
            "select model_id, count(*)::int from chunk_vectors where user_id = %s group by 1 order by 1", caller.user_id
        )
        [(new_id,)] = shelf.ask("select id from embedding_models where is_current")

    chunks, attempt = shelf.row(caller, document_id, "chunks, attempt")
    # The first batch is the old model's, which a build has embedded by the new one too; the rest is the new one's.
    assert counted == sorted([(old_id, BATCH), (new_id, chunks - BATCH)])
    assert (attempt, old.calls) == (1, 2)


@pytest.mark.spec("ING-13")
def test_passages_that_are_cut_otherwise_later_leave_nothing_out_and_double_nothing(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    wide, narrow = TinyEmbedder("wide", before=held), TinyEmbedder("narrow")
    narrow.max_tokens = 60

    async def story() -> int:
        document_id = keep(database, caller, long_text(3 * BATCH))
        async with at_work(desk(database, embedders=[wide, narrow], lease_seconds=60)):
            await held.until_reached()
            asyncio.get_running_loop().call_later(0.1, held.let_go.set)
        await run_sync(use, shelf, "narrow", narrow.dim)
        async with at_work(desk(database, embedders=[wide, narrow])):
            await until(shelf.is_("ready", caller, document_id))
        return document_id

    with model_in_use(shelf, "wide", wide.dim):
        document_id = asyncio.run(story())

    passages = shelf.passages(caller, document_id)
    assert [row[0] for row in passages] == list(range(len(passages)))
    assert len(passages) > 4 * BATCH
    pages = shelf.ask("select content from document_pages where user_id = %s order by number", caller.user_id)
    together = "".join("".join(row[4].split()) for row in passages)
    assert together == "".join("".join(content.split()) for (content,) in pages)


@pytest.mark.usefixtures("tiny")
@pytest.mark.spec("ING-14")
def test_where_originals_are_not_kept_only_the_text_stays(database: Database, shelf: Shelf, caller: Caller) -> None:
    async def story() -> list[int]:
        numbers = [
            keep(database, caller, "A note."),
            keep(database, caller, b"%PDF-1.7 broken", name="b.pdf", content_type=PDF),
        ]
        async with at_work(desk(database, embedders=[TinyEmbedder()], keeps_originals=False)):
            await until(shelf.is_("ready", caller, numbers[0]))
            await until(shelf.is_("failed", caller, numbers[1]))
        return numbers

    numbers = asyncio.run(story())

    assert shelf.ask("select document_id from document_bytes where user_id = %s", caller.user_id) == []
    assert [shelf.row(caller, number, "is_original_kept") for number in numbers] == [(False,)] * 2
    assert shelf.assert_whole(caller.user_id, numbers[0]) == 1


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
    assert one.leases.claim(one.ingestor.begin) is not None
    began = time.monotonic()
    with database.transaction(None) as session:
        found = session.execute(text("select * from claimable_documents(1, array[]::text[])")).all()
    seconds = time.monotonic() - began

    assert found == []
    assert seconds < 0.5
