"""What this machine offers beyond the jail: kernel features, rights, control groups and limits that the design uses.

Called by the doctor. Each is tried where a trial costs and changes nothing (in a forked process where it could), else
read. What always holds: a feature that is missing says what that costs and how to get it.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.cgroup.hierarchy import CONTROLLERS, Hierarchy, discover

_SYS_SECCOMP, _SYS_IO_URING_SETUP, _SYS_PIDFD_OPEN, _SYS_LANDLOCK_CREATE = 317, 425, 434, 444
_SYS_SCHED_SETATTR = 314
if os.uname().machine == "aarch64":
    _SYS_SECCOMP, _SYS_SCHED_SETATTR = 277, 274
_SECCOMP_GET_NOTIF_SIZES = 3
_LANDLOCK_VERSION = 1
_LANDLOCK_COMPLETE = 6
_PAGEMAP_SCAN = 0xC060_6610
_SCHED_DEADLINE = 6
_DEADLINE = struct.Struct("<IIQiIQQQ")
_DESCRIPTORS_WANTED = 65_536
_CAPABILITIES = {
    "CAP_SYS_ADMIN": (21, "workers run as the server's own user, in namespaces of their own", "run as root"),
    "CAP_SYS_RESOURCE": (
        24,
        "hard limits of a running worker only go down: soft ones move for each invocation, below what its start set",
        "give the server's root CAP_SYS_RESOURCE; nothing depends on it",
    ),
    "CAP_SYS_NICE": (23, "no CPU reservations, no affinity of other processes", "run as root with CAP_SYS_NICE"),
}
_CONTROLLERS = {
    "memory": "memory of a worker is bounded by rlimits only: shared and kernel memory are not",
    "pids": "threads and processes are bounded by RLIMIT_NPROC only",
    "cpu": "no weights between tenants, and no cap on a reserved worker's threads",
    "cpuacct": "CPU time of processes of a function that ended and were not waited for is not counted",
    "cpuset": "no CPU reservations: a reserved CPU is an exclusive set",
    "freezer": "idle workers are trusted to sleep",
}


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    active: bool
    detail: str = ""
    """A version or a number; of a missing one, what the kernel answered."""
    costs: str = ""
    remedy: str = ""


def features(*, may_fork: bool = True) -> Iterator[Feature]:
    """``may_fork``: what only a process that ends at once may try is tried, too."""
    yield _io_uring()
    yield _call(
        "pidfd_open",
        _SYS_PIDFD_OPEN,
        os.getpid(),
        0,
        costs="no server: workers cannot be ended safely",
        remedy="Linux 5.3",
    )
    yield _landlock()
    yield _notifications()
    yield _pagemap_scan()
    yield from _rights()
    yield from _groups()
    if may_fork:
        yield _deadline()
    yield from _limits()


_libc = ctypes.CDLL(None, use_errno=True)


def _name(number: int) -> str:
    return errno.errorcode.get(number, f"errno {number}")


def _call(name: str, number: int, *arguments: int, costs: str, remedy: str) -> Feature:
    """Of calls that return a descriptor."""
    result = _libc.syscall(number, *(ctypes.c_ulong(one) for one in arguments))
    if result < 0:
        return Feature(name, False, _name(ctypes.get_errno()), costs, remedy)
    os.close(result)
    return Feature(name, True)


def _io_uring() -> Feature:
    parameters = ctypes.create_string_buffer(120)
    return _call(
        "io_uring",
        _SYS_IO_URING_SETUP,
        4,
        ctypes.addressof(parameters),
        costs="no server: its loops are rings",
        remedy="Linux 5.19, sysctl kernel.io_uring_disabled=0; in a container, a seccomp profile that allows it",
    )


def _landlock() -> Feature:
    version = int(_libc.syscall(_SYS_LANDLOCK_CREATE, 0, 0, _LANDLOCK_VERSION))
    remedy = "landlock among the kernel's lsm=, Linux 6.12 for all of it"
    if version < 0:
        return Feature("landlock version", False, _name(ctypes.get_errno()), "no second wall around files", remedy)
    if version < _LANDLOCK_COMPLETE:
        costs = "namespaces and seccomp alone stand before abstract sockets and signals"
        return Feature("landlock version", False, f"{version}, complete is {_LANDLOCK_COMPLETE}", costs, remedy)
    return Feature("landlock version", True, str(version))


def _notifications() -> Feature:
    sizes = ctypes.create_string_buffer(8)
    result = _libc.syscall(_SYS_SECCOMP, _SECCOMP_GET_NOTIF_SIZES, 0, sizes)
    if result < 0:
        number = _name(ctypes.get_errno())
        return Feature("seccomp notification", False, number, "no worker can be started: no tripwire", "Linux 5.0")
    return Feature("seccomp notification", True)


def _pagemap_scan() -> Feature:
    """Asked of one page of our own."""
    page = ctypes.create_string_buffer(8192)
    start = (ctypes.addressof(page) + 4095) & ~4095
    regions = ctypes.create_string_buffer(24)
    argument = bytearray(
        struct.pack("<QQQQQQQQQQQQ", 96, 0, start, start + 4096, 0, ctypes.addressof(regions), 1, 0, 0, 2, 0, 2)
    )
    try:
        with Path("/proc/self/pagemap").open("rb") as pagemap:
            fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
    except OSError as error:
        costs = "fresh state forks a process for each invocation: a millisecond instead of microseconds"
        return Feature("pagemap scan", False, _name(error.errno or 0), costs, "Linux 6.7, /proc mounted")
    return Feature("pagemap scan", True)


def _rights() -> Iterator[Feature]:
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("\nCapEff:")[2].split(maxsplit=1)[0], 16)
    for name, (bit, costs, remedy) in _CAPABILITIES.items():
        has = bool(effective >> bit & 1)
        yield Feature(name.lower(), has) if has else Feature(name.lower(), False, "", costs, remedy)


def _groups() -> Iterator[Feature]:
    found: list[Hierarchy] = []
    with contextlib.suppress(OSError):
        found = discover()
    for controller in CONTROLLERS:
        name = f"control group {controller}"
        # Every group of v2 counts its CPU time.
        where = next(
            (one for one in found if controller in one.controllers or (controller == "cpuacct" and one.version == 2)),
            None,
        )
        if where is not None and os.access(where.home, os.W_OK):
            yield Feature(name, True, f"v{where.version}")
            continue
        detail = "not mounted" if where is None else f"{where.home} is not writable"
        remedy = "a delegated control group (systemd: Delegate=yes), or root with /sys/fs/cgroup writable"
        yield Feature(name, False, detail, _CONTROLLERS[controller], remedy)


def _deadline() -> Feature:
    """In a process that ends at once: 10 ms of every second."""
    attributes = _DEADLINE.pack(_DEADLINE.size, _SCHED_DEADLINE, 0, 0, 0, 10**7, 10**9, 10**9)

    def reserve() -> int:
        buffer = ctypes.create_string_buffer(attributes)
        return 0 if _libc.syscall(_SYS_SCHED_SETATTR, 0, buffer, 0) == 0 else ctypes.get_errno()

    number = _in_a_child(reserve)
    if number in (0, errno.EBUSY):
        return Feature("deadline scheduling", True, "" if number == 0 else "all of it is sold at the moment")
    remedy = (
        "root with CAP_SYS_NICE, a kernel with SCHED_DEADLINE, and no cpuset around the server that is a part of one"
    )
    return Feature(
        "deadline scheduling", False, _name(number), "no CPU reservations: tiers with one run best-effort", remedy
    )


def _in_a_child(run: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(run())
        finally:
            os._exit(errno.EIO)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _limits() -> Iterator[Feature]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if unlimited or hard >= _DESCRIPTORS_WANTED:
        yield Feature("descriptors", True, "unlimited" if unlimited else str(hard))
    else:
        costs = "fewer connections and workers than connections_max and workers_max allow"
        yield Feature(
            "descriptors", False, str(hard), costs, f"ulimit -n {_DESCRIPTORS_WANTED} (systemd: LimitNOFILE=)"
        )
