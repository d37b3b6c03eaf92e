"""What the kernel says about scheduling: classes, CPU sets, and whether this machine lets anybody reserve a CPU.

Nothing of the server's own code is used: a test that asked it would believe it.
"""

import ctypes
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

CPUSET = Path("/sys/fs/cgroup/cpuset")
"""v1"""
CAP_SYS_NICE = 23
NORMAL, BATCH, IDLE, DEADLINE = 0, 3, 5, 6
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Scheduling:
    policy: int
    nice: int
    runtime_us: int
    period_us: int


def scheduling(pid: int) -> Scheduling | None:
    """Of a process's own thread; None: it is gone."""
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if _libc.syscall(_number(315, 275), pid, buffer, _ATTRIBUTES.size, 0) != 0:
        return None
    _size, policy, _flags, nice, _priority, runtime, _deadline, period = _ATTRIBUTES.unpack(buffer.raw)
    return Scheduling(policy, nice, runtime // 1000, period // 1000)


def reserve(pid: int, runtime_us: int, period_us: int) -> int:
    """sched_setattr(SCHED_DEADLINE): 0 or the errno."""
    period = period_us * 1000
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, DEADLINE, 1, 0, 0, runtime_us * 1000, period, period)
    return 0 if _libc.syscall(_number(314, 274), pid, attributes, 0) == 0 else ctypes.get_errno()


def deadline_threads() -> set[int]:
    """Every process on the machine whose own thread is under SCHED_DEADLINE."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (seen := scheduling(int(folder.name))) and seen.policy == DEADLINE:
            found.add(int(folder.name))
    return found


def cpusets() -> dict[str, str]:
    """The groups of the v1 hierarchy and what the root one has: as before is what they must be after."""
    if not CPUSET.is_dir():
        return {}
    state = {
        name: (CPUSET / name).read_text().strip()
        for name in ("cpuset.cpus", "cpuset.cpu_exclusive", "cpuset.sched_load_balance")
    }
    return state | {folder.name: "a group" for folder in CPUSET.iterdir() if folder.is_dir()}


def partitions() -> list[Path]:
    """Of any Tailcut on this machine."""
    return sorted(CPUSET.glob("tailcut-cpu*")) if CPUSET.is_dir() else []


def why_best_effort() -> str | None:
    """What this machine lacks for reservations; None: nothing, and then they must work."""
    if len(os.sched_getaffinity(0)) < 2:
        return "one CPU only"
    status = Path("/proc/self/status").read_text()
    if not int(status.partition("\nCapEff:")[2].split(maxsplit=1)[0], 16) >> CAP_SYS_NICE & 1:
        return "no CAP_SYS_NICE"
    if not os.access(CPUSET / "cpuset.sched_load_balance", os.W_OK):
        return "no v1 hierarchy of CPU sets that can be written"
    own = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":cpuset:" in line), "")
    return None if own.endswith(":/") else "not in the root CPU set"


def parent(pid: int) -> int:
    """0: it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, all its threads; 0: it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _number(x86_64: int, aarch64: int) -> int:
    return x86_64 if os.uname().machine == "x86_64" else aarch64
