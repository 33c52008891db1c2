"""The JSON forms of users, sessions and tokens."""

from datetime import datetime
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from backend.identity.caller import AccessScope
from backend.identity.guest_budget import ModelNotice
from backend.identity.models import ApiToken, User
from backend.plain_text import NUMBER, ONE_LINE


@cache
def _zones() -> frozenset[str]:
    # Leave out the two names whose meaning differs between machines.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("This is no time zone. Use a name such as Europe/Berlin or UTC.")
    return name


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_known_zone)]
TaintedWrites = Annotated[
    Literal["ask", "allow"],
    Field(description="What to do with a change that is requested in a turn that has read a document."),
]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), ONE_LINE]


class Strict(BaseModel):
    """A request body that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


class GuestWanted(Strict):
    """The settings of a new guest."""

    time_zone: TimeZone = "UTC"


class UserSeen(BaseModel):
    """A user, as shown to that user."""

    id: str
    name: str
    kind: Literal["guest", "person"]
    time_zone: str
    tainted_writes: TaintedWrites
    created_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, user: User) -> Self:
        """Return a user's row as the JSON form that is shown to that user."""
        return cls(
            id=user.user_id,
            name=user.name,
            kind="guest" if user.kind == "guest" else "person",
            time_zone=user.time_zone,
            tainted_writes="allow" if user.tainted_writes == "allow" else "ask",
            created_at=user.created_at,
            expires_at=user.expires_at,
        )


class Me(UserSeen):
    """A user, as shown to that user, with what applies to the user now."""

    model_notice: ModelNotice | None = None
    """Why the offline model would answer now in place of the configured model; left out if it would not answer."""


class SignedIn(BaseModel):
    """A new session."""

    token: str
    user: UserSeen
    expires_at: datetime | None


class UserChange(Strict):
    """Changes to the user's own account."""

    name: Name | None = None
    time_zone: TimeZone | None = None
    tainted_writes: TaintedWrites | None = None

    @property
    def zone(self) -> ZoneInfo | None:
        """The new time zone, or None to keep the current zone."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)


class TokenWanted(Strict):
    """The settings of a new personal access token."""

    name: Name
    scopes: Annotated[list[AccessScope], Field(min_length=1, max_length=2)] = ["read", "write"]
    expires_in_days: Annotated[int, Field(ge=1, le=3650), NUMBER] | None = 90


class TokenSeen(BaseModel):
    """A personal access token without its secret."""

    id: int
    name: str
    scopes: list[AccessScope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, token: ApiToken) -> "TokenSeen":
        """Return a token's row as its JSON form, without the secret."""
        return cls.model_validate(token.model_dump(), extra="ignore")


class TokenMade(TokenSeen):
    """A new token with its secret, which is shown only once."""

    token: str


class TokensListed(BaseModel):
    """The user's tokens."""

    tokens: list[TokenSeen]
    next_cursor: None = None
    """Always null, because a user has at most a hundred tokens and this page lists all of them."""
