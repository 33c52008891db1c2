"""The tables of users, sessions, personal access tokens, usage and guests' limits."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import CheckConstraint, Index, Integer, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from backend.postgres.database import UTC
from backend.postgres.repository import Owned, belongs_to_user, timestamp


class User(Owned, table=True):
    """A person who signed in, or a guest, whose identity is unknown."""

    __tablename__ = "users"

    kind: str = Field(sa_type=Text, description="guest, or person")
    name: str = Field(sa_type=Text)
    issuer: str | None = Field(default=None, sa_type=Text, description="Who vouches for an outside identity.")
    subject: str | None = Field(default=None, sa_type=Text, description="The identity's name at its issuer.")
    time_zone: str = Field(default="UTC", sa_type=Text, sa_column_kwargs={"server_default": "UTC"})
    tainted_writes: str = Field(
        default="ask",
        sa_type=Text,
        sa_column_kwargs={"server_default": "ask"},
        description="What to do with a change that is requested after a document was read: ask, or allow",
    )
    created_at: datetime = timestamp(default_now=True)
    updated_at: datetime = timestamp(default_now=True)
    expires_at: datetime | None = timestamp()

    __table_args__ = (
        CheckConstraint("tainted_writes in ('ask', 'allow')", name="tainted_writes"),
        Index("ix_users_expires_at", "expires_at", postgresql_where=text("expires_at is not null")),
    )

    @property
    def zone(self) -> ZoneInfo:
        """The user's time zone, or UTC if this machine does not know the zone that another machine stored."""
        try:
            return ZoneInfo(self.time_zone)
        except (KeyError, ValueError):
            return UTC


class LoginSession(Owned, table=True):
    """A guest's session. Only the hash of its token is stored."""

    __tablename__ = "sessions"

    id: str = Field(primary_key=True, sa_type=String(32))
    token_hash: str = Field(sa_type=Text, unique=True)
    created_at: datetime = timestamp(default_now=True)
    expires_at: datetime = timestamp(default_now=True)

    __table_args__ = (belongs_to_user(),)


class ApiToken(Owned, table=True):
    """A personal access token. Only its hash is stored."""

    __tablename__ = "api_tokens"

    id: int = Field(primary_key=True, sa_type=Integer)
    name: str = Field(sa_type=Text)
    scopes: list[str] = Field(sa_type=ARRAY(Text))
    token_hash: str = Field(sa_type=Text, unique=True)
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = timestamp(default_now=True)
    expires_at: datetime | None = timestamp()
    last_used_at: datetime | None = timestamp()

    __table_args__ = (belongs_to_user(),)


class Usage(Owned, table=True):
    """A user's usage on one day in UTC. It stays when conversations are deleted, so a deletion resets no limit."""

    __tablename__ = "usage"

    day: date = Field(primary_key=True)
    turns: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    input_tokens: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})
    output_tokens: int = Field(default=0, sa_type=Integer, sa_column_kwargs={"server_default": text("0")})

    __table_args__ = (belongs_to_user(),)


class Arrival(SQLModel, table=True):
    """How many guests an address created in one hour. The row belongs to no user, and the app's role cannot read it."""

    __tablename__ = "arrivals"

    address_hash: str = Field(primary_key=True, sa_type=Text)
    hour: datetime = timestamp(default_now=True, primary_key=True)
    guests: int = Field(sa_type=Integer)


class GuestModelTurns(SQLModel, table=True):
    """How many turns with the model all guests took together on one day in UTC. The row belongs to no user."""

    __tablename__ = "guest_model_turns"

    day: date = Field(primary_key=True)
    turns: int = Field(sa_type=Integer)
