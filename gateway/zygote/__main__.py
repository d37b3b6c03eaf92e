"""``python -m gateway.zygote --fd N``: serves on the listening AF_UNIX SOCK_SEQPACKET socket that it inherits as N.

Called by the supervisor, which owns the socket: a zygote that is killed and started again leaves requests queued.
Ends with 0 on SIGTERM or SIGINT; workers that run go on.
"""

import argparse
import socket
import sys

from gateway.zygote.server import Server
from gateway.zygote.settings import FD_VARIABLE, listener_fd
from gateway.zygote.warm import WarmError, warm


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway.zygote", description=__doc__)
    parser.add_argument("--fd", type=int, default=listener_fd(), help="the inherited listening socket")
    fd = parser.parse_args().fd
    if fd is None:
        parser.error(f"no listening socket: give --fd or {FD_VARIABLE}")
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        parser.error(f"descriptor {fd} is not a socket: {error}")
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        parser.error(
            f"descriptor {fd} is {listener.family.name} {listener.type.name}, needed is AF_UNIX SOCK_SEQPACKET"
        )
    listener.set_inheritable(False)
    try:
        warm()
    except WarmError as error:
        sys.stderr.write(f"zygote: {error}\n")
        return 1
    Server(listener).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
