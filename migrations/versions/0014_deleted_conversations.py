"""Deleted conversations stay for a time, so that a deletion can be undone."""

from alembic import op

from migrations.tenancy import definer

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table conversations add column deleted_at timestamp with time zone")
    op.execute("create index ix_conversations_deleted on conversations (deleted_at) where deleted_at is not null")
    # A conversation is touched by every message. Only a new title and a deletion can be undone.
    op.execute(
        "create trigger keep_row_change after update of title, deleted_at on conversations "
        "for each row execute function keep_row_change('conversation')"
    )
    definer(
        "due_conversations(deleted_before timestamp with time zone, most integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select c.user_id::text, c.id::text from public.conversations c
        where c.deleted_at < deleted_before and c.user_id || ' ' || c.id <> all (but_not)
        order by c.deleted_at limit most
        """,
    )
    # Only for the current user.
    definer(
        "forget_changes_of(what text, which integer)",
        "integer",
        """
        with forgotten as (
            delete from public.row_changes c
            where c.user_id = nullif(current_setting('app.user_id', true), '') and c.kind = what and c.row_id = which
            returning 1
        )
        select count(*)::integer from forgotten
        """,
    )
    op.execute("insert into chores (id) values ('deleted_conversations')")


def downgrade() -> None:
    op.execute("delete from chores where id = 'deleted_conversations'")
    op.execute("drop function forget_changes_of(text, integer)")
    op.execute("drop function due_conversations(timestamp with time zone, integer, text[])")
    op.execute("drop trigger keep_row_change on conversations")
    op.execute("delete from row_changes where kind = 'conversation'")
    op.execute("delete from conversations where deleted_at is not null")
    op.execute("alter table conversations drop column deleted_at")
