"""The access log: what outside MCP clients read."""

from alembic import op

from migrations.tenancy import definer, protect

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table access_log (
            user_id varchar(128) not null,
            id uuid default gen_random_uuid() not null,
            at timestamp with time zone default now() not null,
            client text,
            tool text not null,
            outcome text not null,
            milliseconds integer not null,
            document_ids integer[] default '{}' not null,
            constraint pk_access_log primary key (user_id, id),
            constraint fk_access_log_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint ck_access_log_outcome check (outcome in ('ok', 'failed', 'denied'))
        )
        """
    )
    op.execute("create index ix_access_log_at on access_log (at)")
    protect("access_log", grants="select, insert")
    # A locked row belongs to an account that is being deleted. The row is skipped, so that this function and the
    # deletion never wait for each other.
    definer(
        "prune_access_log(before timestamp with time zone, most integer)",
        "integer",
        """
        with old as (
            select a.user_id, a.id from public.access_log a where a.at < least(before, now() - interval '1 day')
            order by a.at limit most for update skip locked
        ), pruned as (
            delete from public.access_log a using old where a.user_id = old.user_id and a.id = old.id returning 1
        )
        select count(*)::integer from pruned
        """,
    )
    # The app's role may only add to these two tables.
    definer(
        "remove_logs_of_expired(who text, most integer)",
        "integer",
        """
        with expired as (
            select u.user_id from public.users u where u.user_id = who and u.expires_at < now()
        ), removed as (
            delete from public.operations o using expired e
            where o.user_id = e.user_id
              and o.ctid = any (array(select p.ctid from public.operations p where p.user_id = who limit most))
            returning 1
        ), forgotten as (
            delete from public.access_log a using expired e
            where a.user_id = e.user_id
              and a.ctid = any (array(select p.ctid from public.access_log p where p.user_id = who limit most))
            returning 1
        )
        select (select count(*) from removed)::integer + (select count(*) from forgotten)::integer
        """,
    )
    op.execute("insert into chores (id) values ('old_accesses')")


def downgrade() -> None:
    op.execute("delete from chores where id = 'old_accesses'")
    op.execute("drop function remove_logs_of_expired(text, integer)")
    op.execute("drop function prune_access_log(timestamp with time zone, integer)")
    op.execute("drop table access_log")
