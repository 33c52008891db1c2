"""Where a request comes from, seen past the proxies in front of the service."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope


class Proxies:
    """The proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """Take their addresses and networks; a malformed one is a ValueError."""
        self._networks = [ipaddress.ip_network(item, strict=False) for item in trusted]

    def trust(self, address: str) -> bool:
        """Whether this is the address of one of them."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        # A socket for both families shows IPv4 addresses as mapped ones.
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed.version == network.version and parsed in network for network in self._networks)

    def client_of(self, scope: Scope) -> str:
        """Return the address a request came from: the last one in X-Forwarded-For that is not a trusted proxy's."""
        address: str = scope["client"][0] if scope.get("client") else "unknown"
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop.strip() for value in given for hop in value.split(",")]
        while hops and self.trust(address):
            address = _without_port(hops.pop())
        return address


def _without_port(hop: str) -> str:
    """Return the address of a hop: some proxies write the port behind it, and IPv6 in brackets."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
