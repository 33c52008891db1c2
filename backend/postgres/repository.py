"""The base class of every repository. It has a scope with one user, and its statements select only that user's rows."""

from typing import Any, ClassVar, Generic, TypeVar

import structlog
from sqlalchemy import DateTime, ForeignKeyConstraint, Integer, String, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel, select
from sqlmodel.sql.expression import SelectOfScalar

from backend.errors import Unauthorized
from backend.postgres.database import Scope

log = structlog.get_logger()

LARGEST_ID = 2_147_483_647
"""PostgreSQL's largest integer, which is also the largest number that a task, document or conversation can have."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING


def timestamp(*, default_now: bool = False, **options: Any) -> Any:
    """Declare a column for a time with zone. With `default_now`, the database fills in the current time."""
    kwargs: dict[str, Any] = {"server_default": text("now()")} if default_now else {}
    kwargs["nullable"] = not default_now
    return Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs=kwargs,
        **options,
    )


def escaped(word: str) -> str:
    """Escape a word for a LIKE pattern, so that it matches literally."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class Owned(SQLModel):
    """A row that belongs to one user. Its primary key begins with `user_id`."""

    user_id: str = Field(primary_key=True, max_length=128, sa_type=String(128))


def belongs_to_user() -> ForeignKeyConstraint:
    """Return the foreign key that deletes a row together with its user."""
    return ForeignKeyConstraint(["user_id"], ["users.user_id"], ondelete="CASCADE")


class AccountGone(Unauthorized):
    """The user was deleted while a request of theirs was running."""

    def __init__(self) -> None:
        super().__init__("This account was deleted. Sign in again or start a new guest session.")


class Counter(Owned, table=True):
    """The last number given to a user's rows of one kind. Numbers are never reused."""

    __tablename__ = "counters"

    noun: str = Field(primary_key=True, max_length=32, sa_type=String(32))
    last: int = Field(sa_type=Integer)

    __table_args__ = (belongs_to_user(),)


Row = TypeVar("Row", bound=Owned)


class UserRepository(Generic[Row]):
    """The rows of one table that belong to the scope's user. A repository cannot be created without a user."""

    model: ClassVar[type[Any]]

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._session = scope.session

    def _mine(self) -> SelectOfScalar[Row]:
        return select(self.model).where(self.model.user_id == self._scope.user_id)

    def _next(self, noun: str) -> int:
        """Return this user's next number for a kind of row, from 1.

        The counter's row stays locked until the transaction ends, so two writers never get the same number.
        """
        return self._counted(
            "insert into counters (user_id, noun, last) values (:user_id, :noun, 1) "
            "on conflict (user_id, noun) do update set last = counters.last + 1 returning last",
            noun=noun,
        )

    def _hold(self, noun: str) -> None:
        """Lock the counter for a kind of row until the transaction ends, without taking a number."""
        self._counted(
            "insert into counters (user_id, noun, last) values (:user_id, :noun, 0) "
            "on conflict (user_id, noun) do update set last = counters.last returning last",
            noun=noun,
        )

    def _counted(self, statement: str, **values: Any) -> int:
        """Run a statement that increments a counter; return the count. The row's only foreign key must name the user.

        Raises:
            AccountGone: The user was deleted meanwhile.
        """
        try:
            counted = self._session.execute(text(statement), {"user_id": self._scope.user_id, **values})
        except IntegrityError as error:
            raise AccountGone from error
        return int(counted.scalar_one())

    def _delete_some(self, table: str, *, most: int, **columns: Any) -> int:
        """Delete at most `most` of the user's rows with these column values, and return how many were deleted."""
        mine = " and ".join(f"{name} = :{name}" for name in ("user_id", *columns))
        deleted: Any = self._session.execute(
            text(
                f"delete from {table} where ctid = any (array(select ctid from {table} "  # noqa: S608
                f"where {mine} limit :most))"
            ),
            {"user_id": self._scope.user_id, "most": most, **columns},
        )
        return int(deleted.rowcount)

    def _written(self, outcome: str, *, table: str | None = None, **fields: Any) -> None:
        """Log a write with its table and outcome. The fields are only ids and counts, never content."""
        table = table or self.model.__tablename__
        log.info("repository_write", table=table, user_id=self._scope.user_id, outcome=outcome, **fields)
