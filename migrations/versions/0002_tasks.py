"""Tasks."""

from alembic import op

from migrations.tenancy import protect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table tasks (
            user_id varchar(128) not null,
            id integer not null,
            title text not null,
            description text default '' not null,
            completed boolean default false not null,
            completed_at timestamp with time zone,
            due timestamp with time zone,
            priority text default 'none' not null,
            tags text[] default '{}' not null,
            created_at timestamp with time zone default now() not null,
            updated_at timestamp with time zone default now() not null,
            version integer default 1 not null,
            constraint pk_tasks primary key (user_id, id),
            constraint fk_tasks_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint ck_tasks_priority check (priority in ('none', 'low', 'medium', 'high'))
        )
        """
    )
    op.execute("create index ix_tasks_user_id_completed on tasks (user_id, completed)")
    op.execute("create index ix_tasks_user_id_created_at on tasks (user_id, created_at)")
    op.execute("create index ix_tasks_user_id_due on tasks (user_id, due)")
    op.execute("create index ix_tasks_user_id_title on tasks (user_id, title)")
    protect("tasks")


def downgrade() -> None:
    op.execute("drop table tasks")
