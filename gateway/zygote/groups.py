"""The control group of each worker: memory and number of processes, bounded before anything of the tenant's runs.

``Groups`` is the server loop's: one ``make`` before each fork, one ``remove`` after each death; ``enter`` is called in
the fork, before the jail. What always holds: a worker starts in its group or not at all, unless a setting or the jail's
mode accepts a machine without memory control groups.
"""

import os
import resource
import sys
from dataclasses import dataclass

from gateway.cgroup import group
from gateway.cgroup.bounds import Bounds
from gateway.cgroup.group import Group
from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import Instance, instance_name
from gateway.contract.worker import SpawnSpec
from gateway.core.jail import JailError
from gateway.zygote.reserved import ReservedPlace
from gateway.zygote.settings import JailSettings

WANTED = ("memory", "pids")
_CPU_COUNTER = "cpuacct"
"""v1 (every group of v2 counts): the CPU time of workers that may have processes. What a process used that nobody
waited for, or that ended with SIGCHLD ignored, is in nobody's own figures."""
MEMORY_SLACK_BYTES = 2 * 2**20
"""The soft limit lies this much below the group's bound, and a sixteenth of it more: what the kernel itself needs for a
worker (page tables, sockets, stacks) and copies of the zygote's pages are charged, too."""
CHECKPOINT_BYTES = 12 * 2**20
"""What going back takes in a fresh worker before the first call: its own state, the opened part of the heap."""
_DATA_FIELD = 5
"""Of /proc/self/statm: pages of private writable memory."""
_STATM_BYTES_MAX = 256
_CPU_BYTES_MAX = 512


@dataclass(slots=True)
class Groups:
    instance: Instance

    @classmethod
    def of(cls, settings: JailSettings) -> "Groups":
        """Raises JailError when workers would have no bound on their memory and nobody has accepted that."""
        hierarchies = discover()
        wanted = (*WANTED, _CPU_COUNTER) if any(_CPU_COUNTER in one.controllers for one in hierarchies) else WANTED
        instance = Instance.open(settings.group or instance_name(os.getpid()), hierarchies, wanted)
        if "memory" in instance.missing and settings.mode == "on" and settings.memory == "group":
            instance.close()
            raise JailError(
                f"the memory of workers cannot be bounded: no memory control group ({instance.missing['memory']}). "
                "`tailcut-server doctor` tells how to get one; TAILCUT_JAIL_MEMORY=rlimits accepts limits that do not "
                "count shared memory, files in /tmp and what the kernel holds for a worker"
            )
        for controller, reason in instance.missing.items():
            sys.stderr.write(f"zygote: no control group for {controller}: {reason}\n")
        instance.sweep()
        return cls(instance)

    def make(self, spec: SpawnSpec, place: ReservedPlace | None = None) -> Group:
        """Raises OSError, and then there is none."""
        counted = may_fork(spec)
        cap = place.cap.folders["cpu"] if place is not None and place.cap is not None else None
        # Where cpu and cpuacct are one hierarchy, a process is in one group of both: the cap's.
        shared = cap is not None and cap.parent == self.instance.parents.get(_CPU_COUNTER)
        without = frozenset() if counted and not shared else frozenset({_CPU_COUNTER})
        made = self.instance.worker_group(place.inside if place is not None else None, without)
        if place is not None and place.inside is not None:
            place.cap = made
        if counted and shared and cap is not None:
            made.folders[_CPU_COUNTER] = cap
        try:
            made.bound(Bounds(memory_bytes=spec.memory_bytes, pids_max=spec.processes_max))
        except OSError:
            self.instance.remove(made)
            raise
        return made

    def remove(self, group: Group) -> None:
        self.instance.remove(group)

    def close(self) -> None:
        """Workers may run on; their groups go with the server."""
        self.instance.close()


def may_fork(spec: SpawnSpec) -> bool:
    return spec.processes or spec.state == "forked"


def usage_s(cpu_fd: int) -> float:
    """CPU time of all that ever ran in the group that ``Group.cpu_usage_fd`` is of."""
    text = os.pread(cpu_fd, _CPU_BYTES_MAX, 0)
    microseconds = text.removeprefix(b"usage_usec ")
    return int(microseconds.split()[0]) / (1e9 if microseconds == text else 1e6)


def enter(entrances: list[str], spec: SpawnSpec) -> None:
    """In the fork. Raises JailError."""
    try:
        group.enter(entrances)
    except OSError as error:
        raise JailError(f"control group: {error}") from error
    # Until the gateway sets it more closely, so that an import that is too large gets its MemoryError.
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    used_bytes = int(os.read(statm, _STATM_BYTES_MAX).split()[_DATA_FIELD]) * resource.getpagesize()
    os.close(statm)
    if spec.state == "fresh":
        used_bytes += CHECKPOINT_BYTES
    soft_bytes = used_bytes + spec.memory_bytes - spec.memory_bytes // 16 - MEMORY_SLACK_BYTES
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (soft_bytes if hard < 0 else min(soft_bytes, hard), hard))
