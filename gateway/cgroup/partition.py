"""Reserved CPUs: an exclusive partition for each that is in use, so that SCHED_DEADLINE can be pinned to it.

``Partitions`` is the zygote's: a partition is made for the first worker that needs it and dissolved after the last.
``sweep_dead_partitions`` is for whoever starts, ``release`` for whoever ends (supervisor, guard). The affinity of a
deadline thread must cover its whole root domain; a domain of one CPU is made by

- v1: a group of that CPU alone with ``cpuset.cpu_exclusive``, and no load balancing in the root group. What the root
  group had is noted in an extended attribute of its folder: as lasting as the change itself, whoever is killed.
  A second group, of nobody, over the other CPUs keeps them balanced.
- v2: ``cpuset.cpus.partition``.

Why not a file on disk for the former values: two servers on one machine share the root group, and a file would survive
a reboot that the groups do not. What always holds: all changes happen under one lock of the machine (flock on the
hierarchy's folder); the last partition of whichever server puts the root group back as it was.
"""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cgroup.files import KERNEL, Files
from gateway.cgroup.group import Group
from gateway.cgroup.hierarchy import Hierarchy
from gateway.cgroup.instance import enable, end, owner_lives

_NAME = re.compile(r"tailcut-cpu([0-9]+)-(.+)")
REST = "tailcut-shared"
"""v1: the group over the CPUs that nobody has reserved."""
FORMER = "trusted.tailcut.sched_load_balance"
_BALANCE = "cpuset.sched_load_balance"


@dataclass(slots=True)
class Partitions:
    """Of one server, on this machine's CPU sets."""

    owner: str
    """``instance_name`` of the supervisor."""
    hierarchy: Hierarchy | None
    """The one that has cpuset; None: none is mounted."""
    files: Files = KERNEL
    taken: dict[int, Path] = field(default_factory=dict)
    """CPU → folder."""

    @classmethod
    def of(cls, owner: str, hierarchies: list[Hierarchy], files: Files = KERNEL) -> "Partitions":
        """Finds again what an earlier zygote of the same server made."""
        hierarchy = cpuset_of(hierarchies)
        found = cls(owner, hierarchy, files)
        if hierarchy is not None:
            for folder, cpu, name in _partitions(hierarchy, files):
                if name == owner:
                    found.taken[cpu] = folder
        return found

    def take(self, cpu: int) -> Group:
        """The partition of a CPU, made if it is not there. Raises OSError with what cannot be had."""
        hierarchy = self.hierarchy
        if hierarchy is None or (cpu not in self.taken and (why_not(hierarchy, self.files) is not None)):
            raise OSError(errno.EPERM, why_not(hierarchy, self.files))
        if cpu not in self.taken:
            with _locked(hierarchy):
                self.taken[cpu] = _make(hierarchy, f"tailcut-cpu{cpu}-{self.owner}", cpu, self.files)
        return Group({"cpuset": self.taken[cpu]}, {"cpuset": hierarchy.version}, self.files)

    def tidy(self) -> int:
        """Dissolves those that nobody is in; returns how many are left."""
        if self.hierarchy is None:
            return 0
        for cpu, folder in list(self.taken.items()):
            with _locked(self.hierarchy), contextlib.suppress(OSError):
                _dissolve(self.hierarchy, folder, self.files)
                del self.taken[cpu]
        return len(self.taken)


def cpuset_of(hierarchies: list[Hierarchy]) -> Hierarchy | None:
    return next((one for one in hierarchies if "cpuset" in one.controllers), None)


def why_not(hierarchy: Hierarchy | None, files: Files = KERNEL) -> str | None:
    """What is in the way of any partition, as far as it can be told without making one; None: nothing."""
    if hierarchy is None:
        return "no mounted hierarchy of control groups has cpuset"
    if hierarchy.version == 1 and hierarchy.home != hierarchy.mount:
        return f"this server is in the CPU set {hierarchy.home}, and only one in the root set can split its CPUs"
    probe = hierarchy.home / (_BALANCE if hierarchy.version == 1 else "cgroup.subtree_control")
    return None if files.writable(probe) else f"{probe} cannot be written"


def release(owner: str, hierarchies: list[Hierarchy], files: Files = KERNEL) -> list[str]:
    """The server has ended: ends who is left in its partitions and dissolves them. Returns what could not be."""
    return _end(hierarchies, files, lambda name: name == owner)


def sweep_dead_partitions(
    hierarchies: list[Hierarchy], files: Files = KERNEL, process: Path = Path("/proc")
) -> list[str]:
    """The same for servers that live no more."""
    return _end(hierarchies, files, lambda name: not owner_lives(name, process))


def dead_partition_count(hierarchies: list[Hierarchy], files: Files = KERNEL, process: Path = Path("/proc")) -> int:
    hierarchy = cpuset_of(hierarchies)
    found = _partitions(hierarchy, files) if hierarchy is not None else []
    return sum(not owner_lives(name, process) for _folder, _cpu, name in found)


def _end(hierarchies: list[Hierarchy], files: Files, whose: Callable[[str], bool]) -> list[str]:
    hierarchy = cpuset_of(hierarchies)
    if hierarchy is None:
        return []
    left = []
    with _locked(hierarchy):
        for folder, _cpu, name in _partitions(hierarchy, files):
            if not whose(name):
                continue
            if not end(folder, files):
                left.append(str(folder))
        with contextlib.suppress(OSError):
            _restore(hierarchy, files)
    return left


def _make(hierarchy: Hierarchy, name: str, cpu: int, files: Files) -> Path:
    folder = hierarchy.home / name
    if hierarchy.version == 2:
        enable(hierarchy, "cpuset", files)
    files.make(folder)
    try:
        if hierarchy.version == 2:
            _make_2(folder, cpu, files)
        else:
            _make_1(hierarchy, folder, cpu, files)
    except OSError as error:
        with contextlib.suppress(OSError):
            _dissolve(hierarchy, folder, files)
        reason = f"{error.filename or folder}: {error.strerror}"
        raise OSError(error.errno or 0, f"CPU {cpu} cannot be reserved ({reason})") from error
    return folder


def _make_1(hierarchy: Hierarchy, folder: Path, cpu: int, files: Files) -> None:
    root = hierarchy.mount
    files.write(folder / "cpuset.cpus", str(cpu))
    files.write(folder / "cpuset.mems", files.read(root / "cpuset.mems").strip())
    _fit_rest(hierarchy, files)
    # EINVAL: a neighbouring group has this CPU too.
    files.write(folder / "cpuset.cpu_exclusive", "1")
    if not files.mark(root, FORMER):
        files.note(root, FORMER, files.read(root / _BALANCE).strip().encode())
    files.write(root / _BALANCE, "0")


def _make_2(folder: Path, cpu: int, files: Files) -> None:
    files.write(folder / "cpuset.cpus", str(cpu))
    if files.exists(folder / "cpuset.cpus.exclusive"):
        files.write(folder / "cpuset.cpus.exclusive", str(cpu))
    files.write(folder / "cpuset.cpus.partition", "root")
    state = files.read(folder / "cpuset.cpus.partition").strip()
    if state != "root":
        raise OSError(22, f"the kernel says {state!r}", str(folder / "cpuset.cpus.partition"))


def _dissolve(hierarchy: Hierarchy, folder: Path, files: Files) -> None:
    """Raises OSError as long as somebody is in it."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(folder)
    _restore(hierarchy, files)


def _restore(hierarchy: Hierarchy, files: Files) -> None:
    """v1, after any partition has gone: the root group as it was, once there is none left."""
    if hierarchy.version == 2:
        return
    root = hierarchy.mount
    if _partitions(hierarchy, files):
        _fit_rest(hierarchy, files)
        return
    former = files.mark(root, FORMER)
    if former:
        files.write(root / _BALANCE, former.decode())
        files.unnote(root, FORMER)
    with contextlib.suppress(FileNotFoundError):
        files.remove(root / REST)


def _fit_rest(hierarchy: Hierarchy, files: Files) -> None:
    """Without load balancing in the root group its CPUs would be balanced nowhere."""
    root = hierarchy.mount
    reserved = {cpu for _folder, cpu, _name in _partitions(hierarchy, files)}
    rest = sorted(cpus_of(files.read(root / "cpuset.cpus")) - reserved)
    if not rest:
        return
    with contextlib.suppress(FileExistsError):
        files.make(root / REST)
    files.write(root / REST / "cpuset.cpus", ",".join(str(cpu) for cpu in rest))
    files.write(root / REST / "cpuset.mems", files.read(root / "cpuset.mems").strip())


def _partitions(hierarchy: Hierarchy, files: Files) -> list[tuple[Path, int, str]]:
    """Folder, CPU, owner of every partition on the machine, as far as it is below our own group."""
    found = []
    for folder in files.groups(hierarchy.home):
        match = _NAME.fullmatch(folder.name)
        if match is not None:
            found.append((folder, int(match.group(1)), match.group(2)))
    return found


def cpus_of(text: str) -> set[int]:
    """``0,2-3`` → {0, 2, 3}"""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _dash, last = part.partition("-")
        if first:
            cpus.update(range(int(first), int(last or first) + 1))
    return cpus


@contextlib.contextmanager
def _locked(hierarchy: Hierarchy) -> Iterator[None]:
    fd = os.open(hierarchy.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
