"""Which processes are workers, and how much memory they have: for telemetry only, never to signal them.

The data plane says when a worker is ready, not when an idle one has ended: those are noticed when somebody asks.
A pid is remembered with the moment its process started, so that another process with the same pid is not counted.
"""

import contextlib
from pathlib import Path


class Workers:
    """The workers that this gateway has started."""

    def __init__(self) -> None:
        self._started: dict[int, bytes] = {}

    def add(self, pid: int) -> None:
        started = _start_time(pid)
        if started is not None:
            self._started[pid] = started

    def memory_bytes(self) -> int:
        """Of all that live: pages that several share count in equal parts, so that the sum makes sense."""
        known = dict(self._started)  # a copy: the heartbeat asks from a thread of its own
        ended = {pid for pid, started in known.items() if _start_time(pid) != started}
        for pid in ended:
            if self._started.get(pid) == known[pid]:
                del self._started[pid]
        return sum(_proportional_bytes(pid) for pid in known.keys() - ended)


def _start_time(pid: int) -> bytes | None:
    """Field 22 of /proc/<pid>/stat, proc_pid_stat(5); None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[19] if fields[0] not in (b"Z", b"X") else None


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
