"""Row-level security for a table whose rows belong to users."""

from alembic import op

from backend.postgres.database import APP_ROLE, OWNER_ROLE


def protect(table: str, *, grants: str = "select, insert, update, delete") -> None:
    """Force row-level security on a table, and give the app's role access only to the tenant's rows.

    The owner has its own policy, because FORCE applies to the owner as well. Without that policy, the owner's
    `security definer` functions and its backfills would see no rows.
    """
    mine = "user_id = nullif(current_setting('app.user_id', true), '')"
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to {APP_ROLE} using ({mine}) with check ({mine})")
    op.execute(f"create policy owner on {table} to {OWNER_ROLE} using (true) with check (true)")
    op.execute(f"grant {grants} on {table} to {APP_ROLE}")


def definer(signature: str, returns: str, body: str, *, language: str = "sql") -> None:
    """Create a function that runs as the owner, for lookups before the user is known.

    The function may return only ids. The work on the found rows then runs as their user. Nobody may call a trigger
    function directly.

    Statements in `plpgsql` keep their plans as long as a connection lives. A plan made while a table was small would
    still read the whole table after the table has grown, so these statements must use an index from the start.
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
