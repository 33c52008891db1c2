"""The embedded database with real processes, real kills and a real disk."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from backend.postgres.embedded import LONGEST_LOG, EmbeddedPostgres, EmbeddedPostgresError

MEMBER = """
import signal
import sys
from pathlib import Path
from backend.postgres.embedded import EmbeddedPostgres

# A test run in the background of a shell ignores the interrupt, and so would we.
signal.signal(signal.SIGINT, signal.default_int_handler)
postgres = EmbeddedPostgres.start(Path(sys.argv[1]))
print(postgres.url, flush=True)
for order in sys.stdin:
    getattr(postgres, order.strip())()
    print("done", flush=True)
"""


class Member:
    """Another process of ours that uses the server and follows commands."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-W", "error", "-c", MEMBER, str(directory)]
        root = Path(__file__).parents[2]
        pipe = subprocess.PIPE
        # Its own session stands for the terminal from which it was started.
        self.process = subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def joined(self) -> str:
        return self._line()

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        with self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, how)

    def _line(self) -> str:
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) and not line.startswith(("postgresql", "done")):
            pass  # A line of its log.
        return line.strip()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create one database for the tests that do not damage it, because creating one takes a second."""
    directory = tmp_path_factory.mktemp("embedded") / "postgres"
    EmbeddedPostgres.start(directory).stop()
    return directory


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    """Copy the database for a test that damages it."""
    subprocess.run(["cp", "-a", directory, tmp_path / "postgres"], check=True)
    return tmp_path / "postgres"


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    with ExitStack() as stack:

        def started(where: Path = directory, **options: Any) -> EmbeddedPostgres:
            postgres = EmbeddedPostgres.start(where, **options)
            stack.callback(postgres.stop)
            return postgres

        yield started


@pytest.fixture
def member(directory: Path) -> Iterator[Callable[..., Member]]:
    with ExitStack() as stack:

        def joining(where: Path = directory) -> Member:
            process = Member(where)
            stack.callback(process.end)
            return process

        yield joining


def ask(url: str, question: str = "select 1") -> Any:
    libpq = make_url(url).set(drivername="postgresql").render_as_string()
    with closing(psycopg2.connect(libpq)) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        answer = cursor.fetchone()
        return answer[0] if answer else None


def answers(url: str) -> bool:
    try:
        return bool(ask(url) == 1)
    except psycopg2.OperationalError:
        return False


def postmaster(directory: Path) -> int:
    return int((directory / "cluster" / "postmaster.pid").read_text().split()[0])


def kill_postmaster(directory: Path, url: str) -> None:
    os.kill(postmaster(directory), signal.SIGKILL)
    wait_until(lambda: not answers(url))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.spec("EMBED-1")
@pytest.mark.parametrize("major", [16, 18])
def test_a_missing_directory_becomes_a_database_with_pgvector(
    start: Callable[..., EmbeddedPostgres], tmp_path: Path, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")  # Settings in the environment are for another Postgres and must not affect ours.

    url = start(tmp_path / "deep" / "below", major=major).url

    assert make_url(url).drivername == "postgresql+psycopg2"
    assert ask(url, "select current_database()::text || current_user::text") == "docutalkpostgres"
    assert ask(url, "show server_version").startswith(f"{major}.")
    assert ask(url, "select count(*) from pg_available_extensions where name = 'vector'") == 1
    assert ask(url, "show server_encoding") == "UTF8"
    assert ask(url, "show timezone") == "UTC"
    assert ask(url, "show fsync") == "on"
    assert ask(url, "select lower('ÄÉ')") == "äé"


@pytest.mark.spec("EMBED-2")
def test_the_server_is_reached_by_its_socket_alone(start: Callable[..., EmbeddedPostgres], directory: Path) -> None:
    url = start().url

    assert ask(url, "show listen_addresses") == ""
    assert ask(url, "show unix_socket_permissions") == "0700"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "cluster").stat().st_mode & 0o777 == 0o700


@pytest.mark.spec("EMBED-15")
def test_ten_processes_with_full_pools_find_a_place(start: Callable[..., EmbeddedPostgres]) -> None:
    url = start().url
    with ExitStack() as opened:
        for _ in range(10 * (20 + 1)):
            libpq = make_url(url).set(drivername="postgresql").render_as_string()
            opened.enter_context(closing(psycopg2.connect(libpq)))
        assert answers(url)


@pytest.mark.spec("EMBED-16")
def test_no_plan_counts_on_parallel_workers(cluster: EmbeddedPostgres) -> None:
    libpq = make_url(cluster.url).set(drivername="postgresql").render_as_string()
    with closing(psycopg2.connect(libpq)) as connection, connection.cursor() as cursor:
        # With these settings PostgreSQL would use as many workers as it may.
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            cursor.execute(f"set {setting} = 0")
        cursor.execute("explain select sum(reltuples) from pg_class")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Seq Scan on pg_class" in plan
    assert "Gather" not in plan


@pytest.mark.spec("EMBED-3")
def test_processes_that_start_at_once_make_one_database_and_share_it(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"

    members = [member(empty) for _ in range(3)]
    urls = {process.joined() for process in members}

    assert len(urls) == 1
    assert start(empty).url in urls
    assert answers(urls.pop())


@pytest.mark.spec("EMBED-4")
def test_the_last_one_out_stops_the_server(member: Callable[..., Member], directory: Path) -> None:
    first, second = member(), member()
    url = first.joined()
    assert second.joined() == url

    first.tell("stop")
    first.tell("stop")
    assert answers(url)

    began = time.monotonic()
    second.tell("stop")
    assert time.monotonic() - began < 30
    assert not answers(url)
    assert not (directory / "cluster" / "postmaster.pid").exists()


@pytest.mark.spec("EMBED-5")
def test_any_process_repairs_a_killed_server(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member], directory: Path
) -> None:
    ours, other = start(), member()
    other.joined()
    libpq = make_url(ours.url).set(drivername="postgresql").render_as_string()
    with closing(psycopg2.connect(libpq)) as connection, connection.cursor() as cursor:
        cursor.execute("create table kept as select 41 as number")
        connection.commit()

        # The open connection's backend outlives the postmaster for a moment.
        kill_postmaster(directory, ours.url)
        other.tell("ensure_running")
        assert ask(ours.url, "select number from kept") == 41

    kill_postmaster(directory, ours.url)
    ours.ensure_running()
    running = postmaster(directory)
    other.tell("ensure_running")
    assert postmaster(directory) == running
    assert ask(ours.url, "select number from kept") == 41


@pytest.mark.spec("EMBED-6")
def test_a_killed_process_neither_stops_the_server_nor_keeps_it(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member]
) -> None:
    starter, ours = member(), None
    url = starter.joined()
    ours = start()

    starter.end(signal.SIGKILL)
    assert answers(url)

    ours.stop()
    assert not answers(url)


@pytest.mark.spec("EMBED-6")
def test_a_server_whose_processes_were_all_killed_is_joined_and_stopped(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member], directory: Path
) -> None:
    alone = member()
    url = alone.joined()
    running = postmaster(directory)
    alone.end(signal.SIGKILL)

    ours = start()
    assert postmaster(directory) == running

    ours.stop()
    assert not answers(url)


@pytest.mark.spec("EMBED-7")
def test_an_interrupt_at_the_terminal_does_not_reach_the_server(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member]
) -> None:
    starter = member()
    url = starter.joined()
    start()

    starter.end(signal.SIGINT)

    assert starter.process.returncode != 0
    assert answers(url)


@pytest.mark.spec("EMBED-8")
def test_a_database_of_another_major_is_refused_and_left_as_it_is(
    start: Callable[..., EmbeddedPostgres], directory: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (directory / "cluster").rglob("*")}

    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 18, and this is PostgreSQL 16"):
        start(major=16)

    assert {path: path.stat().st_mtime_ns for path in (directory / "cluster").rglob("*")} == before
    assert answers(start(major=18).url)


@pytest.mark.spec("EMBED-9")
def test_a_foreign_or_damaged_directory_is_refused_and_left_as_it_is(
    start: Callable[..., EmbeddedPostgres], copy: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("Years of work.")
    (copy / "cluster" / "PG_VERSION").unlink()

    with pytest.raises(EmbeddedPostgresError, match="files that are not the embedded database's"):
        start(foreign)
    with pytest.raises(EmbeddedPostgresError, match="is damaged"):
        start(copy)

    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    assert (copy / "cluster" / "global" / "pg_control").exists()


@pytest.mark.spec("EMBED-9")
def test_a_database_whose_making_was_cut_short_is_made_again(
    start: Callable[..., EmbeddedPostgres], copy: Path
) -> None:
    (copy / "cluster").rename(copy / "cluster.new")
    shutil.rmtree(copy / "cluster.new" / "global")

    assert answers(start(copy).url)
    assert not (copy / "cluster.new").exists()


@pytest.mark.spec("EMBED-10")
def test_the_process_id_that_a_crash_left_behind_does_not_hinder(
    start: Callable[..., EmbeddedPostgres], directory: Path
) -> None:
    owner = directory.stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None) as later:
        for stale in ("cluster/postmaster.pid", ".s.PGSQL.5432.lock"):
            (directory / stale).write_text(f"{later.pid}\n{directory}\n1\n5432\n{directory}\n\n1 1\nready\n")
        os.kill(later.pid, 0)

        url = start().url

        assert answers(url)
        assert later.poll() is None
        later.kill()


@pytest.mark.spec("EMBED-10")
def test_a_server_that_somebody_else_runs_on_the_files_is_not_joined_or_harmed(
    start: Callable[..., EmbeddedPostgres], directory: Path
) -> None:
    owner = directory.stat().st_uid
    # Like every Postgres, it works in the cluster's directory.
    with subprocess.Popen(
        ["sleep", "60"], cwd=directory / "cluster", user=owner if os.geteuid() == 0 else None
    ) as stranger:
        (directory / "cluster" / "postmaster.pid").write_text(f"{stranger.pid}\n")

        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {stranger.pid}"):
            start()

        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.spec("EMBED-11")
def test_a_long_path_gets_a_short_private_place_for_its_socket(
    start: Callable[..., EmbeddedPostgres], member: Callable[..., Member], copy: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("long " * 30).strip() / "postgres"
    long.parent.mkdir()
    copy.rename(long)

    postgres, other = start(long), member(long)
    sockets = Path(str(make_url(postgres.url).query["host"]))

    assert other.joined() == postgres.url
    assert answers(postgres.url)
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert sockets.stat().st_uid == long.stat().st_uid
    postgres.stop()
    other.tell("stop")
    assert not sockets.exists()

    sockets.mkdir(mode=0o755)
    (sockets / "trap").touch()
    try:
        with pytest.raises(EmbeddedPostgresError, match="Somebody else made"):
            start(long)
    finally:
        shutil.rmtree(sockets)


@pytest.mark.spec("EMBED-12")
def test_the_servers_log_stays_short_and_holds_no_statement(
    start: Callable[..., EmbeddedPostgres], directory: Path
) -> None:
    postgres, file = start(), directory / "server.log"
    with pytest.raises(psycopg2.DataError):
        ask(postgres.url, "select 'a secret'::integer")
    assert "ready to accept connections" in file.read_text()
    assert "secret" not in file.read_text()

    with file.open("a") as stream:
        stream.write("x" * (LONGEST_LOG + 1))
    postgres.ensure_running()

    assert file.stat().st_size < LONGEST_LOG


@pytest.mark.spec("EMBED-13")
def test_who_has_left_does_not_start_the_server_again(start: Callable[..., EmbeddedPostgres]) -> None:
    postgres = start()
    postgres.stop()

    with pytest.raises(EmbeddedPostgresError, match="has left"):
        postgres.ensure_running()

    assert not answers(postgres.url)


@pytest.mark.spec("EMBED-14")
def test_a_server_that_is_going_down_is_started_again_at_once(
    start: Callable[..., EmbeddedPostgres], directory: Path
) -> None:
    ours = start()

    os.kill(postmaster(directory), signal.SIGINT)
    began = time.monotonic()
    ours.ensure_running()

    assert time.monotonic() - began < 45
    deadline = time.monotonic() + 5
    while True:  # A server that is shutting down may have answered the first check; then the next one repairs it.
        try:
            assert ask(ours.url, "select 1") == 1
            break
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline
            ours.ensure_running()
