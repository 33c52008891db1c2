"""The service's only engine, session and commit. A transaction belongs to one user, or to nobody."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Engine, NullPool, PoolProxiedConnection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from backend.errors import DatabaseUnavailable, NewerSchema, NotReady

log = structlog.get_logger()

APP_ROLE = "docutalk_app"
OWNER_ROLE = "docutalk_owner"
OLDEST_POSTGRES = 16
LOCK_SECONDS = 5.0
"""Seconds that a statement waits, by default, for a row that another transaction has locked."""
GIVE_WAY_SECONDS = 0.4
"""Seconds that a statement waits for a locked row in work that nobody waits for, such as removing expired guests.

PostgreSQL looks for deadlocks after one second. In a deadlock, this work has failed by then, so no user's request
fails."""
IDLE_SECONDS = 15.0
"""Seconds that a transaction may go without a statement. After that the server ends it and frees its locks.

Our transactions never wait for a network, so only a stopped or hanging process is idle this long."""

_ENTER = text(
    "select set_config('role', :role, true), set_config('app.user_id', :user_id, true), "
    "set_config('app.change_id', :change_id, true), "
    "set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true), "
    "set_config('idle_in_transaction_session_timeout', :idle, true)"
)
_BECOME = text("select set_config('app.user_id', :user_id, true)")
_NO_URL = (
    "The database's URL cannot be read. Write DATABASE_URL as postgresql://user:password@host:5432/database, with "
    "special characters of the password percent-encoded."
)


UTC = ZoneInfo("UTC")

Clock = Callable[[], datetime]
"""Returns the current time, with time zone."""


def now_utc() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Scope:
    """One user's view of the database inside one open transaction."""

    session: Session
    user_id: str
    now: datetime
    """The time at which the transaction began, in UTC."""
    zone: ZoneInfo
    """The user's time zone."""


def driver_url(url: str) -> str:
    """Return a Postgres URL in psycopg2's form. The URL may have any form that hosts provide.

    The function accepts `postgres://`, `postgresql://`, `+psycopg2`, `+psycopg` and `+asyncpg`. asyncpg's `ssl=true`
    and `ssl=require` become `sslmode=require`.

    Raises:
        NotReady: The URL has another form.
    """
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        # Not chained, because SQLAlchemy's message may quote the password.
        raise NotReady(_NO_URL) from None
    name, _, driver = parsed.drivername.partition("+")
    if name not in ("postgres", "postgresql") or driver not in ("", "psycopg2", "psycopg", "asyncpg"):
        raise NotReady(_NO_URL)
    query = dict(parsed.query)
    if isinstance(ssl := query.pop("ssl", None), str):
        query.setdefault("sslmode", {"true": "require", "false": "disable"}.get(ssl, ssl))
    return parsed.set(drivername="postgresql+psycopg2", query=query).render_as_string(hide_password=False)


def make_engine(url: str, **options: Any) -> Engine:
    """Return an engine for a Postgres URL in any accepted form."""
    # These options detect a server that disappears without closing the connection, even during a statement.
    alive = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 10_000}
    told = {"connect_timeout": 10, "application_name": "docutalk"}
    options["connect_args"] = told | alive | options.get("connect_args", {})
    return create_engine(driver_url(url), hide_parameters=True, **options)


def direct_connection(url: str) -> PoolProxiedConnection:
    """Return a separate connection, outside every pool and in autocommit mode; the caller closes it.

    Raises SQLAlchemy's errors if the connection fails.
    """
    options = {"connect_timeout": 5, "application_name": "docutalk listening"}
    connection = make_engine(url, poolclass=NullPool, pool_reset_on_return=None, connect_args=options).raw_connection()
    driver: Any = connection.driver_connection
    driver.autocommit = True
    return connection


class Database:
    """Transactions with the effective role `docutalk_app`, each for one user as tenant.

    The first statement of each transaction switches the role and sets the tenant. Both last only until the transaction
    ends, so no setting stays behind in a pooler's session. Because of the switch, any login works, even a superuser's.
    """

    def __init__(
        self,
        *,
        pool_size: int = 20,
        max_overflow: int = 0,
        pool_recycle: int = 3600,
        pool_pre_ping: bool = True,
        pool_timeout: float = 10.0,
        clock: Clock = now_utc,
    ) -> None:
        self.now = clock
        self.is_in_doubt = False
        """Whether the database has failed since it last answered."""
        self._revive: Callable[[], None] | None = None
        self._engine: Engine | None = None
        self._options = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "pool_recycle": pool_recycle,
            "pool_pre_ping": pool_pre_ping,
            "pool_timeout": pool_timeout,
        }

    def open(self, url: str, *, revive: Callable[[], None] | None = None) -> None:
        """Use the database at this URL. Before this call, every transaction raises DatabaseUnavailable.

        If a connection fails, `revive` is called, and then the connection is tried once more.
        """
        self._revive = revive
        self._engine = make_engine(url, **self._options)

    @contextmanager
    def scope(
        self, user_id: str, zone: ZoneInfo, *, lock_seconds: float = LOCK_SECONDS, change_id: UUID | None = None
    ) -> Iterator[Scope]:
        """Open a user's transaction for repositories, and commit it at the end. Raises the errors of `transaction`.

        With a `change_id`, a trigger records under it every row's value before and after a change, so that the changes
        can be undone.
        """
        with self.transaction(user_id, lock_seconds=lock_seconds, change_id=change_id) as session:
            yield Scope(session, user_id, self.now(), zone)

    @contextmanager
    def transaction(
        self,
        user_id: str | None,
        *,
        statement_seconds: float = 15,
        lock_seconds: float = LOCK_SECONDS,
        change_id: UUID | None = None,
    ) -> Iterator[Session]:
        """Open a transaction as one user, or as nobody, and commit it at the end. As nobody, it sees no user's rows.

        Raises:
            DatabaseUnavailable: The database does not answer, has no free connection, or was too slow.
        """
        try:
            connection = self._connect()
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            self.is_in_doubt = True
            log.warning("database_unavailable", reason=type(error).__name__)
            raise not_connected(error) from error
        try:
            with connection, Session(connection) as session:
                session.execute(
                    _ENTER,
                    {
                        "role": APP_ROLE,
                        "user_id": user_id or "",
                        "change_id": str(change_id or ""),
                        "statement": f"{statement_seconds}s",
                        "lock": f"{lock_seconds}s",
                        "idle": f"{IDLE_SECONDS}s",
                    },
                )
                yield session
                session.commit()
        except DBAPIError as error:
            # The rollback may raise as well, if the connection was lost meanwhile.
            if not (isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated):
                raise
            self.is_in_doubt = True
            log.warning("database_unavailable", reason=_reason(error))
            raise DatabaseUnavailable from error

    def _connect(self) -> Connection:
        if self._engine is None:
            raise DatabaseUnavailable
        try:
            return self._engine.connect()
        except OperationalError:
            if self._revive is None:
                raise
            self._revive()
            return self._engine.connect()

    def is_reachable(self) -> bool:
        """Return whether the database answers now."""
        try:
            with self._connect() as connection:
                connection.execute(text("select 1"))
        except (DBAPIError, PoolTimeout, DatabaseUnavailable):
            self.is_in_doubt = True
            return False
        self.is_in_doubt = False
        return True

    def pool_status(self) -> dict[str, int]:
        """Return the pool's size, the number of connections in use, and the number of connections beyond the size."""
        if self._engine is None:
            return {"size": 0, "checked_out": 0, "overflow": 0}
        pool: Any = self._engine.pool
        return {"size": pool.size(), "checked_out": pool.checkedout(), "overflow": max(pool.overflow(), 0)}

    def check(self, *, revisions: Sequence[str]) -> None:
        """Check that the schema and the effective role are what the service needs.

        `revisions` lists all revisions that the code knows. The first one is the revision that it needs.

        Raises:
            NotReady: The schema or the role must be changed first. The message says what to do.
            NewerSchema: The schema is at a revision that the code does not know, so no migration can help.
        """
        try:
            with self.transaction(None) as session:
                row = session.execute(_GUARD, {"role": APP_ROLE}).mappings().one()
                revision = None
                if row["has_revision"]:
                    revision = session.execute(text("select version_num from alembic_version")).scalar_one_or_none()
        except DBAPIError as error:
            raise NotReady(_entering_failed(error)) from error
        if row["version"] < OLDEST_POSTGRES * 10000:
            raise NotReady(f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; this server is older. Upgrade it.")
        if revision is not None and revision not in revisions:
            raise NewerSchema
        if revision != revisions[0]:
            raise NotReady(
                f"The database's schema is at {revision or 'nothing'} and this version needs {revisions[0]}. "
                "Run `docutalk migrate` with the database owner's URL."
            )
        if row["passes"]:
            raise NotReady(
                f"The effective role {row['role']} passes row-level security. Run `docutalk migrate`, and make sure "
                f"that nobody gave {APP_ROLE} SUPERUSER, BYPASSRLS or the ownership of a table."
            )
        if row["open_tables"]:
            raise NotReady(
                f"Row-level security is not forced on: {', '.join(row['open_tables'])}. Run `docutalk migrate`; if "
                "that does not help, somebody changed the tables by hand."
            )

    def close(self) -> None:
        """Close the connections. Every transaction raises DatabaseUnavailable until `open` is called again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()


def become(session: Session, user_id: str) -> None:
    """Make this user the tenant of a transaction that began as nobody. A lookup has found the user's id."""
    session.execute(_BECOME, {"user_id": user_id})


_GUARD = text(
    """
    select current_setting('server_version_num')::int as version,
           current_user::text as role,
           (select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = current_user)
             or current_user::text <> :role
             or exists (select from pg_catalog.pg_class where pg_has_role(relowner, 'usage')
                        and relnamespace = 'public'::regnamespace) as passes,
           to_regclass('public.alembic_version') is not null
             and has_table_privilege('public.alembic_version', 'select') as has_revision,
           array(select c.relname::text from pg_catalog.pg_class c
                 join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'user_id' and not a.attisdropped
                 where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
                   and has_table_privilege(c.oid, 'select, insert, update, delete')
                   and not (c.relrowsecurity and c.relforcerowsecurity)
                 order by 1) as open_tables
    """
)


def not_connected(error: Exception) -> DatabaseUnavailable:
    """Return the error for a failed connection. It never contains the driver's text, which names host and user."""
    told = str(getattr(error, "orig", None) or error).lower()
    for words, sentence in _CAUSES:
        if all(word in told for word in words):
            return DatabaseUnavailable(f"{sentence} Check DATABASE_URL.")
    return DatabaseUnavailable()


_CAUSES = (
    (("database", "does not exist"), "The server answers, and it has no database of the name in the URL."),
    (("role", "does not exist"), "The server answers, and it does not know the user in the URL."),
    (("password",), "The server answers, and it refuses the user or the password in the URL."),
    (("translate host name",), "The host name in the URL is not known."),
    (("connection refused",), "Nothing answers at the host and port in the URL."),
    (("timeout",), "The server at the host and port in the URL does not answer in time."),
    (("ssl",), "The server wants another sslmode than the URL has; hosted ones want sslmode=require."),
)


def _reason(error: DBAPIError) -> str:
    return getattr(error.orig, "pgcode", None) or type(error.orig).__name__


def _entering_failed(error: DBAPIError) -> str:
    return (
        f"This login may not become the role {APP_ROLE} ({_reason(error)}). Run `docutalk migrate` with the owner's "
        f"URL in MIGRATION_DATABASE_URL and this login's in DATABASE_URL: it creates the role and grants it."
    )
