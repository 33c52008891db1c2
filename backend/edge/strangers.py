"""Limit how many requests from one address run at once while it is unknown whether they come from a user."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from starlette.types import Scope

from backend.edge.connections import TooManyConnections
from backend.edge.proxies import Proxies
from backend.identity.authenticator import network_of
from backend.limits.limiter import Limiter

AT_ONCE = 4
MOST_WAITING = 1_000
"""The most requests that wait for a slot. Loading the page causes about thirty requests, and many people at one address
may load the page at the same moment."""
WAIT_SECONDS = 5.0
MOST_KNOWN = 10_000
"""The most credentials that are remembered. The least recently used credential is dropped first."""

_SLOT = "docutalk.slot"


class Visitors:
    """Counts the requests from each client behind a trusted proxy, where all connections come from the proxy."""

    def __init__(self, proxies: Proxies, most: int) -> None:
        """Allow each client behind these proxies at most `most` requests in progress; 0 means no limit."""
        self._proxies = proxies
        self._most = most
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def counted(self, scope: Scope) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            TooManyConnections: The client already has as many requests in progress as an address may have connections.
        """
        peer = scope["client"][0] if scope.get("client") else "unknown"
        if not self._most or not self._proxies.trust(peer):
            yield
            return
        client = network_of(self._proxies.client_of(scope))
        if self._under_way[client] >= self._most:
            raise TooManyConnections
        self._under_way[client] += 1
        try:
            yield
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]


class Slot:
    """The slot of a request from an unknown sender. It is held until the sender is known or the answer begins."""

    def __init__(self, strangers: "Strangers", credential: bytes | None) -> None:
        self._strangers = strangers
        self._credential = credential
        self.held = AsyncExitStack()

    async def recognize(self) -> None:
        """Remember the credential as valid, and release the slot."""
        self._strangers.remember(self._credential)
        await self.held.aclose()

    async def answer(self, status: int) -> None:
        """Release the slot when the answer begins, because the client may take any time to read the answer."""
        if status == 401:
            self._strangers.forget(self._credential)
        await self.held.aclose()


class Strangers:
    """Gives each address a few slots for requests that are not yet known to come from a user.

    A credential that was valid at its last use has its own slots. So signed-in users are not delayed when others at
    their address send a flood of invalid tokens or load many pages.
    """

    def __init__(self, proxies: Proxies) -> None:
        """Find the addresses behind these trusted proxies."""
        self._proxies = proxies
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._limiter = Limiter(
            AT_ONCE,
            sentence="Too many requests from your network are being handled. Try again in a few seconds.",
            most_waiting=MOST_WAITING,
        )

    @asynccontextmanager
    async def slot(self, scope: Scope) -> AsyncIterator[Slot]:
        """Wait for a slot, and hold it for a request whose body has arrived.

        Raises:
            TooBusy: No slot became free in time, or too many requests are waiting.
        """
        credential = _credential_of(scope)
        key = credential if credential in self._known else network_of(self._proxies.client_of(scope))
        slot = Slot(self, credential)
        async with slot.held:
            await slot.held.enter_async_context(self._limiter.slot(key, wait=WAIT_SECONDS))
            scope[_SLOT] = slot
            yield slot

    def remember(self, credential: bytes | None) -> None:
        """Give a credential its own slots from now on, because it was valid."""
        if credential is not None:
            self._known[credential] = None
            self._known.move_to_end(credential)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def forget(self, credential: bytes | None) -> None:
        """Treat senders of this credential as unknown again, because it was not valid."""
        if credential is not None:
            self._known.pop(credential, None)


async def recognize(scope: Scope) -> None:
    """Record that a request's credential is valid, so that its sender no longer counts as unknown."""
    if (slot := scope.get(_SLOT)) is not None:
        await slot.recognize()


def _credential_of(scope: Scope) -> bytes | None:
    """Return the hash of a request's only Authorization header. The secret itself is not kept."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    return hashlib.sha256(given[0]).digest() if len(given) == 1 else None
