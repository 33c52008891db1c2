"""The ledger of operations."""

from alembic import op

from migrations.tenancy import protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table operations (
            user_id varchar(128) not null,
            id integer not null,
            door text not null,
            client text,
            run_id varchar(32),
            call_id text,
            idempotency_key text,
            request_hash text,
            tool text not null,
            arguments json not null,
            result json,
            outcome text not null,
            milliseconds integer not null,
            undone_by integer,
            created_at timestamp with time zone default now() not null,
            constraint pk_operations primary key (user_id, id),
            constraint fk_operations_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint ck_operations_door check (door in ('chat', 'mcp', 'rest')),
            constraint ck_operations_outcome check (outcome in ('ok', 'failed', 'denied'))
        )
        """
    )
    op.execute("create index ix_operations_user_id_created_at on operations (user_id, created_at)")
    op.execute(
        "create unique index uq_operations_call on operations (user_id, run_id, call_id) where call_id is not null"
    )
    op.execute(
        "create unique index uq_operations_idempotency_key on operations (user_id, tool, idempotency_key) "
        "where idempotency_key is not null"
    )
    protect("operations", grants="select, insert, update")


def downgrade() -> None:
    op.execute("drop table operations")
