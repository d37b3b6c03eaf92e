"""How many instructions of a worker one call takes, and in which libraries: counted one by one.

By hand, as root: ``python -m tests.bench.instructions [CALLS]``. Starts a zygote of its own and single-steps (ptrace)
an unjailed worker through calls, the way back to its checkpoint included. A virtual machine need not have counters of
instructions, and these counts do not depend on what else runs. What the kernel executes is not counted, its system
calls are. The reactor cannot be measured like this: it goes on ticking while it is stepped. Prints the median call;
asserts nothing.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path

from tests.bench.host import PeerError
from tests.support import frames

CALLS_DEFAULT = 15
WARM_UP = 300
SYSTEM_CALLS = "system calls"
HELLO = 'def handler(name: str) -> dict[str, str]:\n    return {"greeting": f"Hello, {name}!"}\n'
_PEEKTEXT, _PEEKUSER, _SINGLESTEP, _DETACH, _SEIZE, _INTERRUPT = 1, 3, 9, 17, 0x4206, 0x4207
_RIP_OFFSET = 16 * 8
"""In x86-64's struct user"""
_SYSCALL = 0x050F
_WALL = 0x40000000
_QUIET_S = 0.25
"""The call is answered, and the thread has not moved for so long: it waits for the next one."""
_WITHIN_S = 30.0

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
_ptrace.restype = ctypes.c_long


class Stepped:
    """A thread that is single-stepped. ptrace(2) obeys one thread: use it where it was made."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._starts, self._names = _mappings(tid)
        self._request(_SEIZE)

    def through(self, worker: frames.Worker) -> Counter[str]:
        """One call: instructions by library, and the system calls among them."""
        counted: Counter[str] = Counter()
        self._interrupt()
        self._request(_SINGLESTEP)
        caller = threading.Thread(target=worker.call, kwargs={"name": "bench"})
        caller.start()
        while self._stops(caller):
            address = self._request(_PEEKUSER, _RIP_OFFSET)
            counted[self._names[bisect_right(self._starts, address) - 1]] += 1
            counted[SYSTEM_CALLS] += self._request(_PEEKTEXT, address) & 0xFFFF == _SYSCALL
            self._request(_SINGLESTEP)
        caller.join()
        return counted

    def leave(self) -> None:
        """It runs on; or has been killed, and then nobody else may reap it before us."""
        try:
            self._interrupt()
            self._request(_DETACH)
        except PeerError:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.tid, _WALL)

    def _interrupt(self) -> None:
        self._request(_INTERRUPT)
        os.waitpid(self.tid, _WALL)

    def _stops(self, caller: threading.Thread) -> bool:
        """False: it waits, and the call is answered."""
        deadline = time.monotonic() + _WITHIN_S
        quiet_since = time.monotonic()
        while (now := time.monotonic()) < deadline:
            if os.waitpid(self.tid, os.WNOHANG | _WALL)[0]:
                return True
            if caller.is_alive():
                quiet_since = now
                time.sleep(0)
            elif now - quiet_since > _QUIET_S:
                return False
        raise PeerError(f"the thread {self.tid} does not move, and the call is not answered")

    def _request(self, request: int, address: int = 0) -> int:
        ctypes.set_errno(0)
        result: int = _ptrace(request, self.tid, address, None)
        if result == -1 and (number := ctypes.get_errno()):
            raise PeerError(f"ptrace request {request:#x} of {self.tid}: {os.strerror(number)}; this needs root")
        return result


def _mappings(tid: int) -> tuple[list[int], list[str]]:
    """Where mappings begin, in order, and what lies there; holes have their own entries."""
    starts, names = [0], ["?"]
    for line in Path(f"/proc/{tid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in words[0].split("-"))
        starts += start, end
        names += Path(words[5]).name.partition(".")[0] if len(words) == 6 else "anonymous", "?"
    return starts, names


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS_DEFAULT
    # A step is two switches between us and the worker: 4 µs on one CPU, 100 between two.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="tailcut-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        code = folder / "code"
        code.mkdir()
        (code / "main.py").write_text(HELLO)
        with frames.Zygote(folder, environment={"TAILCUT_JAIL": "off"}) as zygote:
            for state in ("warm", "fresh"):
                show(state, counted(zygote, code, state, calls))


def counted(zygote: frames.Zygote, code: Path, state: str, calls: int) -> list[Counter[str]]:
    connection = zygote.connect()
    try:
        worker = connection.spawn(code, "main:handler", state=state)
        worker.first_word()
        for _ in range(WARM_UP):
            worker.call(name="bench")
        stepped = Stepped(worker.pid)
        try:
            return [stepped.through(worker) for _ in range(calls)]
        finally:
            stepped.leave()
            worker.close()
    finally:
        connection.close()


def show(title: str, calls: list[Counter[str]]) -> None:
    totals = sorted((each.total() - each[SYSTEM_CALLS], index) for index, each in enumerate(calls))
    median, index = totals[len(totals) // 2]
    by_library = ", ".join(f"{name} {count:,}" for name, count in calls[index].most_common() if name != SYSTEM_CALLS)
    print(f"{title:<6} {median:7,} instructions ({totals[0][0]:,}–{totals[-1][0]:,}), ", end="")
    print(f"{calls[index][SYSTEM_CALLS]} system calls: {by_library}", flush=True)


if __name__ == "__main__":
    main()
