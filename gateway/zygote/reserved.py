"""Workers with a CPU reservation: the partition of their CPU, and a cap on what they do outside the reservation.

``Server`` asks for a ``ReservedPlace`` before it forks such a worker, and says when it is gone; ``tick`` does the rest.
The reservation itself (SCHED_DEADLINE) is the gateway's to set, once the worker is ready, and holds the thread that
serves. Other threads are outside it: from then on a CFS quota gives them, together, as much again as was reserved, so
that a worker uses at most twice what was bought. What always holds: no partition without a worker in it for longer than
``_IDLE_S``; a guard outlives us and dissolves what is there when the whole server is killed.
"""

import contextlib
import ctypes
import os
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cgroup.bounds import Bounds
from gateway.cgroup.group import Group
from gateway.cgroup.hierarchy import Hierarchy, discover
from gateway.cgroup.instance import Instance
from gateway.cgroup.partition import Partitions, why_not
from gateway.zygote.guard import Guard

TICK_S = 0.1
_IDLE_S = 1.0
_SCHED_DEADLINE = 6
_SYS_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period: sched_setattr(2)"""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, eq=False)
class ReservedPlace:
    partition: Group
    cap: Group | None
    """None: there is no cpu controller; then nothing bounds the other threads but the invocation's CPU limit."""
    inside: Path | None = None
    """v2: where the worker's own group must be; that is then the cap, too."""
    pid: int = 0
    is_capped: bool = False

    def entrances(self) -> list[str]:
        """For the worker, which has one thread (``gateway.cgroup.group.enter``)."""
        if self.inside is not None:
            return []
        return [*self.partition.entrances(), *(self.cap.entrances() if self.cap is not None else ())]


@dataclass(slots=True)
class Reserved:
    cpus: frozenset[int]
    """Those that may be reserved."""
    partitions: Partitions
    hierarchies: list[Hierarchy]
    owner: str
    _caps: Instance | None = None
    _places: list[ReservedPlace] = field(default_factory=list)
    _guard: Guard = field(default_factory=Guard)
    _empty_since_s: float | None = None

    @classmethod
    def of(cls, cpus: frozenset[int], owner: str) -> "Reserved":
        hierarchies = discover()
        reserved = cls(cpus, Partitions.of(owner, hierarchies), hierarchies, owner)
        if cpus and (reason := why_not(reserved.partitions.hierarchy)) is not None:
            sys.stderr.write(f"zygote: CPUs {sorted(cpus)} cannot be reserved: {reason}; all tiers run best-effort\n")
        return reserved

    def place(self, cpu: int) -> ReservedPlace:
        """For the next worker on that CPU. Raises OSError: there is no reservation to be had."""
        if cpu not in self.cpus:
            raise OSError(22, f"CPU {cpu} is not one of those that may be reserved: {sorted(self.cpus)}")
        self._guard.ensure(self.owner)
        partition = self.partitions.take(cpu)
        inside = partition.folders["cpuset"] if partition.versions["cpuset"] == 2 else None
        place = ReservedPlace(partition, self._cap(), inside=inside)
        self._places.append(place)
        self._empty_since_s = None
        return place

    def gone(self, place: ReservedPlace) -> None:
        """The worker is dead, or was never made."""
        self._places.remove(place)
        if place.cap is not None and self._caps is not None:
            self._caps.remove(place.cap)

    def tick(self) -> float | None:
        """Caps who is under its reservation now; dissolves what nobody uses. Returns when to call it again, in seconds
        from now."""
        for place in self._places:
            if not place.is_capped and place.pid > 0:
                _cap(place)
        if self._places:
            return TICK_S if any(not place.is_capped for place in self._places) else None
        if not self.partitions.taken:
            return None
        now_s = time.monotonic()
        if self._empty_since_s is None:
            self._empty_since_s = now_s
        # Making a partition rebuilds the scheduler's domains: not for a worker that is only being replaced.
        if now_s - self._empty_since_s >= _IDLE_S:
            self.partitions.tidy()
        return TICK_S if self.partitions.taken else None

    def close(self) -> None:
        """We end; the partitions of workers that live on are left to the next zygote, or to the guard."""
        self.partitions.tidy()

    def _cap(self) -> Group | None:
        if self.partitions.hierarchy is None or self.partitions.hierarchy.version == 2:
            return None
        if self._caps is None:
            self._caps = Instance.open(self.owner, self.hierarchies, ("cpu",))
        return self._caps.worker_group() if "cpu" in self._caps.parents else None


def _cap(place: ReservedPlace) -> None:
    runtime_us, period_us = reservation_of(place.pid)
    if runtime_us == 0:
        return
    place.is_capped = True
    if place.cap is not None:
        with contextlib.suppress(OSError):
            place.cap.bound(Bounds(cpu_quota_us=runtime_us, cpu_period_us=period_us))


def reservation_of(pid: int) -> tuple[int, int]:
    """Runtime and period of a process's own thread, in microseconds; (0, 0): it has none, or is gone."""
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    number = _SYS_SCHED_GETATTR.get(os.uname().machine)
    if number is None or _libc.syscall(number, pid, attributes, _ATTRIBUTES.size, 0) != 0:
        return 0, 0
    _size, policy, _flags, _nice, _priority, runtime_ns, _deadline_ns, period_ns = _ATTRIBUTES.unpack(attributes.raw)
    return (runtime_ns // 1000, period_ns // 1000) if policy == _SCHED_DEADLINE else (0, 0)
