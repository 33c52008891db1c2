"""Bring a database's schema to the revision that this version of the code needs.

Alembic is imported only where it is used. Its import would take a large part of the start, and `/health` does not need
Alembic.
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
"""From this version on, a search in an approximate index continues until it has enough of one user's vectors."""
_LACKS_A_RIGHT = "42501"


def alembic_config() -> "Config":
    """Return Alembic's configuration, which does not depend on the working directory."""
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def revisions() -> list[str]:
    """Return the revisions that this version of the code knows, newest first. The code needs the newest one."""
    from alembic.script import ScriptDirectory

    known = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    if not known:
        raise NotReady("The migrations are missing from this installation. Install it again.")
    return known


def head() -> str:
    """Return the revision that this version of the code needs."""
    return revisions()[0]


def migrate(url: str, *, revision: str = "head", service_url: str | None = None) -> None:
    """Upgrade the schema to a revision. If several processes call this at once, the schema is upgraded only once.

    If the service uses another login than the migration, `service_url` names it, and that login gets the app's role.

    Raises:
        NotReady: The server or pgvector is missing or too old, or the login lacks a right. The message says which.
        NewerSchema: A newer version of the code has migrated the database.
        DatabaseUnavailable: The server does not answer or rejects the login.
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
    """Turn a database error during a migration into NotReady, or DatabaseUnavailable if no connection was made."""
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if isinstance(error, OperationalError) and code is None:
            # No connection was made. The driver's text is not used, because it names host and user.
            raise not_connected(error) from error
        advice = " Give the database owner's URL in MIGRATION_DATABASE_URL." if code == _LACKS_A_RIGHT else ""
        raise NotReady(
            f"The migration failed ({code or type(error.orig).__name__}): {_first_line(error)} "
            f"Nothing was changed.{advice}"
        ) from error


def prepare_roles(connection: Connection) -> None:
    """Create the roles and the extension before the schema is changed, then switch to the owner's role.

    Roles are shared by the whole cluster, and the extension needs the login's own rights. There are two roles without
    login. The owner's role owns every table. The app's role owns nothing and may only read and write rows. The login
    may switch to either role but inherits neither role's rights.
    """
    if connection.dialect.server_version_info < (OLDEST_POSTGRES,):  # type: ignore[operator]
        raise NotReady(f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; this server is older. Upgrade it.")
    # Only one migration runs at a time in this database, and only one process at a time creates roles in the cluster.
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
    """Raise NewerSchema if the database is at a revision that this version of the code does not know."""
    from alembic.migration import MigrationContext

    if not set(MigrationContext.configure(connection).get_current_heads()) <= set(revisions()):
        raise NewerSchema


def grant_to_service(connection: Connection, url: str, service_url: str | None) -> None:
    """Let the service's login switch to the app's role, if another login runs the migration."""
    service = make_url(driver_url(service_url)).username if service_url else None
    if service and service != make_url(driver_url(url)).username:
        connection.execute(text("reset role"))
        quoted = connection.dialect.identifier_preparer.quote(service)
        connection.execute(text(f"grant {APP_ROLE} to {quoted} with set true, inherit false"))


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".") + "."
