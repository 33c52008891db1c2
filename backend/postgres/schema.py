"""Bring a database's schema to the revision that this version of the code needs.

Alembic is imported where it is used: it takes a good part of a start, and `/health` answers without it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from backend.errors import NewerSchema, NotReady
from backend.postgres.database import APP_ROLE, OLDEST_POSTGRES, OWNER_ROLE, driver_url, make_engine, not_connected

if TYPE_CHECKING:
    from alembic.config import Config

ROOT = Path(__file__).parents[2]
OLDEST_PGVECTOR = (0, 8)
"""An approximate index of many users' vectors goes on until it has enough of one's only since then."""
_LACKS_A_RIGHT = "42501"


def alembic_config() -> "Config":
    """Return Alembic's configuration, independent of the working directory."""
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def revisions() -> list[str]:
    """Return the revisions that this version of the code knows, the newest first, which is the one it needs."""
    from alembic.script import ScriptDirectory

    known = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    if not known:
        raise NotReady("The migrations are missing from this installation. Install it again.")
    return known


def head() -> str:
    """Return the revision that this version of the code needs."""
    return revisions()[0]


def migrate(url: str, *, revision: str = "head", service_url: str | None = None) -> None:
    """Upgrade the schema to a revision, once, however many processes ask for it at the same time.

    `service_url` is the login that the service will use where it is another one: it is granted the app's role.

    Raises:
        NotReady: The server or its pgvector is too old or missing, or the login lacks a right; the sentence says.
        NewerSchema: A newer version of the code has migrated it.
        DatabaseUnavailable: The server does not answer or does not let the login in.
    """
    from alembic import command

    config = alembic_config()
    engine = make_engine(url)
    try:
        with failures_told(), engine.begin() as connection:
            config.attributes["connection"] = connection
            if revision == "base":
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
                grant_to_service(connection, url, service_url)
    finally:
        engine.dispose()


@contextmanager
def failures_told() -> Iterator[None]:
    """Turn what the database says against a migration into NotReady with a sentence."""
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if isinstance(error, OperationalError) and code is None:
            # No connection was made; the driver's text names host and user.
            raise not_connected(error) from error
        advice = " Give the database owner's URL in MIGRATION_DATABASE_URL." if code == _LACKS_A_RIGHT else ""
        raise NotReady(
            f"The migration failed ({code or type(error.orig).__name__}): {_first_line(error)} "
            f"Nothing was changed.{advice}"
        ) from error


def prepare_roles(connection: Connection) -> None:
    """Make what belongs to the whole cluster, or needs the login's own rights, before the schema is touched.

    Two roles that nobody can log in as: the owner of every table, and the app's, which owns nothing and may only
    read and write rows. The login may become either; it inherits neither. Then go on as the owner.
    """
    if connection.dialect.server_version_info < (OLDEST_POSTGRES,):  # type: ignore[operator]
        raise NotReady(f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; this server is older. Upgrade it.")
    # One migration at a time in this database, and one creation of roles at a time in the cluster.
    connection.execute(text("select pg_advisory_xact_lock(hashtext('docutalk migrate'))"))
    if not connection.execute(text("select count(*) from pg_available_extensions where name = 'vector'")).scalar():
        raise NotReady("This PostgreSQL has no pgvector. Use an image such as pgvector/pgvector:pg16, or install it.")
    connection.execute(text("create extension if not exists vector"))
    pgvector = connection.execute(text("select extversion from pg_extension where extname = 'vector'")).scalar_one()
    if tuple(int(number) for number in re.findall(r"\d+", pgvector)) < OLDEST_PGVECTOR:
        raise NotReady(
            f"pgvector {'.'.join(map(str, OLDEST_PGVECTOR))} or newer is needed; this database has {pgvector}. "
            "Install it, and run as the database's owner: alter extension vector update"
        )
    for role in (OWNER_ROLE, APP_ROLE):
        connection.execute(
            text(
                f"do $$ begin if not exists (select from pg_roles where rolname = '{role}') then "
                f"create role {role} nologin; end if; "
                f"exception when duplicate_object or unique_violation then null; end $$"
            )
        )
        connection.execute(
            text(
                f"do $$ begin if not pg_has_role('{role}', 'SET') then "
                f"grant {role} to current_user with set true, inherit false; end if; end $$"
            )
        )
    connection.execute(text(f"grant usage, create on schema public to {OWNER_ROLE}"))
    connection.execute(text(f"grant usage on schema public to {APP_ROLE}"))
    connection.execute(text(f"set local role {OWNER_ROLE}"))


def refuse_newer(connection: Connection) -> None:
    """Raise NewerSchema where the database is at a revision that this version of the code does not know."""
    from alembic.migration import MigrationContext

    if not set(MigrationContext.configure(connection).get_current_heads()) <= set(revisions()):
        raise NewerSchema


def grant_to_service(connection: Connection, url: str, service_url: str | None) -> None:
    """Let the service's login become the app's role, where it is another login than the one that migrates."""
    service = make_url(driver_url(service_url)).username if service_url else None
    if service and service != make_url(driver_url(url)).username:
        connection.execute(text("reset role"))
        quoted = connection.dialect.identifier_preparer.quote(service)
        connection.execute(text(f"grant {APP_ROLE} to {quoted} with set true, inherit false"))


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".") + "."
