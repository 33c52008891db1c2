"""Routes for guests, the user's own account, and personal access tokens."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Path, Request, Response

from backend.api_router import api_router
from backend.errors import Forbidden, Unauthorized
from backend.idempotency import IdempotencyHeader
from backend.identity.accounts import SESSION_PREFIX, AccountRepository, SessionRepository, TokenRepository
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.identity.guest_budget import ModelNotice
from backend.identity.models import User
from backend.identity.schemas import (
    GuestWanted,
    Me,
    SignedIn,
    TokenMade,
    TokenSeen,
    TokensListed,
    TokenWanted,
    UserChange,
    UserSeen,
)
from backend.postgres.database import Database, Scope
from backend.postgres.repository import LARGEST_ID

SignIn = Callable[..., object]
TokenId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


def identity_routes(
    database: Database,
    authenticator: Authenticator,
    signed_in: SignIn,
    *,
    address_of: Callable[[Request], str],
    token_of: Callable[[Request], str],
    model_notice: Callable[[Scope, Caller], ModelNotice | None],
) -> APIRouter:
    """Return the routes under `/api/auth`, `/api/me` and `/api/tokens`.

    `model_notice` returns the reason why the offline model would answer a caller now in place of the configured model,
    or None if the configured model would answer.
    """
    router = api_router(signed_in, prefix="/api", tags=["identity"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]

    @router.post("/auth/guest", status_code=201, summary="Begin as a guest")
    def begin_as_guest(request: Request, wanted: GuestWanted | None = None) -> SignedIn:
        zone = ZoneInfo((wanted or GuestWanted()).time_zone)
        user, token = authenticator.welcome_guest(address=address_of(request), zone=zone)
        return SignedIn(token=token, user=UserSeen.of(user), expires_at=user.expires_at)

    @router.post("/auth/logout", status_code=204, summary="Log out: the token stops working")
    def log_out(request: Request, caller: SignedInCaller) -> Response:
        token = token_of(request)
        if not token.startswith(SESSION_PREFIX):
            raise Forbidden(
                "Only a session can be logged out. Revoke a token instead.", hint="DELETE /api/tokens/{id} does."
            )
        with database.scope(caller.user_id, caller.zone) as scope:
            SessionRepository(scope).remove(token)
        return Response(status_code=204)

    @router.get("/me", summary="Show my account", response_model_exclude_unset=True)
    def show_me(caller: SignedInCaller) -> Me:
        with database.scope(caller.user_id, caller.zone) as scope:
            me = Me.of(_self(AccountRepository(scope)))
            if (notice := model_notice(scope, caller)) is not None:
                me.model_notice = notice
            return me

    @router.patch("/me", summary="Change my name, time zone, or what documents may ask for")
    def change_me(change: UserChange, caller: SignedInCaller) -> UserSeen:
        caller.require("write")
        if change.tainted_writes is not None:
            caller.require_person()
        with database.scope(caller.user_id, caller.zone) as scope:
            accounts = AccountRepository(scope)
            changed = accounts.change(
                _self(accounts), name=change.name, zone=change.zone, tainted_writes=change.tainted_writes
            )
            return UserSeen.of(changed)

    @router.delete("/me", status_code=204, summary="Delete my account and everything in it")
    def delete_me(caller: SignedInCaller) -> Response:
        caller.require_person()
        authenticator.forget(caller.user_id)
        return Response(status_code=204)

    @router.get("/tokens", summary="List my personal access tokens")
    def list_tokens(caller: SignedInCaller) -> TokensListed:
        with database.scope(caller.user_id, caller.zone) as scope:
            tokens = TokenRepository(scope).all()
            return TokensListed(tokens=[TokenSeen.of(token) for token in tokens])

    @router.post("/tokens", status_code=201, summary="Make a personal access token; its secret is shown once")
    def make_token(wanted: TokenWanted, caller: SignedInCaller, key: IdempotencyHeader = None) -> TokenMade:
        caller.require_person()
        with database.scope(caller.user_id, caller.zone) as scope:
            days = wanted.expires_in_days
            expires = None if days is None else scope.now + timedelta(days=days)
            token, secret = TokenRepository(scope).add(
                name=wanted.name, scopes=wanted.scopes, expires_at=expires, idempotency_key=key
            )
            return TokenMade(**TokenSeen.of(token).model_dump(), token=secret)

    @router.delete("/tokens/{token_id}", status_code=204, summary="Revoke a personal access token")
    def revoke_token(token_id: TokenId, caller: SignedInCaller) -> Response:
        caller.require_person()
        with database.scope(caller.user_id, caller.zone) as scope:
            TokenRepository(scope).revoke(token_id)
        return Response(status_code=204)

    return router


def _self(accounts: AccountRepository) -> User:
    user = accounts.find()
    if user is None:
        raise Unauthorized("This account no longer exists.")
    return user
