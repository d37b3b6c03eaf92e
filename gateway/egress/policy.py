"""Where functions may connect to: the one decision, made on the address that is then connected to.

Called by ``proxy`` with each address that a name was resolved to. Ranges are those of IANA's registries of special
purpose addresses (RFC 6890) and what clouds answer metadata on. Of IPv6 only global unicast (2000::/3) is let through,
so forms that embed an IPv4 address (mapped, compatible, NAT64) need no list of their own; 6to4 and Teredo have one.
What always holds: an address that no rule names is public; the operator's ``deny`` wins over its ``allow``, and that
over everything built in.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.egress.own import is_own_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

BUILT_IN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loopback", ("127.0.0.0/8", "::1/128")),
    # 168.63.129.16 is Azure's, 192.0.0.192 Oracle's, 100.100.100.200 Alibaba's, fd00:ec2::254 Amazon's.
    (
        "cloud-metadata",
        ("169.254.169.254/32", "168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32", "fd00:ec2::/32"),
    ),
    ("private-address", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("embedded-address", ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")),
    (
        "reserved-address",
        (
            *("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    ),
)
"""The first that fits names the rule."""
_GLOBAL = IPv6Network("2000::/3")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_RULES = tuple((rule, ipaddress.ip_network(text)) for rule, texts in BUILT_IN for text in texts)


@dataclass(frozen=True, slots=True)
class Exemption:
    """One entry of the operator's ``allow``."""

    network: Network
    port: int | None
    """None: the ports that are allowed anyway."""


class Policy:
    def __init__(
        self,
        *,
        ports: Iterable[int],
        allow: Iterable[Exemption] = (),
        deny: Iterable[Network] = (),
        is_own: "Callable[[Address], bool] | None" = None,
    ) -> None:
        self._ports = frozenset(ports)
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._is_own = is_own or is_own_address

    def refusal(self, address: Address, port: int) -> str | None:
        """The rule that forbids it, or None."""
        if any(_within(face, network) for network in self._deny for face in (address, *_embedded(address))):
            return "denied-by-operator"
        exempt = [one for one in self._allow if _within(address, one.network)]
        if any(one.port == port or (one.port is None and port in self._ports) for one in exempt):
            return None
        if (rule := _built_in(address)) is not None:
            return rule
        if self._is_own(address):
            return "own-address"
        return None if port in self._ports else "port"

    def may_use(self, port: int) -> bool:
        """Whether any address may be connected to on it: asked before a name is resolved."""
        return port in self._ports or any(one.port == port for one in self._allow)

    @property
    def ports(self) -> list[int]:
        return sorted(self._ports)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 address that it leads to where an operator allows such forms: mapped, 6to4, NAT64."""
    if isinstance(address, IPv4Address):
        return ()
    found = address.ipv4_mapped or address.sixtofour
    if found is None and any(address in network for network in _NAT64):
        found = IPv4Address(int(address) & 0xFFFF_FFFF)
    return () if found is None else (found,)


def _built_in(address: Address) -> str | None:
    for rule, network in _RULES:
        if _within(address, network):
            return rule
    if address.version == 6 and address not in _GLOBAL:
        return "reserved-address"
    return None


def exemption(text: str) -> Exemption:
    """``10.0.0.0/8``, ``10.1.2.3:8080``, ``10.0.0.0/24:8080``, ``[fd00::1]:8080``, ``fd00::/64``. Raises ValueError."""
    host, port = text, None
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError(f"{text!r}: an IPv6 network in brackets is followed by :PORT")
        port = _port(rest[1:], text)
    elif text.count(":") == 1:
        host, _, rest = text.partition(":")
        port = _port(rest, text)
    return Exemption(network(host), port)


def network(text: str) -> Network:
    """Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network: {error}; needed is one like 10.0.0.0/8 or 10.1.2.3") from None


def _port(text: str, whole: str) -> int:
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{whole!r}: {text!r} is no port, 1 to 65535 are")
    return int(text)
