"""The key of vectors begins with the columns of their foreign key, so that deleting a passage looks its vectors up.

It is rebuilt under a lock that holds up every use of the vectors, for about 10 seconds for each million of them.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    _change_key("user_id, chunk_id, model_id")


def downgrade() -> None:
    """Take back."""
    _change_key("user_id, model_id, chunk_id")


def _change_key(columns: str) -> None:
    op.execute(
        "alter table chunk_vectors drop constraint pk_chunk_vectors, "
        f"add constraint pk_chunk_vectors primary key ({columns})"
    )
