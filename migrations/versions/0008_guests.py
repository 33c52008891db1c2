"""Guests: the model turns and the document storage that all guests share."""

from alembic import op

from migrations.tenancy import definer

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table guest_model_turns (
            day date not null,
            turns integer not null,
            constraint pk_guest_model_turns primary key (day)
        )
        """
    )
    op.execute("grant select on guest_model_turns to docutalk_app")
    op.execute("alter table runs add column model_notice json")
    definer(
        "take_guest_model_turn(today date, most integer)",
        "boolean",
        """
        insert into public.guest_model_turns as g (day, turns) values (today, 1)
        on conflict (day) do update set turns = g.turns + 1 where g.turns < most
        returning true;
        """,
    )
    definer(
        "guests_have_room_for(bytes bigint, most bigint)",
        "boolean",
        """
        select coalesce(sum(d.file_size), 0) + bytes <= most
        from public.documents d join public.users u on u.user_id = d.user_id where u.kind = 'guest'
        """,
    )


def downgrade() -> None:
    op.execute("drop function guests_have_room_for(bigint, bigint)")
    op.execute("drop function take_guest_model_turn(date, integer)")
    op.execute("alter table runs drop column model_notice")
    op.execute("drop table guest_model_turns")
