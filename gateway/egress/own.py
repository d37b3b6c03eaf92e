"""What is ours: the machine's own addresses, and where our services are on other machines. Functions reach neither.

Called by ``policy`` for each address and by ``__main__`` for the hosts of ``TAILCUT_EGRESS_OWN_HOSTS``. What always
holds: no packet is sent to find out about an address; a name server that fails takes nothing off the list.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

_HEADER, _ROUTE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI"), struct.Struct("=HH")
_NEW_ROUTE, _GET_ROUTE, _REQUEST, _DESTINATION = 24, 26, 1, 1
_OWN_KINDS = frozenset((2, 3, 4))
"""RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST."""
_ANSWER_BYTES_MAX = 8192
_AGAIN_S = 5.0


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether the kernel would deliver to this machine: its routes say so.

    The address that a socket would send from does not: to the second address of a network it is the first one.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    packed = address.packed
    about = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + _ATTRIBUTE.pack(4 + len(packed), _DESTINATION)
    question = _HEADER.pack(_HEADER.size + len(about) + len(packed), _GET_ROUTE, _REQUEST, 1, 0) + about + packed
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.send(question)
            answer = kernel.recv(_ANSWER_BYTES_MAX)
    except OSError:
        return _is_sent_from(address, family)  # a container that allows no netlink
    if _HEADER.unpack_from(answer)[1] != _NEW_ROUTE:
        return False  # nothing leads there, a connection neither
    return _ROUTE.unpack_from(answer, _HEADER.size)[7] in _OWN_KINDS


def _is_sent_from(address: IPv4Address | IPv6Address, family: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return bool(ipaddress.ip_address(probe.getsockname()[0]) == address)
    except OSError:
        return False


async def own_addresses(hosts: tuple[str, ...], set_: Callable[[frozenset[str]], None], pause_s: float) -> None:
    """Looks up where our own services are, again and again. Who cannot be looked up is where it was."""
    loop = asyncio.get_running_loop()
    known: dict[str, set[str]] = {}
    while hosts:
        failed = False
        for host in hosts:
            try:
                rows = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                known[host] = {str(row[4][0]) for row in rows}
            except OSError:
                failed = True
        set_(frozenset[str]().union(*known.values()))
        await asyncio.sleep(min(pause_s, _AGAIN_S) if failed else pause_s)
