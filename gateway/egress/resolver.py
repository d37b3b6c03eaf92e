"""Names to addresses, by the machine's own resolver in threads; numeric addresses need none.

Called by ``proxy``. What always holds: a tenant holds at most ``names_at_once_max`` threads, also after it has given up
waiting; what is returned is judged and connected to as it is: no name is resolved twice for one connection.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor

from gateway.egress.policy import Address
from gateway.egress.refusal import Refused

_THREADS = 64
_ADDRESSES_MAX = 8


class Resolver:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolver")

    async def addresses(self, host: str, slots: asyncio.Semaphore) -> list[Address]:
        """Raises Refused."""
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        await slots.acquire()
        looked_up = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
        looked_up.add_done_callback(lambda _done: slots.release())
        # Who waits may be cancelled; the thread goes on, and so its slot stays taken.
        found = await asyncio.shield(looked_up)
        if not found:
            raise Refused("name-not-found")
        return found


def _look_up(host: str) -> list[Address]:
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    texts = dict.fromkeys(str(row[4][0]) for row in rows)
    return [ipaddress.ip_address(text) for text in list(texts)[:_ADDRESSES_MAX]]
