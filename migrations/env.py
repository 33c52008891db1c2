"""Run the migrations in one transaction, as the owner's role, under an advisory lock."""

from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import JSON, Column, Connection
from sqlmodel import SQLModel

from backend import process  # noqa: F401  # This import also imports every module that defines a table.
from backend.errors import DocuTalkError
from backend.log import configure
from backend.postgres.database import make_engine
from backend.postgres.embedded import EmbeddedPostgresError
from backend.postgres.schema import failures_told, grant_to_service, prepare_roles, refuse_newer
from backend.settings import InvalidSettings, Settings
from backend.wiring import find_postgres


def run(connection: Connection) -> None:
    """Run the requested migrations on a connection that is inside a transaction."""
    prepare_roles(connection)
    refuse_newer(connection)
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        compare_server_default=json_default_differs,
    )
    context.run_migrations()


def json_default_differs(
    _context: Any, _kept_column: Any, column: Column[Any], kept: str | None, _modelled: Any, rendered: str | None
) -> bool | None:
    """Compare a JSON column's default as text, because json has no `=`. None leaves other columns to Alembic."""
    if not isinstance(column.type, JSON):
        return None
    return (kept or "").removesuffix("::json") != (rendered or "")


def run_by_hand() -> None:
    """Run the migrations from Alembic's own command line, on the database that the service would use."""
    configure("WARNING")
    postgres = find_postgres(Settings.load())
    try:
        engine = make_engine(postgres.migration_url)
        with failures_told(), engine.begin() as connection:
            run(connection)
            grant_to_service(connection, postgres.migration_url, postgres.url)
        engine.dispose()
    finally:
        postgres.stop()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    try:
        run_by_hand()
    except (InvalidSettings, DocuTalkError, EmbeddedPostgresError) as error:
        # Alembic prints the message of this error, without a traceback.
        raise CommandError(str(error)) from error
