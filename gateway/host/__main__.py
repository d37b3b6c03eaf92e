"""``python -m gateway.host``: one gateway process, started by the supervisor with its sockets inherited."""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys

import structlog
from pydantic import ValidationError

from gateway.core.binding import CoreError
from gateway.host import logs
from gateway.host.admin import AdminServer
from gateway.host.node import Node
from gateway.host.telemetry import Telemetry
from gateway.settings import HostSettings

_PR_SET_PDEATHSIG = 1
EXIT_CANNOT_START = 78
"""EX_CONFIG of sysexits.h: trying again would change nothing."""


def main() -> int:
    try:
        settings = HostSettings()  # the environment gives what has no default
        logs.configure(settings.log_level, process="gateway", pid=os.getpid())
    except (ValidationError, ValueError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    log = structlog.get_logger("main")
    if settings.supervisor_pid is not None and not _die_with(settings.supervisor_pid):
        log.error("the supervisor has gone before this process was up", supervisor_pid=settings.supervisor_pid)
        return 1
    try:
        node = Node(settings)
    except (CoreError, OSError, ValueError) as error:
        log.critical("the gateway cannot start", error=str(error))
        return EXIT_CANNOT_START
    # What was imported stays: without this every collection would walk it again.
    gc.collect()
    gc.freeze()
    return asyncio.run(_serve(node))


async def _serve(node: Node) -> int:
    telemetry = Telemetry(node)
    admin = AdminServer(telemetry.pages())
    if node.settings.admin_fd is not None:
        await admin.start(socket.socket(fileno=node.settings.admin_fd))
    node.on_drain = admin.stop
    try:
        return await node.run()
    finally:
        admin.stop()


def _die_with(supervisor_pid: int) -> bool:
    """Asks the kernel for SIGKILL when the supervisor ends; False if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == supervisor_pid


if __name__ == "__main__":
    sys.exit(main())
