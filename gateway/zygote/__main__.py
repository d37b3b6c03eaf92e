"""``python -m gateway.zygote --fd N``: serves on the listening AF_UNIX SOCK_SEQPACKET socket that it inherits as N.

Called by the supervisor, which owns the socket: a zygote that is killed and started again leaves requests queued.
Ends with 0 on SIGTERM or SIGINT; workers that run go on.
"""

import argparse
import os
import socket
import sys

from gateway.core.jail import JailError
from gateway.zygote import child
from gateway.zygote.egress import Egress
from gateway.zygote.groups import Groups
from gateway.zygote.jail import Jail
from gateway.zygote.reserved import Reserved
from gateway.zygote.server import Server, go_first
from gateway.zygote.settings import (
    FD_VARIABLE,
    SettingsError,
    egress_path,
    jail_settings,
    listener_fd,
    owner,
    ready_fd,
    reserved_cpus,
)
from gateway.zygote.spawner import Spawner, partial_spawner, probe
from gateway.zygote.template import TemplateError
from gateway.zygote.warm import WarmError, settle, warm


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
    try:
        spawner = jailed_spawner()
        groups = Groups.of(spawner.jail.settings)
    except (SettingsError, JailError) as error:
        sys.stderr.write(f"zygote: {error}\n")
        return 1
    ready = ready_fd()
    reserved = Reserved.of(reserved_cpus(), owner())
    egress = Egress(egress_path())
    child.prepare()
    go_first()
    settle(spawner)
    if ready is not None:
        os.write(ready, b"ready\n")
        os.close(ready)
    try:
        Server(listener, spawner, groups, reserved, egress).serve()
    except TemplateError as error:
        sys.stderr.write(f"zygote: {error}\n")
        return 1
    finally:
        groups.close()
        reserved.close()
    return 0


def jailed_spawner() -> Spawner:
    """Tries the jail before anybody relies on it. Raises JailError when it cannot be had as it was asked for."""
    settings = jail_settings()
    jail = Jail.of(settings)
    if settings.mode == "off":
        sys.stderr.write("zygote: TAILCUT_JAIL=off: WORKERS ARE NOT JAILED; run only code that you trust\n")
        return Spawner(jail)
    if settings.mode == "on":
        spawner = Spawner(jail)
        if (refusal := probe(spawner)) is not None:
            raise JailError(
                f"the jail cannot be closed on this machine ({refusal}): no worker will run. `tailcut-server doctor` "
                "tells what is missing; TAILCUT_JAIL=partial accepts what can be had, for code that you trust"
            )
        return spawner
    spawner, missing = partial_spawner(jail)
    for part, refusal in missing.items():
        sys.stderr.write(f"zygote: TAILCUT_JAIL=partial: WORKERS ARE NOT FULLY JAILED, no {part.name}: {refusal}\n")
    return spawner


if __name__ == "__main__":
    sys.exit(main())
