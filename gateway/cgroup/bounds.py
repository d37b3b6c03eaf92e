"""What a group bounds, and what has to be written where for it: the difference between v1 and v2 is this file.

Called by ``group``. What always holds: amounts are bytes and counts; None writes nothing, and the kernel's own default
(no bound) stays.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Write(NamedTuple):
    controller: str
    file: str
    text: str
    required: bool = True
    """Not required: a kernel built without it loses a refinement, not the bound."""


@dataclass(frozen=True, slots=True)
class Bounds:
    memory_bytes: int | None = None
    """All that is charged to the group: anonymous and shared memory, tmpfs, page tables, sockets, kernel stacks."""
    pids_max: int | None = None
    """Processes and threads together."""
    cpu_quota_us: int | None = None
    """CPU time of all threads that are not under a reservation, within each ``cpu_period_us``."""
    cpu_period_us: int = 100_000


class MemoryFiles(NamedTuple):
    limit: str
    peak: str
    events: str
    """Has a line ``oom_kill N``."""
    usage: str


MEMORY_FILES = {
    1: MemoryFiles("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "memory.usage_in_bytes"),
    2: MemoryFiles("memory.max", "memory.peak", "memory.events", "memory.current"),
}


def writes(bounds: Bounds, version: int) -> list[Write]:
    """In the order in which they must be made."""
    found: list[Write] = []
    if bounds.memory_bytes is not None:
        found.append(Write("memory", MEMORY_FILES[version].limit, str(bounds.memory_bytes)))
        if version == 1:
            # What is swapped out would be outside the bound, and every invocation after it slow.
            found.append(Write("memory", "memory.swappiness", "0", required=False))
        else:
            found.append(Write("memory", "memory.swap.max", "0", required=False))
            # One process of a worker over the bound ends all of them, not some.
            found.append(Write("memory", "memory.oom.group", "1", required=False))
    if bounds.pids_max is not None:
        found.append(Write("pids", "pids.max", str(bounds.pids_max)))
    if bounds.cpu_quota_us is not None:
        if version == 1:
            found.append(Write("cpu", "cpu.cfs_period_us", str(bounds.cpu_period_us)))
            found.append(Write("cpu", "cpu.cfs_quota_us", str(bounds.cpu_quota_us)))
        else:
            found.append(Write("cpu", "cpu.max", f"{bounds.cpu_quota_us} {bounds.cpu_period_us}"))
    return found


def oom_kills(events: str) -> int:
    """How often the kernel ended a process of the group for its bound: of the events file's content."""
    for line in events.splitlines():
        name, _space, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdecimal():
            return int(count)
    return 0
