"""The command `docutalk`: serve, worker, mcp, migrate, embeddings, token, doctor."""

import argparse
import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import structlog
import uvicorn
from fastapi import FastAPI

from backend import VERSION
from backend import log as logs
from backend.agent.choice import OFFLINE_NAME
from backend.documents.embedding.build import UNDER_WAY_STATUS, Builds, BuildUnderWay
from backend.documents.embedding.current import Embeddings
from backend.edge.connections import HEADER_SECONDS, Connections, protocol_with
from backend.edge.own_hosts import LOOPBACK_ADDRESSES
from backend.edge.proxies import Proxies
from backend.errors import DatabaseUnavailable, DocuTalkError
from backend.identity.accounts import AccountRepository, TokenRepository
from backend.identity.authenticator import LOCAL_ISSUER, user_id_of
from backend.plain_text import storable
from backend.postgres.database import UTC, Database
from backend.postgres.embedded import EmbeddedPostgresError
from backend.postgres.installation import Installation
from backend.postgres.schema import head, migrate
from backend.settings import InvalidSettings, Settings
from backend.wiring import embedder_maker, find_postgres, make_authenticator, make_database, model_choice

if TYPE_CHECKING:
    from backend.process import Process

GRACEFUL_SECONDS = 3
"""How many seconds open requests may continue after a stop signal. Runs get a few more seconds after that."""

MOST_CONNECTIONS = 4096
"""The most connections that one process accepts. It is more than one process can serve well, but an idle connection
costs only about 10 kB."""
BACKLOG = 256
"""How many connections the kernel accepts before the process does. They do not count yet toward the connection limit.
"""
OTHER_FILES = 128
"""How many open files are reserved for uses other than client connections and the database, such as uploads, files
being parsed, child processes, and connections to models."""
UNREAD_SECONDS = 120
"""Seconds after which a connection is closed if its client is gone or does not read the answer."""

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. If the status is not 0, a sentence on stderr explains why."""
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except (InvalidSettings, DocuTalkError, EmbeddedPostgresError) as error:
        told = error.for_owner if isinstance(error, DatabaseUnavailable) else str(error)
        print(storable(told), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def serve(_given: argparse.Namespace) -> int:
    """Serve the page, the API and MCP until stopped."""
    # Imported here, because only this command needs it. At the top, such imports would make up a fifth of the start
    # time of every other command.
    from backend.app import create_app

    settings = Settings.load()
    server = make_server(create_app(settings), settings)
    with ExitStack() as opened:
        sockets = [opened.enter_context(listening("PORT", settings.host, settings.port))]
        if settings.mcp_port is not None:
            host = settings.mcp_host or settings.host
            sockets.append(opened.enter_context(listening("MCP_PORT", host, settings.mcp_port)))
        print(_banner(settings, sockets[0].getsockname()[1]), file=sys.stderr, flush=True)
        for name in (signal.SIGTERM, signal.SIGINT):
            # Uvicorn raises the signal again after it has stopped. This handler keeps that signal from ending the
            # process with a failure, because a requested stop is not a failure.
            signal.signal(name, server.handle_exit)
        server.run(sockets=sockets)
    return 0 if server.started else 1


def make_server(app: FastAPI, settings: Settings, *, header_seconds: float = HEADER_SECONDS) -> uvicorn.Server:
    """Return the app's server, with its connection limits."""
    connections = Connections(
        in_all=_room_for_connections(settings),
        of_an_address=settings.max_connections_per_address,
        proxies=Proxies(settings.trusted_proxies),
        header_seconds=header_seconds,
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol_with(connections),
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )


def serve_mcp(given: argparse.Namespace) -> int:
    """Serve MCP over stdin and stdout, for clients that start a command."""
    level = os.environ.get("LOG_LEVEL", "WARNING").upper()
    if level not in logs.LEVELS:
        raise InvalidSettings(f"LOG_LEVEL: use one of {', '.join(logs.LEVELS)}.")
    # Standard output belongs to the protocol.
    logs.configure(level, stream=sys.stderr)
    token = os.environ.get("DOCUTALK_TOKEN", "")
    if not token:
        print(
            "Set DOCUTALK_TOKEN to a token. Create one with `docutalk token create` or POST /api/tokens.",
            file=sys.stderr,
        )
        return 1
    # Imported here, because the SDK takes as long to import as the rest of the start, and other commands do not need it
    # right away.
    from backend.mcp_server.stdio import bridge_stdio, serve_stdio

    if given.url:
        anyio.run(bridge_stdio, given.url, token)
        return 0
    from backend.mcp_server.server import ToolServer
    from backend.process import TOOLS, make_operations

    settings = Settings.load()
    with opened_database(settings) as (database, _):
        caller = make_authenticator(settings, database).caller(token)
        operations = make_operations(settings, database, Embeddings(database, embedder_maker(settings)))
        server = ToolServer(TOOLS, operations)
        anyio.run(serve_stdio, server, replace(caller, door="mcp", client="stdio"))
    return 0


def work(_given: argparse.Namespace) -> int:
    """Run queued turns, ingest documents and delete expired data until stopped, without serving requests."""
    from backend.process import Process

    settings = Settings.load()
    logs.configure(settings.log_level)
    # The database is opened here first, so that a problem that waiting cannot solve is reported at once.
    with opened_database(settings):
        pass
    anyio.run(_work, Process(settings, is_dedicated=True))
    return 0


async def _work(process: "Process") -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    async with process.at_work():
        await stopped.wait()


def migrate_database(_given: argparse.Namespace) -> int:
    """Bring the schema up to date."""
    settings = Settings.load()
    logs.configure(settings.log_level, stream=sys.stderr)
    postgres = find_postgres(settings)
    try:
        migrate(postgres.migration_url, service_url=postgres.url)
    finally:
        postgres.stop()
    print(f"The schema is at revision {head()}.")
    return 0


def build_embeddings(given: argparse.Namespace) -> int:
    """Embed every passage with another model, then switch to that model; build its index if a user needs one."""
    settings = Settings.load()
    logs.configure("WARNING", stream=sys.stderr)
    with opened_database(settings) as (_, owner_url):
        try:
            Builds(owner_url).build(
                given.model or settings.embedding_model,
                embedder_maker(settings),
                tell=lambda sentence: print(sentence, flush=True),
            )
        except BuildUnderWay as error:
            print(error, file=sys.stderr)
            return UNDER_WAY_STATUS
    return 0


def create_token(given: argparse.Namespace) -> int:
    """Create a personal access token and print it (shown only once)."""
    settings = Settings.load()
    logs.configure("WARNING", stream=sys.stderr)
    with opened_database(settings) as (database, _):
        user_id = given.user or user_id_of(LOCAL_ISSUER, "owner")
        with database.scope(user_id, UTC) as scope:
            accounts = AccountRepository(scope)
            if accounts.find() is None:
                if given.user:
                    print(f"There is no user {given.user}.", file=sys.stderr)
                    return 1
                accounts.add_person(name="Owner", issuer=LOCAL_ISSUER, subject="owner")
            expires = None if given.days == 0 else scope.now + timedelta(days=given.days)
            _, secret = TokenRepository(scope).add(
                name=given.name, scopes=given.scopes or ["read", "write"], expires_at=expires
            )
    print(secret)
    return 0


def examine(given: argparse.Namespace) -> int:
    """Check an installation, on this machine or at a URL, and print what to fix."""
    from backend.doctor import examine_here, examine_url

    logs.configure("WARNING", stream=sys.stderr)
    status = 0
    for finding in examine_url(given.url) if given.url else examine_here(Settings.load()):
        print(finding, flush=True)
        status = max(status, int(finding.is_bad))
    return status


@contextmanager
def opened_database(settings: Settings) -> Iterator[tuple[Database, str]]:
    """Open the database for one command, migrated and checked. Yield it with the URL of its owner role.

    Raises:
        NotReady: The database cannot be used in its present state. The error says what to do.
        DatabaseUnavailable: The database does not answer.
        EmbeddedPostgresError: The embedded database cannot be used.
    """
    database = make_database(settings)
    installation = Installation(database, lambda: find_postgres(settings), migrate_on_start=settings.migrate_on_start)
    try:
        owner_url = installation.open_now()
        yield database, owner_url
    finally:
        installation.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docutalk", description="A chat service over your tasks and documents.")
    parser.add_argument("--version", action="version", version=f"docutalk {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        doc = command.__doc__ or ""
        made = commands.add_parser(name, help=doc, description=doc)
        made.set_defaults(command=command)
        return made

    add("serve", serve)
    mcp = add("mcp", serve_mcp)
    mcp.add_argument("--url", help="connect to a hosted installation at this address instead; it needs only a token")
    add("worker", work)
    add("migrate", migrate_database)
    token = commands.add_parser("token", help="Create personal access tokens.").add_subparsers(required=True)
    create = token.add_parser("create", help=create_token.__doc__, description=create_token.__doc__)
    create.set_defaults(command=create_token)
    create.add_argument("--name", default="docutalk token create", help="what the token is for")
    create.add_argument(
        "--scope", dest="scopes", action="append", choices=("read", "write"), help="what it may do; both by default"
    )
    create.add_argument("--days", type=_days, default=90, help="days until it expires; 0 means never")
    create.add_argument("--user", help="the user it belongs to; by default the owner of this installation")
    embeddings = commands.add_parser("embeddings", help="Manage the embeddings.").add_subparsers(required=True)
    build = embeddings.add_parser("build", help=build_embeddings.__doc__, description=build_embeddings.__doc__)
    build.set_defaults(command=build_embeddings)
    build.add_argument("model", nargs="?", help="the model's name; by default EMBEDDING_MODEL, or else the one in use")
    doctor = add("doctor", examine)
    doctor.add_argument(
        "url", nargs="?", help="the address of an installation; by default, check the one in the settings"
    )
    return parser


def _days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= 3650:
        raise argparse.ArgumentTypeError("give a number of days from 0 to 3650")
    return days


def listening(name: str, host: str, port: int) -> socket.socket:
    """Return a listening socket. If the address cannot be used, raise InvalidSettings with the setting's name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With IPPROTO_TCP, asyncio can see that this is TCP and sends without delay. Otherwise each answer would wait for
    # the client's ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The connections inherit this option. Without it, a client that never reads keeps its connection forever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidSettings(
            f"{name}: {host}:{port} cannot be used: {error.strerror}. Stop the program using it, or set another {name}."
        ) from None
    return listener


def _room_for_connections(settings: Settings) -> int:
    """Raise the process's limit of open files as far as needed and allowed; return how many connections fit in it."""
    others = settings.db_pool_size + settings.db_max_overflow + OTHER_FILES + BACKLOG
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        higher = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # Some systems have a lower maximum that they do not report.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
            soft = higher
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    # If the limit of open files is very low, connections may use half of it.
    return min(MOST_CONNECTIONS, max(soft - others, soft // 2))


def _banner(settings: Settings, port: int) -> str:
    host = "localhost" if settings.listens_publicly or settings.host in LOOPBACK_ADDRESSES else settings.host
    base = settings.public_url or f"http://{host}:{port}"
    model = model_choice(settings).shown
    hint = " (no language model; set MODEL or a provider's key for one)" if model == OFFLINE_NAME else ""
    database = "your PostgreSQL (DATABASE_URL)" if settings.database_url else f"embedded, in {settings.data_dir}"
    return (
        f"\n  DocuTalk {VERSION}\n\n"
        f"  Page      {base}\n"
        f"  API       {base}/docs\n"
        f"  MCP       {base}/mcp\n"
        f"  Model     {model}{hint}\n"
        f"  Database  {database}\n\n"
        f"  Ctrl-C stops it.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
