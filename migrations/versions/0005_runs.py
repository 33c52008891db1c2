"""Runs, committed responses and events."""

from alembic import op

from migrations.tenancy import protect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table runs (
            user_id varchar(128) not null,
            id varchar(32) not null,
            conversation_id integer not null,
            message_id integer not null,
            answer_id integer,
            status text not null,
            model text not null,
            door text default 'chat' not null,
            client text,
            scopes text[] not null,
            input json,
            idempotency_key text,
            request_hash text,
            last_seq integer default 0 not null,
            attempt integer default 0 not null,
            lease_owner text,
            lease_until timestamp with time zone,
            cancel_requested boolean default false not null,
            error json,
            usage json,
            created_at timestamp with time zone default now() not null,
            started_at timestamp with time zone,
            ended_at timestamp with time zone,
            constraint pk_runs primary key (user_id, id),
            constraint fk_runs_user_id foreign key(user_id, conversation_id)
                references conversations (user_id, id) on delete cascade,
            constraint ck_runs_status check (
                status in ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')
            )
        )
        """
    )
    op.execute("create index ix_runs_user_id_conversation_id on runs (user_id, conversation_id, created_at)")
    op.execute(
        "create unique index uq_runs_idempotency_key on runs (user_id, idempotency_key) "
        "where idempotency_key is not null"
    )
    protect("runs")
    op.execute(
        """
        create table run_responses (
            user_id varchar(128) not null,
            run_id varchar(32) not null,
            number integer not null,
            attempt integer not null,
            response json not null,
            created_at timestamp with time zone default now() not null,
            constraint pk_run_responses primary key (user_id, run_id, number),
            constraint fk_run_responses_user_id foreign key(user_id, run_id)
                references runs (user_id, id) on delete cascade
        )
        """
    )
    protect("run_responses")
    op.execute(
        """
        create table run_events (
            user_id varchar(128) not null,
            run_id varchar(32) not null,
            seq integer not null,
            kind text not null,
            data json not null,
            created_at timestamp with time zone default now() not null,
            constraint pk_run_events primary key (user_id, run_id, seq),
            constraint fk_run_events_user_id foreign key(user_id, run_id)
                references runs (user_id, id) on delete cascade
        )
        """
    )
    protect("run_events")


def downgrade() -> None:
    op.execute("drop table run_events")
    op.execute("drop table run_responses")
    op.execute("drop table runs")
