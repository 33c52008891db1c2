"""Find an HTTP request's caller, only by its bearer token."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

import structlog
from anyio.to_thread import run_sync
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from backend.edge.strangers import recognize
from backend.errors import NotFound, Unauthorized
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller, Door

SignIn = Callable[..., Awaitable[Caller]]
Headers = list[tuple[bytes, bytes]]
_CALLER = "docutalk.caller"


class NoSuchUser(NotFound):
    """The path names a user other than the caller."""

    def __init__(self) -> None:
        super().__init__(
            "You have nothing at this address. Check the user that it names.",
            hint="A path names its user by your own id, which GET /api/me shows, or by your identity's `sub`.",
        )


_bearer = HTTPBearer(
    auto_error=False, description="A guest's token, a personal access token, or a token of your Better Auth server."
)


def sign_in(authenticator: Authenticator) -> SignIn:
    """Return the dependency that gives a route its caller. If the path names a user, that user must be the caller."""

    async def signed_in(
        request: Request, _shown_in_docs: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
    ) -> Caller:
        # This is called several times for one request: first by the route itself, then for the route's function.
        if _CALLER not in request.scope:
            request.scope[_CALLER] = await caller_of(request.scope, authenticator, door="rest")
        caller: Caller = request.scope[_CALLER]
        if request.path_params.get("user_id", caller.user_id) not in (caller.user_id, caller.subject):
            raise NoSuchUser
        return caller

    return signed_in


async def caller_of(scope: Scope, authenticator: Authenticator, *, door: Door) -> Caller:
    """Return the caller identified by a request's Authorization header.

    Raises:
        Unauthorized: There is no bearer token, or the token is not valid.
    """
    headers = scope["headers"]
    caller = await run_sync(authenticator.caller, bearer_token(headers))
    await recognize(scope)
    structlog.contextvars.bind_contextvars(user_id=caller.user_id)
    return replace(caller, door=door, client=_client_name(headers))


def bearer_token(headers: Headers) -> str:
    """Return the token from the Authorization header, or raise Unauthorized."""
    given = [value for name, value in headers if name == b"authorization"]
    kind, _, token = (given[0] if len(given) == 1 else b"").decode("latin-1").strip().partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthorized(
            "Sign in first.", hint="Send a token as `Authorization: Bearer …`; POST /api/auth/guest gives one."
        )
    return token.strip()


def _client_name(headers: Headers) -> str | None:
    agent = next((value for name, value in headers if name == b"user-agent"), b"").decode("latin-1")
    return agent[:200] or None
