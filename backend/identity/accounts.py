"""Repositories of users, their sessions, their personal access tokens and their usage."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlmodel import Session, col

from backend.errors import Conflict, NotFound
from backend.idempotency import KEY_LIFETIME
from backend.identity.caller import AccessScope
from backend.identity.models import ApiToken, LoginSession, Usage, User
from backend.postgres.repository import UserRepository

SESSION_PREFIX = "dts_"
MOST_TOKENS = 100
"""The most personal access tokens that a user may have."""
TOKEN_PREFIX = "dtp_"  # noqa: S105  # a prefix, not a token


class TokenNotFound(NotFound):
    """The user has no such personal access token."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"Token {token_id} does not exist.", hint="GET /api/tokens lists them.")


class TokenMadeBefore(Conflict):
    """An earlier request with the same key already created a token."""

    def __init__(self, token_id: int) -> None:
        super().__init__(
            f"This request made token {token_id} already, and its secret is shown only once. If it was lost, revoke "
            f"token {token_id} and make another one.",
            hint="Make the next one with a new Idempotency-Key.",
        )
        self.members["token_id"] = token_id


class TooManyTokens(Conflict):
    """The user already has the most tokens allowed."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST_TOKENS} tokens, which is the limit. Revoke one that you do not need.")


class AccountRepository(UserRepository[User]):
    """The user's own row."""

    model = User

    def find(self) -> User | None:
        """Return the user's row, or None if the account is gone or has expired."""
        user = self._session.exec(self._mine()).one_or_none()
        return None if user is None or (user.expires_at and user.expires_at <= self._scope.now) else user

    def add_guest(self, *, days: int) -> User:
        """Add a guest whose account expires after `days`."""
        return self._keep(
            User(
                user_id=self._scope.user_id,
                kind="guest",
                name="Guest",
                time_zone=self._scope.zone.key,
                expires_at=self._scope.now + timedelta(days=days),
            )
        )

    def add_person(self, *, name: str, issuer: str, subject: str) -> User:
        """Add a person for whom an issuer vouches, or return the person's row if it already exists."""
        self._session.execute(
            text(
                "insert into users (user_id, kind, name, issuer, subject, time_zone) "
                "values (:user_id, 'person', :name, :issuer, :subject, :zone) on conflict (user_id) do nothing"
            ),
            {
                "user_id": self._scope.user_id,
                "name": name,
                "issuer": issuer,
                "subject": subject,
                "zone": self._scope.zone.key,
            },
        )
        self._written("added")
        return self._session.exec(self._mine()).one()

    def change(self, user: User, *, name: str | None, zone: ZoneInfo | None, tainted_writes: str | None = None) -> User:
        """Change the given fields of a user's row; a field that is None stays as it is."""
        user.name = name if name is not None else user.name
        user.time_zone = zone.key if zone is not None else user.time_zone
        user.tainted_writes = tainted_writes or user.tainted_writes
        user.updated_at = self._scope.now
        return self._keep(user, outcome="updated")

    def delete(self) -> None:
        """Delete the user and all of the user's rows."""
        self._session.execute(text("delete from users where user_id = :user_id"), {"user_id": self._scope.user_id})
        self._written("deleted")

    def delete_some(self, *, most: int) -> int:
        """Delete at most `most` of the user's rows, and return how many were deleted; 0 if the user has no rows left.

        Rows that refer to other rows are deleted first, so that no deletion cascades to many rows. The user's own row
        is deleted last. Rows of the ledger are deleted only after the account has expired; apart from that, the service
        may only add to the ledger.
        """
        for table in self._session.execute(_TABLES_OF_USERS).scalars():
            if count := self._delete_some(table, most=most):
                break
        else:
            table, count = "operations, row_changes, access_log", self._delete_logs(most)
            if not count:
                table, count = "users", self._delete_some("users", most=1)
        if count:
            self._written("deleted", table=table, rows=count)
        return count

    def _delete_logs(self, most: int) -> int:
        removed = self._session.execute(
            text("select remove_logs_of_expired(:user_id, :most) + remove_row_changes_of_expired(:user_id, :most)"),
            {"user_id": self._scope.user_id, "most": most},
        )
        return int(removed.scalar_one())

    def _keep(self, user: User, *, outcome: str = "added") -> User:
        self._session.add(user)
        self._session.flush()
        self._written(outcome)
        return user


class SessionRepository(UserRepository[LoginSession]):
    """The user's sessions."""

    model = LoginSession

    def add(self, *, expires_at: datetime) -> str:
        """Open a session and return its token. Only the token's hash is stored."""
        token = SESSION_PREFIX + secrets.token_urlsafe(32)
        self._session.add(
            LoginSession(
                user_id=self._scope.user_id, id=secrets.token_hex(16), token_hash=hashed(token), expires_at=expires_at
            )
        )
        self._session.flush()
        self._written("added")
        return token

    def find(self, session_id: str) -> LoginSession | None:
        """Return a session, or None if the session does not exist or has expired."""
        return self._session.exec(
            self._mine().where(LoginSession.id == session_id, col(LoginSession.expires_at) > self._scope.now)
        ).one_or_none()

    def remove(self, token: str) -> None:
        """Close the session that a token belongs to."""
        self._session.execute(
            text("delete from sessions where user_id = :user_id and token_hash = :hash"),
            {"user_id": self._scope.user_id, "hash": hashed(token)},
        )
        self._written("deleted")


class TokenRepository(UserRepository[ApiToken]):
    """The user's personal access tokens."""

    model = ApiToken

    def add(
        self,
        *,
        name: str,
        scopes: list[AccessScope],
        expires_at: datetime | None,
        idempotency_key: str | None = None,
    ) -> tuple[ApiToken, str]:
        """Create a token; return its row and its secret.

        Only the secret's hash is stored, so the secret can never be shown again.

        Raises:
            TokenMadeBefore: A request with this idempotency key already created a token.
            TooManyTokens: The user already has the most tokens allowed.
        """
        # Taking the token's number locks the counter until the transaction ends, so equal requests run one by one.
        token_id = self._next("token")
        tokens = self.all()
        for earlier in tokens:
            is_recent = self._scope.now - earlier.created_at <= KEY_LIFETIME
            if is_recent and idempotency_key is not None and earlier.idempotency_key == idempotency_key:
                raise TokenMadeBefore(earlier.id)
        if len(tokens) >= MOST_TOKENS:
            raise TooManyTokens
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        token = ApiToken(
            user_id=self._scope.user_id,
            id=token_id,
            name=name,
            idempotency_key=idempotency_key,
            scopes=sorted(scopes),
            token_hash=hashed(secret),
            expires_at=expires_at,
            created_at=self._scope.now,
        )
        self._session.add(token)
        self._session.flush()
        self._written("added", token_id=token.id)
        return token, secret

    def all(self) -> list[ApiToken]:
        """List the tokens, oldest first."""
        return list(self._session.exec(self._mine().order_by(col(ApiToken.id))))

    def find(self, token_id: int) -> ApiToken | None:
        """Return a token, or None if the token does not exist or has expired. Records its use at most once an hour."""
        token = self._session.exec(self._mine().where(ApiToken.id == token_id)).one_or_none()
        now = self._scope.now
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            return None
        if token.last_used_at is None or now - token.last_used_at > timedelta(hours=1):
            token.last_used_at = now
            self._session.add(token)
            self._written("used", token_id=token_id)
        return token

    def revoke(self, token_id: int) -> None:
        """Delete a token. The token stops working at once."""
        token = self._session.exec(self._mine().where(ApiToken.id == token_id)).one_or_none()
        if token is None:
            raise TokenNotFound(token_id)
        self._session.delete(token)
        self._session.flush()
        self._written("deleted", token_id=token_id)


class UsageRepository(UserRepository[Usage]):
    """The user's usage for each day in UTC."""

    model = Usage

    def count_turn(self) -> int:
        """Count one more turn for today, and return today's number of turns."""
        turns = self._counted(
            "insert into usage (user_id, day, turns) values (:user_id, :day, 1) "
            "on conflict (user_id, day) do update set turns = usage.turns + 1 returning turns",
            day=self._scope.now.date(),
        )
        self._written("counted", turns=turns)
        return turns

    def count_tokens(self, *, input_tokens: int, output_tokens: int) -> None:
        """Add a run's tokens to today's usage."""
        self._session.execute(
            text(
                "insert into usage (user_id, day, input_tokens, output_tokens) "
                "values (:user_id, :day, :input, :output) "
                "on conflict (user_id, day) do update set input_tokens = usage.input_tokens + :input, "
                "output_tokens = usage.output_tokens + :output"
            ),
            {
                "user_id": self._scope.user_id,
                "day": self._scope.now.date(),
                "input": input_tokens,
                "output": output_tokens,
            },
        )
        self._written("counted", input_tokens=input_tokens, output_tokens=output_tokens)


_TABLES_OF_USERS = text(
    """
    with recursive referring (id, depth) as (
        select 'public.users'::regclass::oid, 0
        union
        select c.conrelid, r.depth + 1 from referring r join pg_catalog.pg_constraint c
        on c.confrelid = r.id and c.contype = 'f' and c.conrelid <> r.id where r.depth < 10
    )
    select id::regclass::text from referring where depth > 0
    group by id having has_table_privilege(id, 'delete') order by max(depth) desc, 1
    """
)
"""The tables that refer to users, directly or through other tables, in an order in which their rows can be deleted: a
table comes before every table that it refers to."""


def hashed(token: str) -> str:
    """Return a token's SHA-256 hash, in hex. A slow hash would add nothing, because tokens have 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def owner_of_session(session: Session, token: str) -> tuple[str, str] | None:
    """Find a session of any user by its token; return (user_id, session id), or None if there is no such session."""
    row = session.execute(text("select user_id, id from find_session(:hash)"), {"hash": hashed(token)}).one_or_none()
    return None if row is None else (row.user_id, row.id)


def owner_of_api_token(session: Session, token: str) -> tuple[str, int] | None:
    """Find a personal access token of any user; return (user_id, token id), or None if there is no such token."""
    row = session.execute(text("select user_id, id from find_api_token(:hash)"), {"hash": hashed(token)}).one_or_none()
    return None if row is None else (row.user_id, row.id)


def expired_users(session: Session, *, most: int, but_not: Sequence[str] = ()) -> list[str]:
    """Return the ids of at most `most` expired users, the longest expired first."""
    found = session.execute(
        text("select user_id from due_guests(:most, :but_not)"), {"most": most, "but_not": list(but_not)}
    )
    return [row.user_id for row in found]


def guest_is_admitted(session: Session, *, address_hash: str, most: int) -> bool:
    """Count one more guest from an address in this hour, and return whether the count is at most `most`."""
    return bool(
        session.execute(
            text("select admit_guest(:address, :most)"), {"address": address_hash, "most": most}
        ).scalar_one()
    )
