"""Where a webhook may go: a URL of a tenant is hostile input that makes *us* open connections.

``check_url`` when it is set (its form, its literal address), ``resolve`` each time before a connection: every address
of the name must be a public one, and the connection goes to an address that was just checked, not to the name again. So
neither a name that points inwards, nor one that changes between the look and the connection (DNS rebinding), nor a
redirect (they are not followed) reaches what only this machine can reach. ``private_allowed`` is an operator's setting
for development.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

URL_CHARACTERS_MAX: Final = 2000
_PORTS: Final = {"https": 443, "http": 80}
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
RESOLVE_TIMEOUT_S: Final = 5.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]


class ForbiddenDestinationError(ValueError):
    """Says what is wrong with it, and what would be right."""


@dataclass(frozen=True, slots=True)
class Destination:
    scheme: str
    host: str
    """As the URL names it, for the Host header and the certificate"""
    port: int
    target: str
    """Path and query"""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, *, private_allowed: bool) -> Destination:
    """Raises ForbiddenDestinationError."""
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenDestinationError(f"A webhook's URL has at most {URL_CHARACTERS_MAX} printable ASCII characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenDestinationError(f"This is not a URL: {error}.") from None
    if parts.scheme != "https" and not (private_allowed and parts.scheme == "http"):
        raise ForbiddenDestinationError(f"The URL begins with {parts.scheme or 'nothing'!r}; it must be https://….")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenDestinationError("The URL must have a host, and neither a user, a password nor a fragment.")
    if port == 0 or (port is not None and port < 1024 and port not in _PORTS.values()):
        raise ForbiddenDestinationError(f"Port {port} is not used; allowed are 443, 80 and those from 1024.")
    host = parts.hostname.rstrip(".")
    try:
        literal: Address | None = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if literal is not None and not private_allowed and not is_public(literal):
        raise ForbiddenDestinationError(f"{host} is not a public address; a webhook must be on the public internet.")
    if literal is None and not private_allowed and "." not in host:
        raise ForbiddenDestinationError(f"{host!r} is a name of this network; a webhook needs a public name.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(parts.scheme, host, port or _PORTS[parts.scheme], target)


async def resolve(destination: Destination, *, private_allowed: bool, resolver: Resolver | None = None) -> str:
    """→ the checked address to connect to. Raises ForbiddenDestinationError, or OSError: the name is not known."""
    async with asyncio.timeout(RESOLVE_TIMEOUT_S):
        found = await (resolver or look_up)(destination.host, destination.port)
    if not found:
        raise OSError(f"{destination.host} has no address")
    for text in found:
        if not private_allowed and not is_public(ipaddress.ip_address(text)):
            raise ForbiddenDestinationError(f"{destination.host} points to {text}, which is not a public address.")
    return found[0]


async def look_up(host: str, port: int) -> list[str]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]).partition("%")[0] for info in infos]


def is_public(address: Address) -> bool:
    """Also of what is wrapped: IPv4 in IPv6 (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if not all(is_public(each) for each in inner if each is not None):
            return False
        if address.is_site_local or (int(address) >> 32 == 0 and address.ipv4_mapped is None):
            return False  # ::a.b.c.d, long deprecated, is routed nowhere good
        if address.ipv4_mapped is not None or address in _NAT64:
            return True  # the address inside was public
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
    )
