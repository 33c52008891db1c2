"""Chores: the data that the service removes by itself after a time. Each chore is a leased row that has no user."""

from alembic import op

from backend.postgres.database import APP_ROLE
from migrations.tenancy import definer

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table chores (
            id text not null,
            due_at timestamp with time zone default now() not null,
            attempt integer default 0 not null,
            fruitless integer default 0 not null,
            lease_owner text,
            lease_until timestamp with time zone,
            constraint pk_chores primary key (id)
        )
        """
    )
    op.execute(f"grant select, update on chores to {APP_ROLE}")
    op.execute("insert into chores (id) values ('deleted_documents'), ('expired_guests'), ('old_run_events')")
    definer(
        "claimable_chores(most_of_a_user integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select null::text, c.id from public.chores c
        where c.due_at <= now() and (c.lease_until is null or c.lease_until < now()) and c.id <> all (but_not)
        order by c.due_at limit 1 for update skip locked
        """,
    )
    # A chore that another process is doing does not count. If that process dies, the next check is early enough.
    definer(
        "is_any_chore_left()",
        "boolean",
        """
        select exists (select from public.chores c
                       where c.due_at <= now() and (c.lease_until is null or c.lease_until < now()))
        """,
    )
    # `but_not` leaves out rows that could not be removed. The older functions stay, because processes of the previous
    # version still call them.
    definer(
        "due_guests(most integer, but_not text[])",
        "table (user_id text)",
        """
        select u.user_id::text from public.users u
        where u.expires_at < now() and u.user_id <> all (but_not) order by u.expires_at limit most
        """,
    )
    definer(
        "due_documents(deleted_before timestamp with time zone, most integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select d.user_id::text, d.id::text from public.documents d
        where (d.deleted_at < deleted_before or d.purge_wanted and d.deleted_at is not null)
          and d.user_id || ' ' || d.id <> all (but_not)
        order by d.deleted_at limit most
        """,
    )
    definer(
        "due_runs(ended_before timestamp with time zone, most integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select r.user_id::text, r.id::text from public.runs r
        where r.purged_at is null and r.ended_at < ended_before and r.id <> all (but_not)
        order by r.ended_at limit most
        """,
    )


def downgrade() -> None:
    for function in (
        "due_runs(timestamp with time zone, integer, text[])",
        "due_documents(timestamp with time zone, integer, text[])",
        "due_guests(integer, text[])",
        "is_any_chore_left()",
        "claimable_chores(integer, text[])",
    ):
        op.execute(f"drop function {function}")
    op.execute("drop table chores")
