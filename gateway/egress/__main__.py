"""``python -m gateway.egress``: serves on the inherited socket ``TAILCUT_EGRESS_LISTENER_FD`` until SIGTERM.

Called by the supervisor, which owns that socket: when the egress dies, zygotes find the next one behind it and hand
their workers' sockets over once more. Nothing is kept on disk; what runs when it dies, breaks off.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys

from pydantic import ValidationError

from gateway.egress import privileges
from gateway.egress.log import Log
from gateway.egress.own import is_own_address, own_addresses
from gateway.egress.policy import Address, Policy
from gateway.egress.proxy import Proxy
from gateway.egress.resolver import Resolver
from gateway.egress.server import Server
from gateway.egress.settings import EgressSettings

_OWN_HOSTS_PAUSE_S = 60.0
_OWN_HOSTS_FIRST_S = 5.0
_TOTALS_PAUSE_S = 60.0
_DESCRIPTORS_BESIDES = 512


def main() -> int:
    try:
        settings = EgressSettings()
    except ValidationError as error:
        sys.stderr.write(f"egress: {error}\n")
        return 2
    # While the standard library can surely be read: its file is looked up at the first use.
    "preload".encode("idna")
    kept = privileges.drop(settings.host_uid)
    log = Log()
    if kept is not None:
        log.say("egress is root", reason=kept)
    # Two descriptors for each connection, one of them the worker's.
    room = (privileges.descriptors() - _DESCRIPTORS_BESIDES) // 3
    if room < settings.connections_max:
        log.say("descriptors are short", connections_max=max(1, room), wanted=settings.connections_max)
        settings = settings.model_copy(update={"connections_max": max(1, room)})
    asyncio.run(_run(settings, log))
    # Threads that wait for a name server would be waited for.
    os._exit(0)


async def _run(settings: EgressSettings, log: Log) -> None:
    own: frozenset[str] = frozenset()
    looked_up = asyncio.Event()

    def is_own(address: Address) -> bool:
        return str(address) in own or is_own_address(address)

    def note(found: frozenset[str]) -> None:
        nonlocal own
        own = found
        looked_up.set()

    policy = Policy(ports=settings.ports, allow=settings.exemptions(), deny=settings.denied(), is_own=is_own)
    proxy = Proxy(settings, policy, Resolver(), settings.problem_base_url)
    server = Server(socket.socket(fileno=settings.listener_fd), settings, proxy, log)
    known = asyncio.create_task(own_addresses(settings.own_hosts, note, _OWN_HOSTS_PAUSE_S))
    with contextlib.suppress(TimeoutError):
        # A name server that does not answer must not keep functions waiting for ever.
        await asyncio.wait_for(looked_up.wait(), _OWN_HOSTS_FIRST_S if settings.own_hosts else 0)
    server.start()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    tasks = [known, asyncio.create_task(_totals(server, log))]
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, b"ready\n")
        os.close(settings.ready_fd)
    await ended.wait()
    for task in tasks:
        task.cancel()


async def _totals(server: Server, log: Log) -> None:
    """What each tenant has used, when that has changed."""
    said: dict[str, tuple[int, int]] = {}
    while True:
        await asyncio.sleep(_TOTALS_PAUSE_S)
        for tenant in server.tenants():
            bytes_ = (tenant.bytes_sent_total, tenant.bytes_received_total)
            if said.get(tenant.name, (0, 0)) != bytes_:
                said[tenant.name] = bytes_
                log.say("egress used", **tenant.document())


if __name__ == "__main__":
    sys.exit(main())
