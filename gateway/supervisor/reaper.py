"""Who has died: children that we started, and orphans that the kernel gave us (we are a child subreaper).

A zygote or a gateway that is killed may leave workers; they become our children, so none is ever lost: they are
reaped here, and killed when their gateway is gone.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Reaper:
    """Dispatches exits: ``watch`` a pid to hear of it once."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], None]] = {}

    def start(self) -> None:
        if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """``on_exit`` gets the wait status. The caller has just made the process, in this thread."""
        self._watched[pid] = on_exit

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            on_exit = self._watched.pop(pid, None)
            if on_exit is not None:
                on_exit(status)

    def orphans(self) -> list[int]:
        """Children of ours that we did not start."""
        mine = os.getpid()
        return [pid for pid, parent in _parents() if parent == mine and pid not in self._watched]

    def kill_orphans(self) -> int:
        """Ends them; returns how many there were."""
        found = self.orphans()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


def die_with_parent(parent: int) -> Callable[[], None]:
    """For subprocess's preexec_fn: the child is killed when ``parent`` ends, however it ends."""
    prctl = _libc.prctl
    getppid = os.getppid

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if getppid() != parent:
            os._exit(1)

    return prepare


def _parents() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                found.append((int(folder.name), int(after_name[1])))
    return found
