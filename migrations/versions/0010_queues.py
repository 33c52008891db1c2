"""Queues: find the next user's run or document by reading only a few rows, however many are waiting."""

from dataclasses import dataclass

from alembic import op

from migrations.tenancy import definer, protect

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PLACE = "greatest(q.served_at, now() - interval '10 minutes')"
"""A user's place in the queue. The user who was served longest ago comes first. Users who were not served in the last
ten minutes come in order of arrival.

A new user therefore gets at most ten minutes' advantage over a waiting user, so nobody waits forever behind new users.
"""


@dataclass(frozen=True)
class Leased:
    """The differences between the queue of documents and the queue of runs."""

    table: str
    waits: str
    """The SQL condition that a row waits to be worked on. Expired leases are removed before the condition is
    checked."""
    fits: str = "true"
    """The SQL condition that no other row of the same user must be done before this row."""
    beside: tuple[str, str] = ("", "")
    """The SQL join and the SQL lock of a row that is locked together with the claimed row."""
    changes: str = "status, attempt, lease_owner, ended_at"
    """The columns whose change may make one of the user's rows claimable."""

    @property
    def kind(self) -> str:
        """The table's name as an SQL literal."""
        return f"'{self.table}'"


RUNS = Leased(
    "runs",
    waits="r.ended_at is null and r.lease_until is null and r.status <> 'waiting'",
    fits="not exists (select from public.runs e where e.user_id = r.user_id and e.conversation_id = r.conversation_id "
    "and e.message_id < r.message_id and e.ended_at is null)",
    # The conversation is locked too, so that nobody deletes it meanwhile. Otherwise this transaction's second change of
    # the run would wait for the deletion, and the deletion, which locks the conversation before its runs, would wait
    # for the run.
    beside=(
        "join public.conversations c on c.user_id = r.user_id and c.id = r.conversation_id",
        "for key share of c skip locked",
    ),
)
DOCUMENTS = Leased(
    "documents",
    waits="r.ended_at is null and r.lease_until is null and r.deleted_at is null",
    changes="status, attempt, lease_owner, ended_at, deleted_at",
)


def upgrade() -> None:
    op.execute(
        """
        create table queues (
            user_id varchar(128) not null,
            kind text not null,
            served_at timestamp with time zone,
            place timestamp with time zone,
            constraint pk_queues primary key (user_id, kind),
            constraint fk_queues_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint ck_queues_kind check (kind in ('runs', 'documents'))
        )
        """
    )
    op.execute("create index ix_queues_place on queues (kind, place, user_id) where place is not null")
    protect("queues", grants="select, insert, update")
    # Both tables are locked in one statement, because a transaction that holds one of them may wait for the other.
    op.execute("lock table documents, runs")
    op.execute("drop function claimable_runs(integer, text[])")
    op.execute("drop function claimable_documents(integer, text[])")
    op.execute("drop index ix_runs_unended")
    op.execute("drop index ix_documents_unended")
    op.execute("create index ix_runs_unended on runs (user_id, conversation_id, message_id) where ended_at is null")
    op.execute(
        "create index ix_documents_unended on documents (user_id, created_at) "
        "where ended_at is null and deleted_at is null"
    )
    for leased in (RUNS, DOCUMENTS):
        _queue(leased)


def _queue(leased: Leased) -> None:
    table, kind = leased.table, leased.kind
    op.execute(
        f"create index ix_{table}_lapsing on {table} (lease_until) where ended_at is null and lease_until is not null"
    )
    op.execute(
        f"insert into queues (user_id, kind, place) select user_id, {kind}, min(created_at) from {table} "
        "where ended_at is null group by user_id"
    )
    # The trigger locks the user's row first, and then looks for waiting work. It sees all changes committed before it
    # got the lock. Later changes wait for the lock, and then look for waiting work themselves. So no waiting row is
    # missed.
    definer(
        f"queue_{table}()",
        "trigger",
        f"""
        declare
            who text := coalesce(new.user_id, old.user_id);
            is_served boolean := coalesce(new.attempt, 0) > coalesce(old.attempt, 0);
            is_waiting boolean;
        begin
            if tg_op <> 'DELETE' then
                insert into public.queues (user_id, kind) values (who, {kind}) on conflict do nothing;
            end if;
            perform from public.queues q where q.user_id = who and q.kind = {kind} for update;
            is_waiting := exists (select from public.{table} r where r.user_id = who and {leased.waits});
            update public.queues q set
                served_at = case when is_served then now() else q.served_at end,
                place = case when not is_waiting then null when is_served then now()
                             else coalesce(q.place, {PLACE}) end
            where q.user_id = who and q.kind = {kind} and (is_served or is_waiting = (q.place is null));
            return null;
        end
        """,
        language="plpgsql",
    )
    op.execute(
        f"create trigger queue_{table} after insert or update of {leased.changes} on {table} "
        f"for each row execute function queue_{table}()"
    )
    # Deleting an ended row frees no slot, and an account may have a hundred thousand of them.
    op.execute(
        f"create trigger queue_deleted_{table} after delete on {table} "
        f"for each row when (old.ended_at is null) execute function queue_{table}()"
    )
    # A claim waits for nobody. Rows that another transaction has locked are skipped, here and below, and so is an
    # account that is being deleted. A user with nothing to claim leaves the queue until one of their rows changes. The
    # found rows stay locked until the caller's transaction ends. Until then nobody else can claim these rows, or
    # another row of the same user. A row of nulls asks the caller to commit and call again.
    definer(
        f"claimable_{table}(most_of_a_user integer, but_not text[])",
        "table (user_id text, id text)",
        f"""
        #variable_conflict use_column
        declare
            lapsed record;
            who text;
            row_id text;
            last_place timestamp with time zone := '-infinity';
            last_user text := '';
            left_queue integer := 0;
            is_any_freed boolean := false;
        begin
            for lapsed in
                select r.user_id, r.id from public.{table} r where r.ended_at is null and r.lease_until < now()
                order by r.lease_until limit 100 for update skip locked
            loop
                perform from public.queues q where q.user_id = lapsed.user_id and q.kind = {kind}
                for update skip locked;
                if found then
                    update public.{table} r set lease_until = null
                    where r.user_id = lapsed.user_id and r.id = lapsed.id;
                    update public.queues q set place = {PLACE}
                    where q.user_id = lapsed.user_id and q.kind = {kind} and q.place is null;
                    is_any_freed := true;
                end if;
            end loop;
            for looked in 1..1000 loop
                exit when is_any_freed or left_queue = 100;
                select q.user_id, q.place into who, last_place from public.queues q
                join public.users u on u.user_id = q.user_id
                where q.kind = {kind} and q.place is not null and (q.place, q.user_id) > (last_place, last_user)
                order by q.place, q.user_id limit 1 for update of q skip locked for key share of u skip locked;
                if not found then
                    return;
                end if;
                last_user := who;
                if (select count(*) from public.{table} r where r.user_id = who and r.ended_at is null
                    and r.lease_until >= now()) < most_of_a_user then
                    select r.id into row_id from public.{table} r {leased.beside[0]}
                    where r.user_id = who and {leased.waits} and {leased.fits} and {_name(table)} <> all (but_not)
                    order by r.created_at limit 1 for update of r skip locked {leased.beside[1]};
                    if found then
                        return query select who, row_id;
                        return;
                    end if;
                    if exists (select from public.{table} r where r.user_id = who and {leased.waits} and {leased.fits})
                    then
                        continue;
                    end if;
                end if;
                update public.queues q set place = null where q.user_id = who and q.kind = {kind};
                left_queue := left_queue + 1;
            end loop;
            if is_any_freed or left_queue > 0 then
                return query select null::text, null::text;
            end if;
        end
        """,
        language="plpgsql",
    )
    op.execute(f"drop function is_any_{table[:-1]}_left()")
    definer(
        f"is_any_{table[:-1]}_left()",
        "boolean",
        f"""
        select exists (select from public.queues q where q.kind = {kind} and q.place is not null)
            or exists (select from public.{table} r where r.ended_at is null and r.lease_until is not null)
        """,
    )


def _name(table: str) -> str:
    """Return the SQL expression by which a process identifies a row that it has claimed."""
    return "r.id" if table == "runs" else "r.user_id || ' ' || r.id"


def downgrade() -> None:
    for table in ("documents", "runs"):
        op.execute(f"drop function is_any_{table[:-1]}_left()")
        op.execute(f"drop function claimable_{table}(integer, text[])")
        op.execute(f"drop trigger queue_deleted_{table} on {table}")
        op.execute(f"drop trigger queue_{table} on {table}")
        op.execute(f"drop function queue_{table}()")
        op.execute(f"drop index ix_{table}_lapsing")
        op.execute(f"drop index ix_{table}_unended")
        op.execute(f"create index ix_{table}_unended on {table} (created_at) where ended_at is null")
    op.execute("drop table queues")
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
        "claimable_documents(most_of_a_user integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select d.user_id::text, d.id::text from public.documents d
        where d.ended_at is null and d.deleted_at is null and d.user_id || ' ' || d.id <> all (but_not)
          and (d.status = 'pending' or d.lease_until is null or d.lease_until < now())
          and (select count(*) from public.documents b where b.user_id = d.user_id and b.ended_at is null
                 and b.lease_until >= now()) < most_of_a_user
        order by coalesce(d.lease_until, d.created_at) limit 1
        for update of d skip locked
        """,
    )
    definer(
        "is_any_document_left()",
        "boolean",
        "select exists (select from public.documents d where d.ended_at is null and d.deleted_at is null)",
    )
