"""The caller: who is acting, through which door, and with which rights.

A credential determines the caller, and a context variable holds the caller.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from backend.errors import Forbidden, Unauthorized

Door = Literal["chat", "mcp", "rest"]
AccessScope = Literal["read", "write"]
ALL_SCOPES: tuple[AccessScope, ...] = ("read", "write")


@dataclass(frozen=True, slots=True)
class Caller:
    """The user who is acting, and what the user's credential allows."""

    user_id: str
    kind: Literal["guest", "person"]
    scopes: frozenset[AccessScope]
    zone: ZoneInfo
    door: Door = "rest"
    client: str | None = None
    """The name that the client gives itself. It is recorded in the ledger and never trusted."""
    subject: str | None = None
    """The name that an outside issuer gave this identity."""
    by_token: bool = False
    """Whether a personal access token was used."""

    def require(self, scope: AccessScope) -> None:
        """Raise Forbidden if the credential does not have this scope."""
        if scope not in self.scopes:
            raise Forbidden(f"This token may not {scope}.", hint=f"Use a token with the scope `{scope}`.")

    def require_person(self) -> None:
        """Raise Forbidden if a personal access token was used, because some actions need a person's own session.

        These actions are creating and revoking tokens, deleting the account, and removing data before its time.
        """
        if self.by_token:
            raise Forbidden("A personal access token may not do this. Sign in as yourself.")


_acting: ContextVar[Caller | None] = ContextVar("caller", default=None)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Act as a caller inside the block. This is the only way to set the caller."""
    token = _acting.set(caller)
    try:
        yield
    finally:
        _acting.reset(token)


def current_caller() -> Caller:
    """Return the caller who is acting; raise Unauthorized if there is none."""
    caller = _acting.get()
    if caller is None:
        raise Unauthorized("Sign in first.", hint="Send a token as `Authorization: Bearer …`.")
    return caller
