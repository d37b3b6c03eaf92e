"""Network namespaces of workers that have ended, for those that come: making one costs a start 0.3 ms.

Called by ``server``. Only as root, and only of workers that had no network and whose filter was whole: no call that
they may make reaches into such a namespace (no socket but a pair, no /proc, no /sys), so it is as empty as on its first
day: one interface, which is down. What always holds: a namespace is in here or a worker's, never both; one that worked
for a version with a network ends with its worker; ours is never in here.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.contract.worker import SpawnSpec
from gateway.core.jail import EVERYTHING, JailError
from gateway.zygote.jail import Jail

_OWN = Path("/proc/self/ns/net")
KEPT_MAX = 64
"""Each is some 200 KiB of the kernel's memory, as it was while its worker lived."""


@dataclass(slots=True)
class Networks:
    own: int | None
    """Inode of ours, in which no worker may be. None: no namespace is used twice."""
    _free: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, jail: Jail) -> "Networks":
        whole = jail.privileged and jail.parts == EVERYTHING
        return cls(_OWN.stat().st_ino if whole else None)

    def take(self, spec: SpawnSpec) -> int | None:
        """None: the worker makes its own."""
        return self._free.pop() if self._free and not spec.network else None

    def of_worker(self, pid: int, spec: SpawnSpec) -> int | None:
        """Of one that has said that it is in its own, and is not reaped; None: it is not to be used again."""
        if self.own is None or spec.network:
            return None
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(fd).st_ino == self.own:
            os.close(fd)
            return None
        return fd

    def give(self, fd: int | None) -> None:
        """Its worker has ended, and with it all of its processes."""
        if fd is None:
            return
        if len(self._free) < KEPT_MAX:
            self._free.append(fd)
        else:
            os.close(fd)

    def close(self) -> None:
        while self._free:
            os.close(self._free.pop())


def entering(fd: int | None, enter_jail: Callable[[], None]) -> Callable[[], None]:
    """In the fork: first into that namespace. Raises JailError."""
    if fd is None:
        return enter_jail

    def enter() -> None:
        try:
            os.setns(fd, os.CLONE_NEWNET)
        except OSError as error:
            raise JailError(f"network: setns: {error.strerror}") from error
        enter_jail()

    return enter
