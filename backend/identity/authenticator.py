"""Find the caller for a bearer token, and admit guests."""

import hashlib
import hmac
import ipaddress
import math
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import jwt

from backend.errors import DatabaseUnavailable, Forbidden, TooManyRequests, Unauthorized
from backend.identity.accounts import (
    SESSION_PREFIX,
    TOKEN_PREFIX,
    AccountRepository,
    SessionRepository,
    TokenRepository,
    guest_is_admitted,
    owner_of_api_token,
    owner_of_session,
)
from backend.identity.caller import ALL_SCOPES, AccessScope, Caller
from backend.identity.models import User
from backend.plain_text import storable
from backend.postgres.database import GIVE_WAY_SECONDS, UTC, Database, Scope, become

MOST_TOKEN_LENGTH = 8192
FORGET_ATTEMPTS = 12
LOCAL_ISSUER = "local"
"""The issuer of an installation's owner. No outside token may name this issuer."""
_REFUSED = "The token is not valid: it is unknown, expired or revoked. Sign in again or start a new guest session."


@dataclass(frozen=True, slots=True)
class BetterAuth:
    """The settings for checking a Better Auth server's HS256 tokens."""

    secret: str
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class GuestRules:
    """The rules for guests: how long a guest's account lasts, and how many guests one address may create."""

    get: Literal["on", "offline", "off"] = "on"
    per_hour: int = 100
    """The most guests that one address may create in an hour; 0 means no limit."""
    days: int = 30
    """Days until a guest's account expires."""


class Authenticator:
    """Knows every kind of credential: guests' sessions, personal access tokens, and Better Auth's tokens."""

    def __init__(
        self,
        database: Database,
        *,
        secret: Callable[[], str],
        guests: GuestRules,
        better_auth: BetterAuth | None = None,
    ) -> None:
        self._database = database
        self._secret = secret
        self._guests = guests
        self._better_auth = better_auth

    def caller(self, token: str) -> Caller:
        """Return the caller that a token identifies.

        Raises:
            Unauthorized: The token is unknown, expired, revoked or malformed.
        """
        if not token or len(token) > MOST_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
            raise Unauthorized(_REFUSED)
        if token.startswith(SESSION_PREFIX):
            return self._of_session(token)
        if token.startswith(TOKEN_PREFIX):
            return self._of_api_token(token)
        if token.count(".") == 2 and self._better_auth is not None:
            return self._of_better_auth(token, self._better_auth)
        raise Unauthorized(_REFUSED)

    def welcome_guest(self, *, address: str, zone: ZoneInfo) -> tuple[User, str]:
        """Create a guest; return the guest and the token of the guest's session.

        Raises:
            Forbidden: This installation does not admit guests.
            TooManyRequests: The address created too many guests within the hour.
        """
        if self._guests.get == "off":
            raise Forbidden("This installation takes no guests. Ask its owner for an account or a token.")
        if self._guests.per_hour:
            digest = hmac.new(self._secret().encode(), network_of(address).encode(), hashlib.sha256).hexdigest()
            with self._database.transaction(None) as session:
                admitted = guest_is_admitted(session, address_hash=digest, most=self._guests.per_hour)
            if not admitted:
                raise self._too_many(zone)
        user_id = "guest_" + secrets.token_hex(16)
        with self._database.scope(user_id, zone) as scope:
            user = AccountRepository(scope).add_guest(days=self._guests.days)
            token = SessionRepository(scope).add(expires_at=user.expires_at or scope.now)
            scope.session.refresh(user)
            scope.session.expunge(user)
        return user, token

    def _too_many(self, zone: ZoneInfo) -> TooManyRequests:
        now = self._database.now()
        next_hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        at = f"{next_hour.astimezone(zone):%I:%M %p}".lstrip("0")
        return TooManyRequests(
            f"Too many new guests came from your network this hour. Try again at {at}.",
            retry_after=math.ceil((next_hour - now).total_seconds()),
        )

    def forget(self, user_id: str) -> None:
        """Delete a user and all of the user's rows."""
        for attempt in range(1, FORGET_ATTEMPTS + 1):
            try:
                with self._database.scope(user_id, UTC, lock_seconds=GIVE_WAY_SECONDS) as scope:
                    AccountRepository(scope).delete()
                return
            except DatabaseUnavailable:
                # The user's other requests may lock rows in another order. They end soon, so try again.
                if attempt == FORGET_ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.05, 0.2))  # noqa: S311  # It only spreads attempts in time.

    def _of_session(self, token: str) -> Caller:
        with self._database.transaction(None) as session:
            owner = owner_of_session(session, token)
            if owner is None:
                raise Unauthorized(_REFUSED)
            scope = self._enter(session, owner[0])
            if SessionRepository(scope).find(owner[1]) is None:
                raise Unauthorized(_REFUSED)
            return _caller_of(AccountRepository(scope).find(), ALL_SCOPES)

    def _of_api_token(self, token: str) -> Caller:
        with self._database.transaction(None) as session:
            owner = owner_of_api_token(session, token)
            if owner is None:
                raise Unauthorized(_REFUSED)
            scope = self._enter(session, owner[0])
            found = TokenRepository(scope).find(owner[1])
            if found is None:
                raise Unauthorized(_REFUSED)
            scopes = [name for name in ALL_SCOPES if name in found.scopes]
            return _caller_of(AccountRepository(scope).find(), scopes, by_token=True)

    def _of_better_auth(self, token: str, trusted: BetterAuth) -> Caller:
        claims = _claims(token, trusted)
        subject = next((claims[name] for name in ("sub", "id", "userId") if claims.get(name)), None)
        if not isinstance(subject, str | int) or isinstance(subject, bool) or len(str(subject)) > 512:
            raise Unauthorized("The token names nobody.", hint="It needs a `sub`, `id` or `userId`.")
        # The user's id depends on the issuer even if the issuer is not checked. So configuring the check later changes
        # no user's id.
        issuer = storable(str(claims.get("iss") or "better-auth"))
        if issuer == LOCAL_ISSUER:
            raise Unauthorized(f"The issuer {LOCAL_ISSUER} is this installation's own name and vouches for nobody.")
        user_id = user_id_of(issuer, str(subject))
        with self._database.scope(user_id, UTC) as scope:
            accounts = AccountRepository(scope)
            user = accounts.find()
            if user is None:
                name = storable(str(claims.get("name") or "You"))[:200]
                user = accounts.add_person(name=name, issuer=issuer, subject=storable(str(subject)))
            return _caller_of(user, ALL_SCOPES)

    def _enter(self, session: Any, user_id: str) -> Scope:
        become(session, user_id)
        return Scope(session, user_id, self._database.now(), UTC)


def network_of(address: str) -> str:
    """Return the network that counts as one address: for IPv6 the /64, because each subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return str(getattr(parsed, "ipv4_mapped", parsed))
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def user_id_of(issuer: str, subject: str) -> str:
    """Return our user id for an outside identity.

    The same pair of issuer and subject always has the same id, and different pairs have different ids.
    """
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode(errors="surrogatepass")).hexdigest()
    return f"user_{digest[:40]}"


def _claims(token: str, trusted: BetterAuth) -> dict[str, Any]:
    required = ["exp"] + (["iss"] if trusted.issuer else []) + (["aud"] if trusted.audience else [])
    try:
        return dict(
            jwt.decode(
                token,
                trusted.secret,
                algorithms=["HS256"],
                issuer=trusted.issuer,
                audience=trusted.audience,
                options={"require": required, "verify_aud": trusted.audience is not None, "verify_sub": False},
                leeway=10,
            )
        )
    except jwt.ExpiredSignatureError:
        raise Unauthorized("The token has expired. Sign in again.") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise Unauthorized(_REFUSED) from None


def _caller_of(
    user: User | None, scopes: tuple[AccessScope, ...] | list[AccessScope], *, by_token: bool = False
) -> Caller:
    if user is None:
        raise Unauthorized(_REFUSED)
    return Caller(
        user_id=user.user_id,
        kind="guest" if user.kind == "guest" else "person",
        scopes=frozenset(scopes),
        zone=user.zone,
        subject=user.subject,
        by_token=by_token,
    )
