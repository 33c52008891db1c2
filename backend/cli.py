"""The command `docutalk`: serve, mcp, migrate, token, doctor."""

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import anyio
import uvicorn

from backend import VERSION
from backend import log as logs
from backend.app import TOOLS, create_app, find_postgres, make_authenticator, make_database, model_choice
from backend.database import Database
from backend.doctor import examine_here, examine_url
from backend.embedded_postgres import EmbeddedPostgresError
from backend.errors import DocuTalkError
from backend.identity.accounts import AccountRepository, TokenRepository
from backend.identity.authenticator import UTC, user_id_of
from backend.installation import Installation
from backend.mcp_server.server import build_server
from backend.mcp_server.stdio import bridge_stdio, serve_stdio
from backend.operations.perform import Operations
from backend.schema import head, migrate
from backend.settings import InvalidSettings, Settings

GRACEFUL_SECONDS = 3
"""How long open requests may go on after a stop was asked for; the runs have their own few seconds after that."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with a sentence on stderr."""
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except (InvalidSettings, DocuTalkError, EmbeddedPostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def serve(_given: argparse.Namespace) -> int:
    """Serve the page, the API and MCP until a signal."""
    settings = Settings.load()
    app = create_app(settings)
    sockets = [_bound(settings.host, settings.port)]
    if settings.mcp_port is not None:
        sockets.append(_bound(settings.mcp_host or settings.host, settings.mcp_port))
    print(_banner(settings, sockets[0].getsockname()[1]), file=sys.stderr, flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )
    server.run(sockets=sockets)
    return 0 if server.started else 1


def serve_mcp(given: argparse.Namespace) -> int:
    """Serve MCP over stdin and stdout, for clients that start a command."""
    # Standard output belongs to the protocol.
    logs.configure(os.environ.get("LOG_LEVEL", "WARNING").upper(), stream=sys.stderr)
    token = os.environ.get("DOCUTALK_TOKEN", "")
    if not token:
        print(
            "Set DOCUTALK_TOKEN to a token. `docutalk token create` makes one, and so does POST /api/tokens.",
            file=sys.stderr,
        )
        return 1
    if given.url:
        anyio.run(bridge_stdio, given.url, token)
        return 0
    settings = Settings.load()
    with opened_database(settings) as database:
        caller = make_authenticator(settings, database).caller(token)
        server = build_server(TOOLS, Operations(database))
        anyio.run(serve_stdio, server, replace(caller, door="mcp", client="stdio"))
    return 0


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


def create_token(given: argparse.Namespace) -> int:
    """Make a personal access token and print it, this once."""
    settings = Settings.load()
    logs.configure("WARNING", stream=sys.stderr)
    with opened_database(settings) as database:
        user_id = given.user or user_id_of("local", "owner")
        with database.scope(user_id, UTC) as scope:
            accounts = AccountRepository(scope)
            if accounts.find() is None:
                if given.user:
                    print(f"There is no user {given.user}.", file=sys.stderr)
                    return 1
                accounts.add_person(name="Owner", issuer="local", subject="owner")
            expires = None if given.days == 0 else scope.now + timedelta(days=given.days)
            _, secret = TokenRepository(scope).add(
                name=given.name, scopes=given.scopes or ["read", "write"], expires_at=expires
            )
    print(secret)
    return 0


def examine(given: argparse.Namespace) -> int:
    """Check an installation, here or at a URL, and say what to mend."""
    findings = examine_url(given.url) if given.url else examine_here(Settings.load())
    for finding in findings:
        print(finding)
    return 1 if any(finding.is_bad for finding in findings) else 0


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """Open the database that the settings name, migrated and checked, for one command.

    Raises:
        NotReady: It is not in order; the sentence says what to do.
        DatabaseUnavailable: It does not answer.
        EmbeddedPostgresError: The embedded one cannot be used.
    """
    database = make_database(settings)
    installation = Installation(database, lambda: find_postgres(settings), migrate_on_start=settings.migrate_on_start)
    try:
        installation.open_now()
        yield database
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
    mcp.add_argument("--url", help="speak to a hosted installation at this address instead, with a token alone")
    add("migrate", migrate_database)
    token = commands.add_parser("token", help="Make personal access tokens.").add_subparsers(required=True)
    create = token.add_parser("create", help=create_token.__doc__, description=create_token.__doc__)
    create.set_defaults(command=create_token)
    create.add_argument("--name", default="docutalk token create", help="what the token is for")
    create.add_argument(
        "--scope", dest="scopes", action="append", choices=("read", "write"), help="what it may do; both unless told"
    )
    create.add_argument("--days", type=_days, default=90, help="days until it expires; 0 means never")
    create.add_argument("--user", help="whose token; unless told, the owner of this installation")
    doctor = add("doctor", examine)
    doctor.add_argument("url", nargs="?", help="a public installation; without it, the one that the settings describe")
    return parser


def _days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= 3650:
        raise argparse.ArgumentTypeError("give a number of days from 0 to 3650")
    return days


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise InvalidSettings(
            f"PORT: {host}:{port} cannot be used: {error.strerror}. Stop what listens there, or set another PORT."
        ) from None
    bound.set_inheritable(True)
    return bound


def _banner(settings: Settings, port: int) -> str:
    host = "localhost" if settings.listens_publicly or settings.host in ("127.0.0.1", "::1") else settings.host
    model = model_choice(settings).shown
    hint = " (no language model; set MODEL or a provider's key for one)" if model == "offline-rules-1" else ""
    database = "your PostgreSQL (DATABASE_URL)" if settings.database_url else f"embedded, in {settings.data_dir}"
    return (
        f"\n  DocuTalk {VERSION}\n\n"
        f"  Page      {settings.public_url or f'http://{host}:{port}'}\n"
        f"  API       http://{host}:{port}/docs\n"
        f"  MCP       http://{host}:{port}/mcp\n"
        f"  Model     {model}{hint}\n"
        f"  Database  {database}\n\n"
        f"  Ctrl-C stops it.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
