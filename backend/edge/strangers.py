"""A bound on what one address has at work at once before its requests are known to be a user's."""

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
"""A page load asks for some thirty files, and a room full of people may load it in one moment."""
WAIT_SECONDS = 5.0
MOST_KNOWN = 10_000
"""Credentials that are remembered; the one that was used longest ago is forgotten first."""

_SLOT = "docutalk.slot"


class Visitors:
    """Counts the requests of each client that comes through a trusted proxy, where all connections are the proxy's."""

    def __init__(self, proxies: Proxies, most: int) -> None:
        """Take the proxies, and how many requests of one client may be under way; 0 is no limit."""
        self._proxies = proxies
        self._most = most
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def counted(self, scope: Scope) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            TooManyConnections: The client has as many under way as an address may have connections.
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
    """What a request of a stranger holds until its sender is recognized or its answer begins."""

    def __init__(self, strangers: "Strangers", credential: bytes | None) -> None:
        self._strangers = strangers
        self._credential = credential
        self.held = AsyncExitStack()

    async def recognize(self) -> None:
        """Give the slot back: the credential is valid."""
        self._strangers.remember(self._credential)
        await self.held.aclose()

    async def answer(self, status: int) -> None:
        """Give the slot back: the answer begins, and the client may take as long as it likes to read it."""
        if status == 401:
            self._strangers.forget(self._credential)
        await self.held.aclose()


class Strangers:
    """Gives each address a few slots for requests that are not known to be a user's.

    A credential that was valid the last time has slots of its own. So neither a flood of refused tokens from an
    address nor its neighbors' page loads hold up those who are signed in there.
    """

    def __init__(self, proxies: Proxies) -> None:
        """Take the proxies, behind which the addresses are."""
        self._proxies = proxies
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._limiter = Limiter(
            AT_ONCE,
            sentence="Too many requests from your network are at work. Try again in a few seconds.",
            most_waiting=MOST_WAITING,
        )

    @asynccontextmanager
    async def slot(self, scope: Scope) -> AsyncIterator[Slot]:
        """Hold a slot for a request whose body has come.

        Raises:
            TooBusy: No slot came free in time, or too many wait.
        """
        credential = _credential_of(scope)
        key = credential if credential in self._known else network_of(self._proxies.client_of(scope))
        slot = Slot(self, credential)
        async with slot.held:
            await slot.held.enter_async_context(self._limiter.slot(key, wait=WAIT_SECONDS))
            scope[_SLOT] = slot
            yield slot

    def remember(self, credential: bytes | None) -> None:
        """Give a credential slots of its own from now on."""
        if credential is not None:
            self._known[credential] = None
            self._known.move_to_end(credential)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def forget(self, credential: bytes | None) -> None:
        """Treat requests with this credential as a stranger's again."""
        if credential is not None:
            self._known.pop(credential, None)


async def recognize(scope: Scope) -> None:
    """Note that a request's credential is valid, so that it is no stranger's from here on."""
    if (slot := scope.get(_SLOT)) is not None:
        await slot.recognize()


def _credential_of(scope: Scope) -> bytes | None:
    """Return the hash of a request's one Authorization header; the secret itself is not kept."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    return hashlib.sha256(given[0]).digest() if len(given) == 1 else None
