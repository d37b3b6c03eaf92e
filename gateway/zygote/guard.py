"""A process that outlives its server: when that is killed whole, somebody must give the reserved CPUs back.

``Reserved`` starts one, a fork of the zygote, before the first partition is made. It sleeps until the zygote has ended.
If the supervisor lives, the next zygote takes over and the guard ends; if not, it ends the workers that are left (one
that computes hears nothing of its server's death), removes their groups and dissolves the partitions. What always
holds: it runs no code of tenants and holds no descriptor of the zygote's.
"""

import os
import select
import signal
import time
from dataclasses import dataclass
from typing import NoReturn

from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import sweep_dead
from gateway.cgroup.partition import sweep_dead_partitions

_SUPERVISOR_END_S = 3.0
"""The kernel kills the zygote when the supervisor dies, and a reload of the zygote takes less than this."""
_SWEEPS_MAX = 50
_SWEEP_PAUSE_S = 0.1
_DESCRIPTORS_CEILING = 2**20


@dataclass(slots=True)
class Guard:
    pid: int = 0

    def ensure(self, owner: str) -> None:
        """``owner``: ``instance_name`` of the supervisor, whose pid is in it. Raises OSError."""
        if self.pid > 0 and os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            return
        zygote = os.getpid()
        supervisor = int(owner.split("-")[2])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _guard(zygote, supervisor)
            finally:
                os._exit(1)


def _guard(zygote: int, supervisor: int) -> NoReturn:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if number != signal.SIGTERM else signal.SIG_DFL)
    os.setpgid(0, 0)
    os.closerange(3, _DESCRIPTORS_CEILING)
    _wait(zygote, None)
    if zygote == supervisor or _wait(supervisor, _SUPERVISOR_END_S):
        for _ in range(_SWEEPS_MAX):
            hierarchies = discover()
            if not sweep_dead_partitions(hierarchies) and not sweep_dead(hierarchies):
                break
            time.sleep(_SWEEP_PAUSE_S)
    os._exit(0)


def _wait(pid: int, timeout_s: float | None) -> bool:
    """Whether it has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
    finally:
        os.close(fd)
