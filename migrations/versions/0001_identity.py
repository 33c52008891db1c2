"""Users, their credentials, and their counters and usage."""

from alembic import op

from migrations.tenancy import definer, protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table users (
            user_id varchar(128) not null,
            kind text not null,
            name text not null,
            issuer text,
            subject text,
            time_zone text default 'UTC' not null,
            created_at timestamp with time zone default now() not null,
            updated_at timestamp with time zone default now() not null,
            expires_at timestamp with time zone,
            constraint pk_users primary key (user_id)
        )
        """
    )
    op.execute("create index ix_users_expires_at on users (expires_at) where expires_at is not null")
    protect("users")
    op.execute(
        """
        create table counters (
            user_id varchar(128) not null,
            noun varchar(32) not null,
            last integer not null,
            constraint pk_counters primary key (user_id, noun),
            constraint fk_counters_user_id foreign key(user_id) references users (user_id) on delete cascade
        )
        """
    )
    protect("counters")
    op.execute(
        """
        create table sessions (
            user_id varchar(128) not null,
            id varchar(32) not null,
            token_hash text not null,
            created_at timestamp with time zone default now() not null,
            expires_at timestamp with time zone default now() not null,
            constraint pk_sessions primary key (user_id, id),
            constraint fk_sessions_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint uq_sessions_token_hash unique (token_hash)
        )
        """
    )
    protect("sessions")
    op.execute(
        """
        create table api_tokens (
            user_id varchar(128) not null,
            id integer not null,
            name text not null,
            scopes text[] not null,
            token_hash text not null,
            idempotency_key text,
            created_at timestamp with time zone default now() not null,
            expires_at timestamp with time zone,
            last_used_at timestamp with time zone,
            constraint pk_api_tokens primary key (user_id, id),
            constraint fk_api_tokens_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint uq_api_tokens_token_hash unique (token_hash)
        )
        """
    )
    protect("api_tokens")
    op.execute(
        """
        create table usage (
            user_id varchar(128) not null,
            day date not null,
            turns integer default 0 not null,
            input_tokens integer default 0 not null,
            output_tokens integer default 0 not null,
            constraint pk_usage primary key (user_id, day),
            constraint fk_usage_user_id foreign key(user_id) references users (user_id) on delete cascade
        )
        """
    )
    protect("usage")
    op.execute(
        """
        create table arrivals (
            address_hash text not null,
            hour timestamp with time zone default now() not null,
            guests integer not null,
            constraint pk_arrivals primary key (address_hash, hour)
        )
        """
    )
    op.execute("grant select on alembic_version to docutalk_app")
    definer(
        "find_session(hash text)",
        "table (user_id text, id text)",
        "select s.user_id::text, s.id::text from public.sessions s where s.token_hash = hash",
    )
    definer(
        "find_api_token(hash text)",
        "table (user_id text, id integer)",
        "select t.user_id::text, t.id from public.api_tokens t where t.token_hash = hash",
    )
    definer(
        "expired_users(most integer)",
        "table (user_id text)",
        "select u.user_id::text from public.users u where u.expires_at < now() order by u.expires_at limit most",
    )
    definer(
        "admit_guest(address text, most integer)",
        "boolean",
        """
        delete from public.arrivals a where a.hour < now() - interval '2 hours';
        insert into public.arrivals as a (address_hash, hour, guests)
        values (address, date_trunc('hour', now()), 1)
        on conflict (address_hash, hour) do update set guests = a.guests + 1
        returning a.guests <= most;
        """,
    )


def downgrade() -> None:
    for function in (
        "admit_guest(text, integer)",
        "expired_users(integer)",
        "find_api_token(text)",
        "find_session(text)",
    ):
        op.execute(f"drop function public.{function}")
    op.execute("drop table arrivals")
    op.execute("drop table usage")
    op.execute("drop table api_tokens")
    op.execute("drop table sessions")
    op.execute("drop table counters")
    op.execute("drop table users")
