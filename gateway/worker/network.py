"""What a worker of a version with a network needs besides: asyncio without sendmsg, no connection left by the import.

Called by ``main``. The jail refuses sendmsg (zigcore/src/jail/policy.zig says why).
"""

import os
import resource
import socket
import stat
from asyncio import selector_events


def prepare() -> None:
    """asyncio asks once, when it is imported, whether it may gather writes by sendmsg; with send it does as well."""
    selector_events._HAS_SENDMSG = False  # type: ignore[attr-defined]


def sever() -> None:
    """Ends the connections that the import has made, before the first invocation: each one would find them as another
    left them. Their descriptors stay; whoever uses one finds its end and opens another."""
    for fd in range(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            found = socket.socket(fileno=fd)
        except OSError:
            continue
        try:
            if found.family == socket.AF_INET:
                found.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected
        finally:
            found.detach()
