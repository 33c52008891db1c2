"""Run the migrations in one transaction, as the owner's role, under an advisory lock."""

from alembic import context
from sqlalchemy import Connection
from sqlmodel import SQLModel

from backend.app import find_postgres
from backend.database import make_engine
from backend.log import configure
from backend.schema import prepare_roles
from backend.settings import Settings


def run(connection: Connection) -> None:
    """Run the asked-for migrations on a connection that is inside a transaction."""
    prepare_roles(connection)
    context.configure(
        connection=connection, target_metadata=SQLModel.metadata, compare_type=True, compare_server_default=True
    )
    context.run_migrations()


def run_by_hand() -> None:
    """Find the database as the service does, for Alembic's own command line."""
    configure("WARNING")
    postgres = find_postgres(Settings.load())
    try:
        engine = make_engine(postgres.migration_url)
        with engine.begin() as connection:
            run(connection)
        engine.dispose()
    finally:
        postgres.stop()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    run_by_hand()
