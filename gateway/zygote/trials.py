"""Tries what CPU reservations and the demotion of burning invocations need, on processes that end at once.

Called by gateway/doctor.py. What always holds: a partition that is made to try is gone when the trial returns; a CPU
that a running server has reserved is not touched.
"""

import ctypes
import os
import struct
from collections.abc import Callable

from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import instance_name
from gateway.cgroup.partition import Partitions, sweep_dead_partitions, why_not

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
_DEADLINE, _RESET_ON_FORK = 6, 1
_PERIOD_NS = 100_000_000
_libc = ctypes.CDLL(None, use_errno=True)


def reservation() -> tuple[str | None, str | None]:
    """Why there is no partition of a CPU, and why the kernel admits no SCHED_DEADLINE in one; None: there is."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        reason = "this process may run on one CPU only, and that one is shared"
        return reason, reason
    hierarchies = discover()
    sweep_dead_partitions(hierarchies)
    partitions = Partitions.of(instance_name(os.getpid()), hierarchies)
    refusal = why_not(partitions.hierarchy)
    if refusal is not None:
        return refusal, "it needs the partition of a CPU"
    try:
        group = partitions.take(cpus[-1])
    except OSError as error:
        return error.strerror or str(error), "it needs the partition of a CPU"

    def admitted() -> str:
        group.enter()
        return _set_deadline(_PERIOD_NS // 10)

    try:
        return None, _tried(admitted)
    finally:
        while partitions.tidy():
            os.sched_yield()


def demotion() -> str | None:
    """Why a process cannot be demoted from outside and promoted again."""

    def there_and_back() -> str:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return ""

    return _tried(there_and_back)


def _set_deadline(runtime_ns: int) -> str:
    number = _SYS_SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        return f"its system call's number on {os.uname().machine} is not known here"
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, _DEADLINE, _RESET_ON_FORK, 0, 0, runtime_ns, _PERIOD_NS, _PERIOD_NS)
    if _libc.syscall(number, 0, attributes, 0) == 0:
        return ""
    return f"sched_setattr: {os.strerror(ctypes.get_errno())}"


def _tried(what: Callable[[], str]) -> str | None:
    """In a process of its own: None, or what was refused."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, _refusal(what).encode() or b"ok")
        finally:
            os._exit(0)
    os.close(write)
    said = os.read(read, 512).decode(errors="replace")
    os.close(read)
    os.waitpid(pid, 0)
    return None if said == "ok" else said or "the process that tried it ended"


def _refusal(what: Callable[[], str]) -> str:
    try:
        return what()
    except OSError as error:
        return error.strerror or str(error)
