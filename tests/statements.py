"""Observes a database's statements one by one."""

from collections.abc import Callable

from sqlalchemy import event

from backend.postgres.database import Database


def on_statement(database: Database, heard: Callable[[str], None]) -> None:
    """Call `heard` with every statement before it is sent, and with "COMMIT" before each commit."""
    engine = database._engine
    assert engine is not None
    event.listen(engine, "before_cursor_execute", lambda *args: heard(args[2]))
    event.listen(engine, "commit", lambda _connection: heard("COMMIT"))
