"""Building another model's vectors beside those in use, the index of a large user, and what triggers a build."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from structlog.testing import capture_logs

from backend.cli import main
from backend.doctor import examine_here
from backend.documents.embedding import build as module
from backend.documents.embedding import hnsw, upkeep
from backend.documents.embedding.build import Builds, BuildUnderWay
from backend.documents.embedding.current import Embeddings, current_model
from backend.documents.embedding.embedder import QueryVector
from backend.documents.embedding.models.known import UNRELATED
from backend.documents.embedding.upkeep import Upkeep
from backend.documents.ingestion.attempt import begin
from backend.documents.language import UNSURE
from backend.documents.search import vectors as vector_search
from backend.documents.search.hybrid import Search
from backend.errors import DatabaseUnavailable
from backend.identity.caller import Caller
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from tests.conftest import LOGIN, database_url_of, query, signed_in_guest, wait_until
from tests.documents.desk import UTC, Held, Shelf, TinyEmbedder, desk, keep, until
from tests.documents.embedding_server import answers, embedding_server
from tests.documents.filed import file, meaning
from tests.own_database import OwnDatabase, knowing_everybody, opened, own_database
from tests.process import docutalk, running

pytestmark = pytest.mark.database

WORDS = ("anchor", "barge", "canal", "dock", "estuary", "ferry", "galley", "harbor")
BUNDLED = "all-MiniLM-L6-v2"
REMOTE = "openai/text-embedding-3-small"
ROOT = Path(__file__).parents[3]
HOLDER_PIDS = (
    "select pid from pg_locks where locktype = 'advisory' and granted "
    "and objid::bigint = hashtext('docutalk embeddings build')::bigint & 4294967295"
)
HOLDERS = f"select state, backend_xmin::text from pg_stat_activity where pid in ({HOLDER_PIDS})"  # noqa: S608
BUILD_AND_HANG = """
import sys, time
from backend.documents.embedding.build import Builds

class Hanging:
    id, dim = "hanging", 8

    def embed(self, texts, kind):
        time.sleep(600)  # Until the test kills this process, which it always does.

Builds(sys.argv[1]).build("hanging", lambda name: Hanging())
"""


@pytest.fixture
def own(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[OwnDatabase]:
    with own_database(cluster, template, f"builds_{worker_id}") as made:
        yield made


@pytest.fixture
def database(own: OwnDatabase) -> Iterator[Database]:
    with opened(own.url) as database:
        yield database


@pytest.fixture
def callers(database: Database) -> list[Caller]:
    authenticator = knowing_everybody(database)
    return [authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1]) for _ in range(2)]


@pytest.fixture
def builds(own: OwnDatabase) -> Builds:
    return Builds(own.superuser_url)


@pytest.fixture
def every_event() -> Iterator[None]:
    """Log every event, whatever a command in this process has configured, and restore that afterwards."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def build(builds: Builds, embedder: TinyEmbedder, **options: Any) -> bool:
    return builds.build(embedder.id, {embedder.id: embedder}.__getitem__, **options)


def filed(database: Database, callers: list[Caller]) -> None:
    """Store eight passages for each user."""
    for caller in callers:
        file(database, caller, *(f"The {word} of {caller.user_id[-6:]}." for word in WORDS))


def vectors(own: OwnDatabase) -> dict[str, int]:
    """Count the vectors by model name."""
    rows = own.query(
        "select m.name, (select count(*)::int from chunk_vectors v where v.model_id = m.id) from embedding_models m"
    )
    return {str(name): int(count) for name, count in rows}


def in_use(own: OwnDatabase) -> tuple[int, str]:
    [(model_id, name)] = own.query("select id, name from embedding_models where is_current")
    return model_id, name


def found(database: Database, caller: Caller, word: str) -> list[str]:
    """Search like a process that asks the database which model is in use."""
    embedders = {BUNDLED: None, **{name: TinyEmbedder(name) for name in ("tiny", "third")}}
    with database.transaction(None) as session:
        model_id, name = current_model(session)
    tiny = embedders[name]
    values = tiny.embed([f"The {word} of {caller.user_id[-6:]}."], "query")[0] if tiny else meaning(f"The {word}")
    vector = QueryVector(model_id, values, {UNSURE: UNRELATED})
    with database.scope(caller.user_id, UTC) as scope:
        told = Search(scope).find(f"the {word}", vector, document_ids=None, limit=3)
    return [passage.text for passage in told.passages]


@pytest.mark.spec("BUILD-1")
def test_another_model_is_built_beside_the_one_in_use_and_then_used(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds
) -> None:
    filed(database, callers)
    held, sentences = Held(at=1), list[str]()
    tiny = TinyEmbedder(before=held)
    assert builds.due(None).is_any is False
    assert builds.due("tiny").is_any

    with ThreadPoolExecutor(1) as threads:
        building = threads.submit(build, builds, tiny, tell=sentences.append)
        assert held.reached.wait(20)
        # Search still uses the old model.
        assert in_use(own)[1] == BUNDLED
        for caller in callers:
            assert "dock" in found(database, caller, "dock")[0]
        held.let_go.set()
        assert building.result(20) is True

    assert in_use(own)[1] == "tiny"
    assert vectors(own) == {BUNDLED: 16, "tiny": 16}
    for caller in callers:
        assert found(database, caller, "ferry")[0] == f"The ferry of {caller.user_id[-6:]}."
    assert builds.due("tiny").is_any is False
    assert sentences == ["16 passages embedded by tiny.", "tiny is in use."]


@pytest.mark.spec("BUILD-2")
def test_passages_that_come_in_meanwhile_are_covered_before_the_model_is_used(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    filed(database, callers)
    first = min(callers, key=lambda caller: caller.user_id)

    def arrives(calls: int) -> None:
        if calls == 4:
            # Before the place that the build has reached.
            file(database, first, "The late one.", filename="late.pdf")

    assert build(builds, TinyEmbedder(before=arrives)) is True

    assert vectors(own) == {BUNDLED: 17, "tiny": 17}
    assert in_use(own)[1] == "tiny"


@pytest.mark.spec("BUILD-2")
def test_what_is_ingested_while_a_model_comes_into_use_has_its_vectors(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds
) -> None:
    filed(database, callers)
    held = Held(at=1)
    old, new = TinyEmbedder("old", before=held), TinyEmbedder("tiny")
    build(builds, TinyEmbedder("old"))
    keep(database, callers[0], "The one in between.")
    one = desk(database, embedders=[old, new])
    work = one.leases.claim(begin)
    assert work is not None

    with ThreadPoolExecutor(1) as threads:
        ingesting = threads.submit(one.ingestor.ingest, work, lambda: False)
        assert held.reached.wait(20)
        build(builds, TinyEmbedder("tiny"))
        held.let_go.set()
        assert ingesting.result(20) == "ready"

    assert vectors(own)["tiny"] == 17
    Shelf(own.superuser_url).assert_whole(callers[0].user_id, int(work.lease.id))


@pytest.mark.spec("BUILD-3")
def test_a_build_that_was_stopped_goes_on_where_it_was(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    filed(database, callers)
    first, second = TinyEmbedder(), TinyEmbedder()

    assert build(builds, first, is_stopped=lambda: first.calls == 2) is False
    assert (in_use(own)[1], vectors(own)["tiny"]) == (BUNDLED, 8)

    def breaks(calls: int) -> None:
        if calls == 2:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        build(builds, TinyEmbedder(before=breaks))
    assert (in_use(own)[1], vectors(own)["tiny"]) == (BUNDLED, 12)
    assert build(builds, second) is True

    assert (in_use(own)[1], vectors(own)["tiny"], len(second.texts)) == ("tiny", 16, 4)


@pytest.mark.spec("BUILD-3")
def test_a_passage_that_is_purged_while_it_is_embedded_does_not_stop_the_build(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds
) -> None:
    filed(database, callers)
    gone = callers[0].user_id

    def purges(_calls: int) -> None:
        own.query("delete from documents where user_id = %s", gone)

    assert build(builds, TinyEmbedder(before=purges)) is True

    assert vectors(own) == {BUNDLED: 8, "tiny": 8}


@pytest.mark.spec("BUILD-4")
def test_vectors_of_a_third_model_are_removed_and_going_back_finds_little_to_do(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds
) -> None:
    filed(database, callers)
    build(builds, TinyEmbedder("tiny"))
    back = TinyEmbedder("tiny")
    build(builds, TinyEmbedder("third"))
    assert vectors(own) == {"tiny": 16, "third": 16}

    build(builds, back)

    assert (in_use(own)[1], back.calls) == ("tiny", 0)


@pytest.mark.spec("BUILD-5")
def test_a_large_user_s_index_is_due_made_without_holding_anybody_up_and_used(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed(database, callers)
    tiny = TinyEmbedder()
    build(builds, tiny)
    assert builds.due(None).is_index_due is False
    for place in (module, vector_search):
        monkeypatch.setattr(place, "EXACT_UP_TO", 7)
    assert builds.due(None).is_index_due
    model_id, _ = in_use(own)
    # A build killed in the middle leaves this behind.
    own.query(hnsw.index_ddl(model_id, tiny.dim))
    own.query("update pg_index set indisvalid = false where indexrelid = to_regclass(%s)", hnsw.index_name(model_id))
    assert builds.due(None).is_index_due

    assert build(builds, tiny) is True

    index = own.query(
        "select i.indisvalid, pg_get_userbyid(c.relowner)::text from pg_index i join pg_class c on c.oid = indexrelid "
        "where indexrelid = to_regclass(%s)",
        hnsw.index_name(model_id),
    )
    assert index == [(True, "docutalk_owner")]
    assert builds.due(None).is_any is False
    for word in WORDS:
        assert found(database, callers[0], word)[0] == f"The {word} of {callers[0].user_id[-6:]}."
    # The next model's build deletes the index together with the vectors.
    build(builds, TinyEmbedder("third"))
    build(builds, TinyEmbedder("fourth"))
    assert own.query("select to_regclass(%s)::text", hnsw.index_name(model_id)) == [(None,)]


@pytest.mark.spec("BUILD-5")
def test_documents_are_ingested_while_an_index_is_being_made(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed(database, callers)
    tiny = TinyEmbedder()
    build(builds, tiny)
    for place in (module, vector_search):
        monkeypatch.setattr(place, "EXACT_UP_TO", 7)
    ready, go = threading.Event(), threading.Event()

    def hold_a_writer() -> None:
        # The index build waits for this open transaction that has written, and nobody waits for the build.
        with database.scope(callers[1].user_id, UTC) as scope:
            scope.session.execute(text("delete from chunk_vectors where chunk_id = 8"))
            ready.set()
            assert go.wait(20)

    keep(database, callers[0], "A note.")
    one = desk(database, embedders=[tiny])
    work = one.leases.claim(begin)
    assert work is not None
    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(hold_a_writer)
        assert ready.wait(10)
        building = threads.submit(build, builds, tiny)
        waiting = "select count(*)::int from pg_stat_activity where query ilike %s and wait_event_type = 'Lock'"
        wait_until(lambda: own.query(waiting, "create index%")[0][0] == 1, seconds=20)
        try:
            assert one.ingestor.ingest(work, lambda: False) == "ready"
        finally:
            go.set()
        writing.result(20)
        assert building.result(20) is True


@pytest.mark.spec("BUILD-6")
def test_a_model_is_chosen_at_once_while_nothing_is_embedded_and_by_a_build_afterwards(
    own: OwnDatabase, database: Database, callers: list[Caller]
) -> None:
    embeddings = Embeddings(database, {BUNDLED: TinyEmbedder(BUNDLED), "tiny": TinyEmbedder()}.__getitem__)

    assert embeddings.choose("tiny") is True
    assert in_use(own)[1] == "tiny"
    assert embeddings.choose(BUNDLED) is True
    filed(database, callers)

    assert embeddings.choose("tiny") is False
    assert in_use(own)[1] == BUNDLED
    assert embeddings.current().embedder.id == BUNDLED


@pytest.mark.spec("BUILD-9")
def test_the_doctor_says_which_model_is_in_use_and_what_is_due(
    own: OwnDatabase,
    database: Database,
    callers: list[Caller],
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filed(database, callers)

    def told(**changes: object) -> tuple[bool, str]:
        settings = make_settings(database_url=own.url, migration_database_url=own.superuser_url, **changes)
        [finding] = [finding for finding in examine_here(settings) if finding.name == "embeddings"]
        return finding.is_bad, finding.says

    assert told() == (False, f"{BUNDLED} is in use; no build is due")
    is_bad, says = told(embedding_model=REMOTE)
    assert is_bad
    assert REMOTE in says
    assert "docutalk embeddings build" in says
    own.query("delete from chunk_vectors where chunk_id = 3")
    assert "lack an embedding" in told()[1]
    build(Builds(own.superuser_url), TinyEmbedder(BUNDLED))
    monkeypatch.setattr(module, "EXACT_UP_TO", 7)
    is_bad, says = told()
    assert is_bad
    assert "index" in says
    if LOGIN == "plain":
        settings = make_settings(database_url=own.url)
        [finding] = [finding for finding in examine_here(settings) if finding.name == "embeddings"]
        assert "MIGRATION_DATABASE_URL" in finding.says


@pytest.mark.usefixtures("every_event")
@pytest.mark.spec("BUILD-10")
def test_a_second_build_at_once_is_refused_and_changes_nothing(
    own: OwnDatabase,
    database: Database,
    callers: list[Caller],
    builds: Builds,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filed(database, callers)
    held, second = Held(at=1), TinyEmbedder("third")
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": own.url, "MIGRATION_DATABASE_URL": own.superuser_url}.items():
        monkeypatch.setenv(name, value)

    with ThreadPoolExecutor(1) as threads:
        building = threads.submit(build, builds, TinyEmbedder(before=held))
        try:
            assert held.reached.wait(20)
            holders = own.query(HOLDERS)
            with pytest.raises(BuildUnderWay):
                build(builds, second)
            status = main(["embeddings", "build"])
            during = vectors(own)
        finally:
            held.let_go.set()
        assert building.result(20) is True

    # A pooler cannot lend its session to other clients, and it delays neither vacuums nor index builds.
    assert holders == [("idle in transaction", None)]
    assert (status, capsys.readouterr().err) == (75, f"{BuildUnderWay()}\n")
    assert (second.calls, during) == (0, {BUNDLED: 16, "tiny": 0})
    assert (in_use(own)[1], vectors(own)) == ("tiny", {BUNDLED: 16, "tiny": 16})
    assert own.query(HOLDERS) == []


@pytest.mark.spec("BUILD-10")
def test_a_build_asks_which_model_is_in_use_once_it_is_alone(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds
) -> None:
    filed(database, callers)
    asked = dict[str, int]()

    def make(name: str) -> TinyEmbedder:
        asked[name] = len(own.query(HOLDERS))
        return TinyEmbedder(name)

    assert builds.build(None, make) is True

    assert asked == {BUNDLED: 1}


@pytest.mark.spec("BUILD-11")
def test_a_killed_build_and_one_whose_lock_is_lost_stop_nobody(
    own: OwnDatabase, database: Database, callers: list[Caller], builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    filed(database, callers)
    with subprocess.Popen([sys.executable, "-c", BUILD_AND_HANG, own.superuser_url], cwd=ROOT) as killed:
        try:
            wait_until(lambda: "hanging" in vectors(own), seconds=30)
            with pytest.raises(BuildUnderWay):
                build(builds, TinyEmbedder())
        finally:
            killed.kill()
    wait_until(lambda: own.query(HOLDERS) == [], seconds=20)

    def loses(calls: int) -> None:
        if calls == 2:
            own.query(f"select pg_terminate_backend(pid) from ({HOLDER_PIDS}) as holders")  # noqa: S608

    lost = TinyEmbedder(before=loses)
    with pytest.raises(DatabaseUnavailable):
        build(builds, lost)

    # The current batch is kept, and no other is begun.
    assert (lost.calls, in_use(own)[1], vectors(own)) == (2, BUNDLED, {BUNDLED: 16, "tiny": 8})
    assert build(builds, TinyEmbedder()) is True
    assert vectors(own) == {BUNDLED: 16, "tiny": 16}


@pytest.mark.usefixtures("every_event")
@pytest.mark.spec("BUILD-10")
def test_the_service_takes_another_build_for_no_failure_and_looks_again(
    own: OwnDatabase, database: Database, callers: list[Caller], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filed(database, callers)
    monkeypatch.setattr(upkeep, "LOOK_AGAIN_SECONDS", 0.1)
    # The exit status of the command while another build is running.
    monkeypatch.setattr(upkeep, "BUILD", ("sh", "-c", "exit 75"))
    embeddings = Embeddings(database, {BUNDLED: TinyEmbedder(BUNDLED), "tiny": TinyEmbedder()}.__getitem__)

    async def story() -> None:
        keeping = asyncio.create_task(Upkeep(embeddings, "tiny", data_dir=tmp_path).run(own.superuser_url))
        await until(lambda: [one["event"] for one in logged].count("embeddings_built_elsewhere") == 2)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    with capture_logs() as logged:
        asyncio.run(story())

    assert "embeddings_not_built" not in [one["event"] for one in logged]


@pytest.mark.slow
@pytest.mark.spec("BUILD-7")
def test_the_command_builds_a_provider_s_model_of_1536_dimensions(
    own: OwnDatabase, database: Database, callers: list[Caller], tmp_path: Path
) -> None:
    filed(database, callers)
    with embedding_server(answers(1536)) as server:
        given = {
            "DATABASE_URL": own.url,
            "MIGRATION_DATABASE_URL": own.superuser_url,
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "sk-any",
        }
        done = docutalk(tmp_path, "embeddings", "build", REMOTE, **given)
        asked = sum(len(request["input"]) for request in server.requests)
        again = docutalk(tmp_path, "embeddings", "build", EMBEDDING_MODEL=REMOTE, **given)
        unknown = docutalk(tmp_path, "embeddings", "build", "nobody/knows", **given)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"16 passages embedded by {REMOTE}.\n{REMOTE} is in use.\n"
    assert (again.returncode, again.stdout) == (0, f"{REMOTE} is in use.\n")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "The embedding model" in unknown.stderr
    assert asked == 16
    assert in_use(own)[1] == REMOTE
    assert own.query(
        "select distinct vector_dims(embedding) from chunk_vectors where model_id = %s", in_use(own)[0]
    ) == [(1536,)]


@pytest.mark.slow
@pytest.mark.spec("BUILD-8")
def test_the_service_builds_by_itself_in_its_own_database(tmp_path: Path) -> None:
    def ready(url: str) -> int:
        with signed_in_guest(url) as guest:
            kept = guest.post("/api/documents", files=[("file", ("a.txt", b"The lighthouse keeper is Anna."))]).json()
            wait_until(lambda: guest.get(f"/api/documents/{kept['id']}").json()["status"] == "ready", seconds=60)
            return int(kept["id"])

    def models(postgres: EmbeddedPostgres) -> list[tuple[str, bool, int]]:
        return query(
            database_url_of(postgres, "docutalk"),
            "select name, is_current, (select count(*)::int from chunk_vectors where model_id = m.id) "
            "from embedding_models m order by 1",
        )

    with running(tmp_path, name="before", loaded=True) as service:
        ready(service.url)
    with embedding_server(answers(1536)) as server:
        given = {"EMBEDDING_MODEL": REMOTE, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-any"}
        with running(tmp_path, name="after", loaded=True, MODEL="offline", **given):
            postgres = EmbeddedPostgres.start(tmp_path / "data" / "postgres")
            try:
                swapped = [(BUNDLED, False, 1), (REMOTE, True, 1)]
                wait_until(lambda: models(postgres) == swapped, seconds=90)
            finally:
                postgres.stop()


@pytest.mark.slow
@pytest.mark.spec("BUILD-8")
def test_in_somebody_s_database_the_service_only_says_that_a_build_is_due(
    own: OwnDatabase, database: Database, callers: list[Caller], tmp_path: Path
) -> None:
    filed(database, callers)
    given = {"DATABASE_URL": own.url, "MIGRATE_ON_START": "false", "EMBEDDING_MODEL": "openai/text-embedding-3-large"}
    with running(tmp_path, loaded=True, MODEL="offline", **given) as service:
        told = wait_until(
            lambda: [line for line in service.events if line["event"] == "embedding_model_not_in_use"], seconds=20
        )

    assert told[0]["advice"] == "docutalk embeddings build"
    assert in_use(own)[1] == BUNDLED
    assert vectors(own) == {BUNDLED: 16}
