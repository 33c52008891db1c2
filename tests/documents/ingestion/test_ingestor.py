"""A document on its way through one process, up to every end that it can have."""

import asyncio
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from backend.documents.ingestion.attempt import begin
from backend.documents.ingestion.index_pages import BATCH_PASSAGES
from backend.documents.ingestion.read_pages import PageReader
from backend.documents.quota import KeepingRules
from backend.documents.reading.reader import Stopped, read
from backend.documents.repository import DocumentRepository
from backend.identity.caller import Caller
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS
from backend.postgres.database import Database
from tests.documents.desk import (
    UTC,
    Held,
    Shelf,
    TinyEmbedder,
    assert_rising,
    at_work,
    desk,
    keep,
    lapse,
    long_text,
    model_in_use,
    until,
    use,
)
from tests.documents.files import PDF, PICTURE, TEXT, pdf


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
    monkeypatch.setattr(PageReader, "_store", dies)
    for _ in range(MOST_FRUITLESS_ATTEMPTS):
        work = one.leases.claim(begin)
        assert work is not None
        with pytest.raises(Died):
            one.ingestor.ingest(work, lambda: False)
        lapse(shelf)

    assert shelf.row(caller, document_id, "fruitless, has_pages") == (MOST_FRUITLESS_ATTEMPTS, False)
    last = one.leases.claim(begin)
    assert last is not None
    assert last.lease.is_hopeless


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

    assert time.monotonic() - began[0] < 30, "It waited for the child."
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


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


@pytest.mark.spec("ING-13")
def test_passages_that_are_cut_otherwise_later_leave_nothing_out_and_double_nothing(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    wide, narrow = TinyEmbedder("wide", before=held), TinyEmbedder("narrow")
    narrow.max_tokens = 60

    async def story() -> int:
        document_id = keep(database, caller, long_text(3 * BATCH_PASSAGES))
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
    assert len(passages) > 4 * BATCH_PASSAGES
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


@pytest.mark.spec("ING-19")
@pytest.mark.parametrize(("upload", "failure", "again", "end"), list(product([False, True], repeat=4)))
def test_row_bytes_and_room_agree_however_store_originals_changes(
    database: Database, shelf: Shelf, caller: Caller, upload: bool, failure: bool, again: bool, end: bool
) -> None:
    def put(stores: bool) -> int:
        return keep(database, caller, "A note.", rules=KeepingRules(store_originals=stores))

    def is_kept(number: int) -> bool:
        [(stored,)] = shelf.ask(
            "select sum(length(content))::int from document_bytes where user_id = %s", caller.user_id
        )
        assert stored in (None, len("A note."))
        assert shelf.row(caller, number, "is_original_kept") == (stored is not None,)
        return stored is not None

    def fail(stores: bool) -> None:
        one = desk(database, keeps_originals=stores)
        work = one.leases.claim(begin)
        assert work is not None
        one.ingestor.crashed(work)

    number = put(upload)
    fail(failure)
    assert is_kept(number) == (upload and failure)
    assert put(again) == number
    assert shelf.row(caller, number, "status, is_original_kept") == ("pending", again)
    fail(end)
    assert is_kept(number) == (again and end)

    with database.scope(caller.user_id, UTC) as scope:
        assert DocumentRepository(scope).used_bytes() == len("A note.")
