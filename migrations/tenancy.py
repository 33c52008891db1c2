"""Row-level security for a table whose rows belong to users."""

from alembic import op

from backend.postgres.database import APP_ROLE, OWNER_ROLE


def protect(table: str, *, grants: str = "select, insert, update, delete") -> None:
    """Force row-level security on a table and let the app's role at the tenant's rows only.

    The owner's own policy is there because FORCE blinds the owner too: its `security definer` functions and its
    backfills would see no row.
    """
    mine = "user_id = nullif(current_setting('app.user_id', true), '')"
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to {APP_ROLE} using ({mine}) with check ({mine})")
    op.execute(f"create policy owner on {table} to {OWNER_ROLE} using (true) with check (true)")
    op.execute(f"grant {grants} on {table} to {APP_ROLE}")


def definer(signature: str, returns: str, body: str, *, language: str = "sql") -> None:
    """Create a function that runs as the owner, for what has to be found before a user is known.

    It may return ids only; the work then runs as that user. A trigger's is nobody's to call.

    The statements of `plpgsql` keep their plans for as long as a connection lives: those that were made while a table
    was small would read it whole when it has grown, so they follow the order of an index from the start.
    """
    planned = "set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off"
    planned = planned if language == "plpgsql" else ""
    op.execute(
        f"create function public.{signature} returns {returns} language {language} security definer "
        f"set search_path = '' {planned} as $body$ {body} $body$"
    )
    name = signature.split("(", 1)[0]
    op.execute(f"revoke all on function public.{name} from public")
    if returns != "trigger":
        op.execute(f"grant execute on function public.{name} to {APP_ROLE}")
