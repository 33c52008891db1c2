"""Ingestion with models that hang, are away, refuse, or come into use meanwhile."""

import asyncio

import pytest
from anyio.to_thread import run_sync

from backend.documents.embedding.embedder import EmbeddingFailed, EmbeddingRefused
from backend.documents.ingestion.attempt import begin
from backend.documents.ingestion.index_pages import BATCH_PASSAGES
from backend.identity.caller import Caller
from backend.jobs.leases import MOST_FRUITLESS_ATTEMPTS
from backend.postgres.database import Database
from tests.documents.desk import (
    Held,
    Shelf,
    TinyEmbedder,
    at_work,
    desk,
    keep,
    lapse,
    long_text,
    model_in_use,
    until,
    use,
)


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

    assert seconds < 20, "It waited for the provider."
    assert shelf.row(caller, document_id, "status, lease_owner, lease_until") == ("pending", None, None)


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
        work = one.leases.claim(begin)
        assert work is not None
        assert not work.lease.is_hopeless
        with pytest.raises(EmbeddingFailed):
            one.ingestor.ingest(work, lambda: False)
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


@pytest.mark.spec("ING-12")
def test_a_model_that_comes_into_use_meanwhile_embeds_the_batch_anew(
    database: Database, shelf: Shelf, caller: Caller
) -> None:
    held = Held(at=2)
    old, new = TinyEmbedder("old", before=held), TinyEmbedder("new")

    async def story() -> int:
        document_id = keep(database, caller, long_text(3 * BATCH_PASSAGES))
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
    assert counted == sorted([(old_id, BATCH_PASSAGES), (new_id, chunks - BATCH_PASSAGES)])
    assert (attempt, old.calls) == (1, 2)
