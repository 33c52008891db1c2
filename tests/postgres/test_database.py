"""Transactions with a role and a tenant, the check at the start, and a database that disappears and returns."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector.sqlalchemy import HALFVEC
from psycopg2.errors import FeatureNotSupported
from sqlalchemy import Column, Integer, MetaData, Table, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlmodel import Session

from backend.errors import DatabaseUnavailable, NewerSchema, NotReady
from backend.identity.caller import Caller
from backend.identity.models import LoginSession, User
from backend.operations.models import Operation
from backend.operations.perform import Operations
from backend.plain_text import refuse_unstorable, storable, storable_json
from backend.postgres.database import APP_ROLE, OWNER_ROLE, Database, become, driver_url
from backend.postgres.embedded import EmbeddedPostgres
from backend.postgres.repository import Counter
from backend.postgres.schema import head, migrate, revisions
from backend.tasks.models import Task
from backend.tasks.tools import add_task
from tests.conftest import POSTGRES, database_url_of, query, wait_until
from tests.statements import on_statement

pytestmark = pytest.mark.database

SETTINGS = (
    "select current_user::text, session_user::text, nullif(current_setting('app.user_id', true), ''), "
    "current_setting('statement_timeout'), current_setting('lock_timeout'), "
    "current_setting('idle_in_transaction_session_timeout')"
)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server for this module only, whose roles may be broken and which may be killed; its database is migrated."""
    postgres = EmbeddedPostgres.start(tmp_path_factory.mktemp("own") / "postgres", major=POSTGRES)
    migrate(postgres.url)
    yield postgres
    postgres.stop()


@contextmanager
def opened(url: str, *, revive: Callable[[], None] | None = None, **options: Any) -> Iterator[Database]:
    database = Database(**options)
    database.open(url, revive=revive)
    try:
        yield database
    finally:
        database.close()


@pytest.mark.spec("DB-1")
@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql://u:p@h:5433/d", "postgresql+psycopg2://u:p@h:5433/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        (" postgresql+asyncpg://u:p@h/d\n", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+psycopg2://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?ssl=true", "postgresql+psycopg2://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?ssl=false", "postgresql+psycopg2://u:p@h/d?sslmode=disable"),
        ("postgres://u:p@h/d?ssl=true&sslmode=verify-full", "postgresql+psycopg2://u:p@h/d?sslmode=verify-full"),
        (
            "postgresql://u:p@ep-x.eu.neon.tech/d?sslmode=require&channel_binding=require",
            "postgresql+psycopg2://u:p@ep-x.eu.neon.tech/d?sslmode=require&channel_binding=require",
        ),
        (
            "postgresql://docutalk@/docutalk?host=/var/run/postgresql",
            "postgresql+psycopg2://docutalk@/docutalk?host=%2Fvar%2Frun%2Fpostgresql",
        ),
    ],
)
def test_every_spelling_of_a_postgres_url_is_understood(given_url: str, expected: str) -> None:
    assert make_url(driver_url(given_url)) == make_url(expected)


@pytest.mark.spec("DB-1")
@pytest.mark.parametrize(
    "spelled", ["p%40ss%3Aw%2Frd%23%3F%25%2B%20", "a+b", "a#b?c/d", "100%25", "sch%C3%B6n", "$'\"&="]
)
def test_a_password_with_special_characters_stays_what_it_is(spelled: str) -> None:
    understood = make_url(driver_url(f"postgres://user%40org:{spelled}@host:5432/data?ssl=require"))

    assert understood.password == make_url(f"postgresql://u:{spelled}@host/data").password
    assert (understood.username, understood.host, understood.database) == ("user@org", "host", "data")
    assert dict(understood.query) == {"sslmode": "require"}


@pytest.mark.spec("DB-2")
@pytest.mark.parametrize(
    "wrong",
    ["", "localhost", "mysql://u:secret@h/d", "postgresql+pg8000://u:secret@h/d", "postgres://u:secret@h:port/d"],
)
def test_what_is_no_postgres_url_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(NotReady, match="Write DATABASE_URL as postgresql://") as refusal:
        driver_url(wrong)

    assert "secret" not in str(refusal.value)


@pytest.mark.spec("DB-1")
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_a_url_in_any_spelling_connects(database_url: str, scheme: str) -> None:
    spelled = f"{scheme}://{database_url.split('://', 1)[1]}&ssl=prefer&channel_binding=prefer"

    with opened(spelled) as database:
        assert database.is_reachable()


@pytest.mark.spec("DB-3")
def test_one_statement_at_the_start_of_a_transaction_sets_role_tenant_and_limits(database_url: str) -> None:
    heard: list[str] = []
    with opened(database_url) as database:
        on_statement(database, heard.append)
        for user_id in ("alice", None):
            heard.clear()
            with database.transaction(user_id) as session:
                role, _, tenant, statement, lock, idle = session.execute(text(SETTINGS)).one()

            assert (role, tenant, statement, lock, idle) == (APP_ROLE, user_id, "15s", "5s", "15s")
            assert len(heard) == 3, "one to enter, the query, the commit"
            assert "set_config('role'" in heard[0]
            assert "set_config('app.user_id'" in heard[0]
            assert heard[2] == "COMMIT"


@pytest.mark.spec("DB-4")
@pytest.mark.parametrize("ending", ["commit", "rollback", "failure in the database"])
def test_role_and_tenant_are_gone_after_the_transaction(database_url: str, ending: str) -> None:
    with opened(database_url, pool_size=1) as database:
        assert database._engine is not None
        with suppress(KeyError, DBAPIError), database.transaction("alice") as session:
            backend = session.execute(text("select pg_backend_pid()")).scalar_one()
            if ending == "rollback":
                raise KeyError
            if ending != "commit":
                session.execute(text("select 1 / 0"))

        with database._engine.connect() as connection:
            assert connection.execute(text("select pg_backend_pid()")).scalar_one() == backend
            role, login, tenant, *limits = connection.execute(text(SETTINGS)).one()
        assert (role, tenant, limits) == (login, None, ["0", "0", "0"])


@pytest.mark.spec("DB-5")
def test_without_a_tenant_no_row_is_visible_and_none_can_be_written(
    database: Database, operations: Operations, alice: Caller
) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)

    with database.transaction(None) as session:
        for table in (User, Task, Operation, Counter, LoginSession):
            assert session.execute(select(table)).all() == []
        assert session.execute(text("update tasks set title = 'x'")).rowcount == 0  # type: ignore[attr-defined]
    with pytest.raises(ProgrammingError, match="row-level security"), database.transaction(None) as session:
        session.execute(text("insert into users (user_id, kind, name) values ('', 'guest', 'x')"))


@pytest.mark.spec("DB-6")
def test_statements_by_hand_reach_no_row_of_another_user(
    database: Database, operations: Operations, superuser_url: str, alice: Caller, bob: Caller
) -> None:
    operations.perform(add_task, {"title": "milk"}, alice)
    rows = "select * from tasks where user_id = %s"
    before = query(superuser_url, rows, alice.user_id)

    with database.transaction(bob.user_id) as session:
        assert session.execute(text("select count(*) from tasks")).scalar_one() == 0
        for statement in (
            "select 1 from tasks where user_id = :alice",
            "select 1 from users u join tasks t on t.user_id = u.user_id where t.user_id <> :bob and :alice <> ''",
            "update tasks set title = 'mine' where user_id = :alice returning id",
            "update tasks set user_id = :bob where user_id = :alice returning id",
            "delete from tasks where user_id = :alice returning id",
            "delete from users where user_id = :alice returning 1",
            "select 1 from find_session('') where :alice <> :bob",
        ):
            bound = text(statement)
            names = {
                name: value
                for name, value in (("alice", alice.user_id), ("bob", bob.user_id))
                if f":{name}" in statement
            }
            assert session.execute(bound, names).all() == []
    assert query(superuser_url, rows, alice.user_id) == before


@pytest.mark.spec("DB-6")
@pytest.mark.parametrize(
    "statement",
    [
        "insert into tasks (user_id, id, title) values (:alice, 99, 'planted')",
        "insert into tasks (user_id, id, title) values (:alice, 1, 'x') on conflict (user_id, id) do update set id = 2",
        "update tasks set user_id = :alice where user_id = :bob",
        "insert into users (user_id, kind, name) values (:alice || 'x', 'guest', 'x')",
        "alter table tasks no force row level security",
        "alter table tasks disable row level security",
        "create policy all_rows on tasks using (true)",
        "truncate tasks",
        "drop table tasks cascade",
        "select count(*) from arrivals",
        "delete from operations",
        "delete from access_log",
        "update access_log set tool = 'add_task'",
        "create table mine (id int)",
    ],
)
def test_statements_by_hand_that_would_write_for_another_user_are_refused(
    database: Database, operations: Operations, alice: Caller, bob: Caller, statement: str
) -> None:
    for caller in (alice, bob):
        operations.perform(add_task, {"title": "milk"}, caller)

    names = {name: who.user_id for name, who in (("alice", alice), ("bob", bob)) if f":{name}" in statement}
    with pytest.raises(ProgrammingError) as refusal, database.transaction(bob.user_id) as session:
        session.execute(text(statement), names)

    assert getattr(refusal.value.orig, "pgcode", None) == "42501"


@pytest.mark.spec("DB-6")
def test_copy_takes_along_no_row_of_another_user(
    database: Database, operations: Operations, tmp_path: Path, alice: Caller, bob: Caller
) -> None:
    operations.perform(add_task, {"title": "of alice"}, alice)
    operations.perform(add_task, {"title": "of bob"}, bob)

    with database.transaction(bob.user_id) as session, (tmp_path / "copied").open("w+") as copied:
        driver = session.connection().connection.cursor()
        driver.copy_expert("copy (select title from tasks) to stdout", copied)
        driver.copy_expert("copy tasks (title) to stdout", copied)
        copied.seek(0)
        assert copied.read().splitlines() == ["of bob", "of bob"]
    with database.transaction(bob.user_id) as session, (tmp_path / "copied").open() as copied:
        driver = session.connection().connection.cursor()
        with pytest.raises(FeatureNotSupported, match="COPY FROM not supported"):
            driver.copy_expert("copy tasks (title) from stdin", copied)
        session.rollback()


@pytest.mark.spec("DB-7")
def test_a_row_cannot_point_to_a_row_of_another_user(
    database: Database, superuser_url: str, alice: Caller, bob: Caller
) -> None:
    query(superuser_url, "insert into conversations (user_id, id, title) values (%s, 1, 'of alice')", alice.user_id)

    statement = "insert into messages (user_id, id, conversation_id, role, content) values (:bob, 1, 1, 'user', 'hi')"
    with pytest.raises(IntegrityError, match="fk_messages_user_id"), database.transaction(bob.user_id) as session:
        session.execute(text(statement), {"bob": bob.user_id})


@pytest.mark.spec("DB-8")
def test_a_plain_login_that_leaves_the_role_sees_nothing(own_cluster: EmbeddedPostgres) -> None:
    # With a superuser's URL, `reset role` would bypass every policy. None of our statements contains anybody's text,
    # and an operator who wants the second wall to hold even then gives the service its own login.
    query(own_cluster.url, "create role plain login")
    query(own_cluster.url, f"grant {APP_ROLE} to plain with set true, inherit false")
    query(own_cluster.url, "insert into users (user_id, kind, name) values ('alice', 'guest', 'A')")
    plain = make_url(own_cluster.url).set(username="plain").render_as_string()

    with opened(plain) as database:
        with database.transaction("alice") as session:
            assert session.execute(text("select count(*) from users")).scalar_one() == 1
        for escape in ("reset role", "set role none", f"set role {OWNER_ROLE}", "set row_security = off"):
            with pytest.raises(ProgrammingError), database.transaction("bob") as session:
                session.execute(text(f"{escape}; table users"))


@pytest.mark.spec("DB-9")
def test_a_lookup_as_nobody_goes_on_as_the_user_it_found(database: Database, alice: Caller, bob: Caller) -> None:
    with database.transaction(None) as session:
        become(session, alice.user_id)
        assert session.execute(text("select user_id from users")).scalars().all() == [alice.user_id]
    with database.transaction(bob.user_id) as session:
        assert session.execute(text("select user_id from users")).scalars().all() == [bob.user_id]


@pytest.mark.spec("DB-10")
def test_what_fails_inside_a_transaction_takes_its_effects_with_it(database: Database, alice: Caller) -> None:
    with suppress(KeyError), database.transaction(alice.user_id) as session:
        session.execute(text("update users set name = 'changed'"))
        raise KeyError

    with database.transaction(alice.user_id) as session:
        assert session.execute(text("select name from users")).scalar_one() == "Guest"


@pytest.mark.spec("DB-10")
def test_a_scope_knows_its_user_its_moment_and_its_zone(database_url: str) -> None:
    moment = datetime(2026, 11, 3, 12, tzinfo=UTC)
    with (
        opened(database_url, clock=lambda: moment) as database,
        database.scope("alice", ZoneInfo("Asia/Tokyo")) as scope,
    ):
        assert (scope.user_id, scope.now, scope.zone.key) == ("alice", moment, "Asia/Tokyo")


@pytest.mark.spec("DB-11")
def test_a_statement_that_takes_too_long_is_ended(database: Database, alice: Caller) -> None:
    with pytest.raises(DatabaseUnavailable), database.transaction(alice.user_id, statement_seconds=0.1) as session:
        session.execute(text("select pg_sleep(20)"))


@pytest.mark.spec("DB-11")
def test_waiting_for_a_lock_has_an_end(database: Database, alice: Caller) -> None:
    locked = text("select 1 from users for update")
    with database.transaction(alice.user_id) as holder:
        holder.execute(locked)
        with pytest.raises(DatabaseUnavailable), database.transaction(alice.user_id, lock_seconds=0.1) as waiter:
            waiter.execute(locked)


@pytest.mark.spec("DB-17")
@pytest.mark.parametrize("wakes_to", ["a statement", "the commit", "a failure of its own"])
def test_a_transaction_that_stands_still_is_ended_and_frees_what_it_locked(
    database_url: str, superuser_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch, wakes_to: str
) -> None:
    monkeypatch.setattr("backend.postgres.database.IDLE_SECONDS", 0.2)
    is_there = "select 1 from pg_stat_activity where pid = %s"
    locked = text("select name from users for update")
    with opened(database_url, pool_size=1) as stalled, opened(database_url) as other:

        def stand_still() -> None:
            with stalled.transaction(alice.user_id) as session:
                session.execute(text("update users set name = 'half'"))
                [pid] = session.execute(text("select pg_backend_pid()")).one()
                wait_until(lambda: not query(superuser_url, is_there, pid))
                with other.transaction(alice.user_id, lock_seconds=0.1) as waiter:
                    assert waiter.execute(locked).scalar_one() != "half"
                if wakes_to == "a statement":
                    session.execute(locked)
                elif wakes_to == "a failure of its own":
                    raise KeyError

        with pytest.raises(DatabaseUnavailable):
            stand_still()

        # The next use of the pool gets a new connection.
        with stalled.transaction(alice.user_id) as session:
            assert session.execute(locked).scalar_one() != "half"


@pytest.mark.spec("DB-12")
def test_the_pool_tells_how_full_it_is(database_url: str) -> None:
    assert Database().pool_status() == {"size": 0, "checked_out": 0, "overflow": 0}

    with opened(database_url, pool_size=2, max_overflow=1) as database, ExitStack() as stack:
        assert database.pool_status() == {"size": 2, "checked_out": 0, "overflow": 0}
        for _ in range(3):
            stack.enter_context(database.transaction(None))
        assert database.pool_status() == {"size": 2, "checked_out": 3, "overflow": 1}
        stack.close()
        assert database.pool_status()["checked_out"] == 0


@pytest.mark.spec("DB-13")
def test_a_pool_without_a_free_connection_is_an_unavailable_database(database_url: str) -> None:
    with opened(database_url, pool_size=1, pool_timeout=0.1) as database:
        with database.transaction(None):
            with pytest.raises(DatabaseUnavailable) as refusal, database.transaction(None):
                pass
            assert not database.is_reachable()
        assert (refusal.value.status, refusal.value.retry_after) == (503, 5)
        with database.transaction(None) as session:
            assert session.execute(text("select 1")).scalar_one() == 1


@pytest.mark.spec("DB-13")
def test_a_pool_serves_more_threads_than_it_has_connections(database_url: str) -> None:
    with opened(database_url, pool_size=2) as database, ThreadPoolExecutor(8) as threads:

        def tenant(user_id: str) -> str:
            with database.transaction(user_id) as session:
                return str(session.execute(text("select current_setting('app.user_id')")).scalar_one())

        users = [f"user {number}" for number in range(100)]
        assert list(threads.map(tenant, users)) == users
        assert database.pool_status()["checked_out"] == 0


@pytest.mark.spec("DB-14")
def test_a_database_that_was_never_opened_is_unavailable() -> None:
    database = Database()

    assert not database.is_reachable()
    with pytest.raises(DatabaseUnavailable), database.transaction(None):
        pass


@pytest.mark.spec("DB-14")
def test_a_database_that_stops_is_unavailable_and_serves_again_when_it_is_back(own_cluster: EmbeddedPostgres) -> None:
    with opened(own_cluster.url, pool_size=2) as database:
        with database.transaction(None), database.transaction(None):
            pass
        os.kill(_postmaster(own_cluster), signal.SIGINT)
        wait_until(lambda: not (own_cluster._cluster / "postmaster.pid").exists())
        assert not database.is_reachable()
        with pytest.raises(DatabaseUnavailable) as refusal, database.transaction(None):
            pass
        assert str(refusal.value) == "The database does not answer right now. Try again in a few seconds."

        own_cluster.ensure_running()
        with database.transaction("alice") as session:
            assert session.execute(text(SETTINGS)).one()[0] == APP_ROLE
        assert database.is_reachable()


@pytest.mark.spec("DB-14")
@pytest.mark.parametrize("pre_ping", [True, False])
def test_a_transaction_that_loses_its_server_says_so_and_leaves_nothing(
    own_cluster: EmbeddedPostgres, pre_ping: bool
) -> None:
    user_id = f"lost {pre_ping}"
    revived = threading.Event()

    def revive() -> None:
        own_cluster.ensure_running()
        revived.set()

    with opened(own_cluster.url, revive=revive, pool_size=1, pool_pre_ping=pre_ping) as database:
        with pytest.raises(DatabaseUnavailable), database.transaction(user_id) as session:
            _write_and_lose_the_server(own_cluster, session, user_id)

        with database.transaction(user_id) as session:
            assert session.execute(text("select count(*) from users")).scalar_one() == 0
        assert revived.is_set()


@pytest.mark.spec("DB-15")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=())))
def test_text_that_passes_the_choke_point_comes_back_from_postgres_as_it_was(database: Database, value: str) -> None:
    cleaned = storable(value)
    try:
        assert refuse_unstorable(value) == cleaned
    except ValueError:
        assert cleaned != value
    document = storable_json({value: [value, {"nested": (value,)}]})

    with database.transaction(None) as session:
        found, row = session.execute(
            text("select cast(:value as text), cast(:document as jsonb)"),
            {"value": cleaned, "document": json.dumps(document)},
        ).one()
    assert found == cleaned
    assert row == document


@pytest.mark.spec("DB-16")
def test_vectors_of_1536_dimensions_are_kept_and_ordered_by_distance(database: Database) -> None:
    vectors = Table(
        "vectors",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("embedding", HALFVEC(1536)),
        prefixes=["temporary"],
    )
    given_vectors = {1: _unit(0), 2: _unit(1), 3: [*_unit(0)[:-1], 1.0]}

    with database.transaction("alice") as session:
        assert session.execute(text("select extname from pg_extension where extname = 'vector'")).scalar_one()
        vectors.create(session.connection())
        session.execute(insert(vectors), [{"id": key, "embedding": value} for key, value in given_vectors.items()])
        nearest = select(vectors.c.id).order_by(vectors.c.embedding.cosine_distance(_unit(0)))
        assert session.execute(nearest).scalars().all() == [1, 3, 2]
        kept = session.execute(select(vectors.c.embedding).where(vectors.c.id == 3)).scalar_one()
        assert kept == given_vectors[3]
        vectors.drop(session.connection())


@pytest.mark.spec("GUARD-1")
def test_a_database_that_is_in_order_passes_the_guard(database: Database) -> None:
    database.check(revisions=revisions())


@pytest.mark.spec("GUARD-2")
def test_the_guard_refuses_an_empty_database(own_cluster: EmbeddedPostgres) -> None:
    query(own_cluster.url, "create database empty")

    with (
        opened(database_url_of(own_cluster, "empty")) as database,
        pytest.raises(NotReady, match=rf"is at nothing and this version needs {head()}\. Run `docutalk migrate`"),
    ):
        database.check(revisions=revisions())


@pytest.mark.spec("GUARD-2")
def test_the_guard_refuses_a_schema_of_another_revision(database: Database) -> None:
    with pytest.raises(NotReady, match=rf"is at {head()} and this version needs 9999\. Run `docutalk migrate`"):
        database.check(revisions=["9999", *revisions()])


@pytest.mark.spec("GUARD-6")
def test_the_guard_does_not_advise_to_migrate_a_schema_that_it_does_not_know(database: Database) -> None:
    with pytest.raises(NewerSchema, match="Update DocuTalk, or restore a backup"):
        database.check(revisions=["0001"])


@pytest.mark.spec("GUARD-3", "GUARD-4", "GUARD-5")
@pytest.mark.parametrize(
    ("breaking", "mending", "sentence"),
    [
        (f"alter role {APP_ROLE} superuser", f"alter role {APP_ROLE} nosuperuser", "SUPERUSER, BYPASSRLS"),
        (f"alter role {APP_ROLE} bypassrls", f"alter role {APP_ROLE} nobypassrls", "SUPERUSER, BYPASSRLS"),
        (f"grant {OWNER_ROLE} to {APP_ROLE}", f"revoke {OWNER_ROLE} from {APP_ROLE}", "the ownership of a table"),
        (
            f"alter table arrivals owner to {APP_ROLE}",
            f"alter table arrivals owner to {OWNER_ROLE}",
            "the ownership of a table",
        ),
        (
            "alter table tasks no force row level security",
            "alter table tasks force row level security",
            "not forced on: tasks",
        ),
        (
            "alter table runs disable row level security",
            "alter table runs enable row level security",
            "not forced on: runs",
        ),
        (
            f"create table notes (user_id text, body text); grant insert on notes to {APP_ROLE}",
            "drop table notes",
            "not forced on: notes",
        ),
        (f"alter role {APP_ROLE} rename to gone", f"alter role gone rename to {APP_ROLE}", "MIGRATION_DATABASE_URL"),
    ],
)
def test_the_guard_refuses_what_could_pass_the_policies_until_it_is_mended(
    own_cluster: EmbeddedPostgres, breaking: str, mending: str, sentence: str
) -> None:
    with opened(own_cluster.url) as database:
        query(own_cluster.url, breaking)
        try:
            with pytest.raises(NotReady, match=sentence) as refusal:
                database.check(revisions=revisions())
        finally:
            query(own_cluster.url, mending)

        assert "Run `docutalk migrate`" in str(refusal.value)
        database.check(revisions=revisions())


@pytest.mark.spec("GUARD-5")
def test_the_guard_refuses_a_login_that_may_not_become_the_apps_role(own_cluster: EmbeddedPostgres) -> None:
    query(own_cluster.url, "create role stranger login")
    stranger = make_url(own_cluster.url).set(username="stranger").render_as_string()

    with opened(stranger) as database:
        with pytest.raises(NotReady, match="may not become the role docutalk_app") as refusal:
            database.check(revisions=revisions())
        assert "MIGRATION_DATABASE_URL" in str(refusal.value)

        migrate(own_cluster.url, service_url=stranger)
        database.check(revisions=revisions())


def _write_and_lose_the_server(postgres: EmbeddedPostgres, session: Session, user_id: str) -> None:
    statement = text("insert into users (user_id, kind, name) values (:user_id, 'guest', 'x')")
    session.execute(statement, {"user_id": user_id})
    backend = session.execute(text("select pg_backend_pid()")).scalar_one()
    for pid in (_postmaster(postgres), backend):
        os.kill(pid, signal.SIGKILL)
    session.execute(text("select 1"))


def _postmaster(postgres: EmbeddedPostgres) -> int:
    return int((postgres._cluster / "postmaster.pid").read_text().split()[0])


def _unit(place: int) -> list[float]:
    return [1.0 if index == place else 0.0 for index in range(1536)]
