"""What the zygote hears from a worker's tripwire (zigcore/src/jail/tripwire.zig): the number of its forbidden call.

Called by ``server``. The kernel fills in the number (seccomp_unotify(2)): no worker can forge it. What always holds:
the call is never answered and so never made.
"""

import fcntl
import select
import signal
import struct

_RECEIVE = 0xC050_2100
"""SECCOMP_IOCTL_NOTIF_RECV"""
_NOTIFICATION = struct.Struct("<QIIiIQ6Q")
"""id, pid, flags; then number, architecture, instruction pointer and arguments of the call."""
_CALL_SHIFT = 16
"""Above the 16 bits of a wait status stands the call's number, plus one (zigcore/src/pool/worker.zig)."""


def forbidden_call(fd: int) -> int | None:
    """None: nobody has made one, or whoever did was gone before we looked."""
    # What poll said before may have been about another worker, whose number this descriptor has taken since; and
    # without a call to hear of, the next line would wait for one.
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not any(events & select.POLLIN for _fd, events in poll.poll(0)):
        return None
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(fd, _RECEIVE, buffer)
    except OSError:
        return None
    return int(_NOTIFICATION.unpack(buffer)[3])


def wait_status(call: int) -> int:
    """As waitpid(2) would say it of who is killed by the filter itself, and the call."""
    return signal.SIGSYS | (call + 1) << _CALL_SHIFT
