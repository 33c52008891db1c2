"""Row changes: each row's value before and after a tool call changed it, so that the change can be undone."""

from alembic import op

from migrations.tenancy import definer, protect

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TRACKED = {
    "tasks": "insert or delete or update",
    # Ingestion updates documents all the time. A user only adds and deletes them.
    "documents": "insert or update of deleted_at",
}


def upgrade() -> None:
    op.execute(
        """
        create table row_changes (
            user_id varchar(128) not null,
            id bigserial not null,
            change_id uuid not null,
            kind text not null,
            row_id integer not null,
            before jsonb,
            after jsonb,
            at timestamp with time zone default now() not null,
            constraint pk_row_changes primary key (user_id, id),
            constraint fk_row_changes_user_id foreign key(user_id) references users (user_id) on delete cascade
        )
        """
    )
    # No row has a value here yet.
    op.execute("alter table operations drop column undone_by, add column change_id uuid, add column undone_by uuid")
    op.execute("create index ix_row_changes_user_id_change_id on row_changes (user_id, change_id)")
    op.execute("create index ix_row_changes_at on row_changes (at)")
    protect("row_changes", grants="select")
    # A change outside a tool call, such as a step of ingestion or a purge, is not kept.
    definer(
        "keep_row_change()",
        "trigger",
        """
        declare
            change uuid := nullif(current_setting('app.change_id', true), '')::uuid;
        begin
            if change is not null then
                insert into public.row_changes (user_id, change_id, kind, row_id, before, after)
                values (coalesce(new.user_id, old.user_id), change, tg_argv[0], coalesce(new.id, old.id),
                        case when tg_op <> 'INSERT' then to_jsonb(old) end,
                        case when tg_op <> 'DELETE' then to_jsonb(new) end);
            end if;
            return null;
        end
        """,
        language="plpgsql",
    )
    for table, events in TRACKED.items():
        op.execute(
            f"create trigger keep_row_change after {events} on {table} "
            f"for each row execute function keep_row_change('{table.removesuffix('s')}')"
        )
    definer(
        "prune_row_changes(older_than timestamp with time zone, most integer)",
        "integer",
        """
        with old as (
            select c.user_id, c.id from public.row_changes c where c.at < least(older_than, now() - interval '1 day')
            order by c.at limit most for update skip locked
        ), pruned as (
            delete from public.row_changes c using old where c.user_id = old.user_id and c.id = old.id returning 1
        )
        select count(*)::integer from pruned
        """,
    )
    # Only for the current user: these are the changes that may hold text of a document that is purged.
    definer(
        "forget_row_changes(document integer, change_ids uuid[])",
        "integer",
        """
        with forgotten as (
            delete from public.row_changes c
            where c.user_id = nullif(current_setting('app.user_id', true), '')
              and (c.change_id = any (change_ids) or c.kind = 'document' and c.row_id = document
                   or c.before ->> 'document_id' = document::text or c.after ->> 'document_id' = document::text)
            returning 1
        )
        select count(*)::integer from forgotten
        """,
    )
    # The app's role may only add to this table.
    definer(
        "remove_row_changes_of_expired(who text, most integer)",
        "integer",
        """
        with expired as (
            select u.user_id from public.users u where u.user_id = who and u.expires_at < now()
        ), removed as (
            delete from public.row_changes c using expired e
            where c.user_id = e.user_id
              and c.ctid = any (array(select p.ctid from public.row_changes p where p.user_id = who limit most))
            returning 1
        )
        select count(*)::integer from removed
        """,
    )
    op.execute("insert into chores (id) values ('old_row_changes')")


def downgrade() -> None:
    op.execute("delete from chores where id = 'old_row_changes'")
    op.execute("drop function remove_row_changes_of_expired(text, integer)")
    op.execute("drop function forget_row_changes(integer, uuid[])")
    op.execute("drop function prune_row_changes(timestamp with time zone, integer)")
    for table in TRACKED:
        op.execute(f"drop trigger keep_row_change on {table}")
    op.execute("drop function keep_row_change()")
    op.execute("drop table row_changes")
    op.execute("alter table operations drop column undone_by, drop column change_id, add column undone_by integer")
