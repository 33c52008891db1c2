"""Find the client address of a request that came through proxies."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope


class Proxies:
    """The proxies whose X-Forwarded-For header is trusted."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """Trust these addresses and networks; raise ValueError if one of them is malformed."""
        self._networks = [ipaddress.ip_network(item, strict=False) for item in trusted]

    def trust(self, address: str) -> bool:
        """Return whether this is the address of a trusted proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        # A dual-stack socket shows an IPv4 address as an IPv4-mapped IPv6 address.
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed.version == network.version and parsed in network for network in self._networks)

    def client_of(self, scope: Scope) -> str:
        """Return the client's address: the last address in X-Forwarded-For that does not belong to a trusted proxy."""
        address: str = scope["client"][0] if scope.get("client") else "unknown"
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop.strip() for value in given for hop in value.split(",")]
        while hops and self.trust(address):
            address = _without_port(hops.pop())
        return address


def _without_port(hop: str) -> str:
    """Return the address in one entry of the header, without the port and the IPv6 brackets that some proxies add."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
