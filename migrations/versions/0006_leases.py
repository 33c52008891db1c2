"""Leases: functions that find runs to claim, return whether any run is left, and find runs to purge."""

from alembic import op

from migrations.tenancy import definer

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table runs add column fruitless integer default 0 not null")
    op.execute("alter table runs add column purged_at timestamp with time zone")
    op.execute("create index ix_runs_unended on runs (created_at) where ended_at is null")
    op.execute("create index ix_runs_unpurged on runs (ended_at) where purged_at is null")
    # The run's row stays locked until the caller's transaction ends, so nobody else claims the run meanwhile. The run's
    # conversation is locked as well, so that nobody can delete the conversation. Without this lock, the transaction's
    # second change of the run would lock the conversation after the run, while other code locks the conversation before
    # its runs: a deadlock. A row that another transaction has locked is skipped. That transaction notifies when it
    # ends.
    definer(
        "claimable_runs(most_of_a_user integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select r.user_id::text, r.id::text from public.runs r
        join public.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        where r.ended_at is null and r.id <> all (but_not)
          and (r.status = 'queued' or r.status = 'running' and (r.lease_until is null or r.lease_until < now()))
          and not exists (select from public.runs e
                          where e.user_id = r.user_id and e.conversation_id = r.conversation_id
                            and e.message_id < r.message_id and e.ended_at is null)
          and (select count(*) from public.runs b where b.user_id = r.user_id and b.ended_at is null
                 and b.lease_until >= now()) < most_of_a_user
        order by coalesce(r.lease_until, r.created_at) limit 1
        for update of r skip locked for key share of c skip locked
        """,
    )
    definer(
        "is_any_run_left()",
        "boolean",
        "select exists (select from public.runs r where r.ended_at is null and r.status <> 'waiting')",
    )
    definer(
        "purgeable_runs(ended_before timestamp with time zone, most integer)",
        "table (user_id text, id text)",
        """
        select r.user_id::text, r.id::text from public.runs r
        where r.purged_at is null and r.ended_at < ended_before order by r.ended_at limit most
        """,
    )


def downgrade() -> None:
    op.execute("drop function purgeable_runs(timestamp with time zone, integer)")
    op.execute("drop function is_any_run_left()")
    op.execute("drop function claimable_runs(integer, text[])")
    op.execute("drop index ix_runs_unpurged")
    op.execute("drop index ix_runs_unended")
    op.execute("alter table runs drop column purged_at")
    op.execute("alter table runs drop column fruitless")
