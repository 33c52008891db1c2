"""Conversations and their messages."""

from alembic import op

from migrations.tenancy import protect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table conversations (
            user_id varchar(128) not null,
            id integer not null,
            title text not null,
            created_at timestamp with time zone default now() not null,
            updated_at timestamp with time zone default now() not null,
            constraint pk_conversations primary key (user_id, id),
            constraint fk_conversations_user_id foreign key(user_id) references users (user_id) on delete cascade
        )
        """
    )
    op.execute("create index ix_conversations_user_id_created_at on conversations (user_id, created_at)")
    op.execute("create index ix_conversations_user_id_updated_at on conversations (user_id, updated_at)")
    protect("conversations")
    op.execute(
        """
        create table messages (
            user_id varchar(128) not null,
            id integer not null,
            conversation_id integer not null,
            role text not null,
            content text not null,
            run_id varchar(32),
            tool_calls json default '[]' not null,
            citations json default '[]' not null,
            created_at timestamp with time zone default now() not null,
            constraint pk_messages primary key (user_id, id),
            constraint fk_messages_user_id foreign key(user_id, conversation_id)
                references conversations (user_id, id) on delete cascade,
            constraint ck_messages_role check (role in ('user', 'assistant'))
        )
        """
    )
    op.execute("create index ix_messages_user_id_conversation_id on messages (user_id, conversation_id, id)")
    op.execute("create index ix_messages_user_id_created_at on messages (user_id, created_at)")
    op.execute("create index ix_messages_user_id_role on messages (user_id, role)")
    protect("messages")


def downgrade() -> None:
    op.execute("drop table messages")
    op.execute("drop table conversations")
