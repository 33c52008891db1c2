"""Row-level security for a table whose rows belong to users."""

from alembic import op

from backend.database import APP_ROLE, OWNER_ROLE


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


def definer(signature: str, returns: str, body: str) -> None:
    """Create a function that runs as the owner, for what has to be found before a user is known.

    It may return ids only; the work then runs as that user.
    """
    op.execute(
        f"create function public.{signature} returns {returns} language sql security definer set search_path = '' "
        f"as $body$ {body} $body$"
    )
    name = signature.split("(", 1)[0]
    op.execute(f"revoke all on function public.{name} from public")
    op.execute(f"grant execute on function public.{name} to {APP_ROLE}")
