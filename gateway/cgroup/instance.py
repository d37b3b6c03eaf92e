"""The parent group of one server's workers: made at its start, swept of what died, gone with it.

``Instance.open`` is called by the zygote; ``sweep_dead`` by the supervisor at its start. The parent's name says who
owns it (PID namespace, pid, start time), so that what a killed server left behind is told from what a living one uses.
What always holds: nothing that a living process of ours uses is removed, nothing that is not ours is touched.
"""

import contextlib
import itertools
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cgroup.files import KERNEL, Files
from gateway.cgroup.group import Group
from gateway.cgroup.hierarchy import OWN_LEAF, Hierarchy

_NAME = re.compile(r"tailcut-([0-9a-f]+)-([0-9]+)-([0-9]+)")
_DELEGATED = ("trusted.delegate", "user.delegate")
"""Set by systemd on a unit with Delegate=."""
_numbers = itertools.count(1)
"""Of groups of workers: two instances of one process may share a parent, where cpu and cpuacct are one hierarchy."""
_DEATH_TIMEOUT_S = 2.0
_DEATH_POLL_S = 0.01


def instance_name(pid: int, process: Path = Path("/proc")) -> str:
    """Of the server that ``pid`` is the life of."""
    namespace = (process / "self/ns/pid").stat().st_ino
    return f"tailcut-{namespace:x}-{pid}-{_started(pid, process)}"


@dataclass(slots=True)
class Instance:
    name: str
    parents: dict[str, Path]
    """Controller → our parent group in its hierarchy."""
    versions: dict[str, int]
    missing: dict[str, str]
    """Controller → why there is none."""
    files: Files = KERNEL
    _leftovers: list[Group] = field(default_factory=list)
    """Groups that could not be removed yet."""

    @classmethod
    def open(
        cls, name: str, hierarchies: list[Hierarchy], wanted: tuple[str, ...], files: Files = KERNEL
    ) -> "Instance":
        """Takes what there is of ``wanted``; what there is not is in ``missing``."""
        instance = cls(name, {}, {}, {}, files)
        for controller in wanted:
            hierarchy = next((one for one in hierarchies if controller in one.controllers), None)
            if hierarchy is None:
                instance.missing[controller] = "no mounted hierarchy of control groups has it"
                continue
            try:
                instance.parents[controller] = _parent(hierarchy, name, controller, files)
                instance.versions[controller] = hierarchy.version
            except OSError as error:
                instance.missing[controller] = f"{error.filename or hierarchy.home}: {error.strerror}"
        return instance

    def group(self, name: str, without: frozenset[str] = frozenset()) -> Group:
        """A new group below, not of the controllers in ``without``. Raises OSError, and then there is none."""
        folders = {
            controller: parent / name for controller, parent in self.parents.items() if controller not in without
        }
        group = Group(folders, self.versions, self.files)
        try:
            for folder in dict.fromkeys(folders.values()):
                self.files.make(folder)
                if self.versions.get("cpuset") == 1 and folders.get("cpuset") == folder:
                    _inherit_cpus(folder, self.files)
        except OSError:
            group.remove()
            raise
        return group

    def worker_group(self, inside: Path | None = None, without: frozenset[str] = frozenset()) -> Group:
        """The next one for a worker of this process; v2: ``inside`` another group of ours, the partition of a CPU."""
        name = f"worker-{os.getpid()}-{next(_numbers)}"
        return (self if inside is None else self._below(inside)).group(name, without)

    def _below(self, folder: Path) -> "Instance":
        """With the same controllers, which ``folder`` hands down, and cpu if it can be had."""
        parents, versions = dict(self.parents), dict(self.versions)
        wanted = [controller for controller, version in versions.items() if version == 2]
        for controller in wanted:
            self.files.write(folder / "cgroup.subtree_control", f"+{controller}")
        with contextlib.suppress(OSError):
            self.files.write(folder / "cgroup.subtree_control", "+cpu")
            wanted.append("cpu")
        parents.update(dict.fromkeys(wanted, folder))
        versions.update(dict.fromkeys(wanted, 2))
        return Instance(self.name, parents, versions, {}, self.files)

    def remove(self, group: Group) -> None:
        """Of a worker that is dead; what it left behind there goes later."""
        if self._leftovers:
            self._leftovers = [one for one in self._leftovers if not one.remove()]
        if not group.remove():
            self._leftovers.append(group)

    def sweep(self) -> int:
        """Takes over what an earlier process of this server left; returns how many groups still have somebody in them,
        which go when they can."""
        names = {one.name for parent in self.parents.values() for one in self.files.groups(parent)}
        for name in sorted(names):
            group = Group({c: p / name for c, p in self.parents.items()}, self.versions, self.files)
            if not group.remove():
                self._leftovers.append(group)
        return len(self._leftovers)

    def close(self) -> None:
        """The server ends: removes everything that nobody is in."""
        self.sweep()
        Group(self.parents, self.versions, self.files).remove()


def sweep_dead(hierarchies: list[Hierarchy], files: Files = KERNEL, process: Path = Path("/proc")) -> list[str]:
    """Ends what still runs in groups of servers that live no more, and removes them. Returns the names of what could
    not be removed."""
    folders = [folder for one in hierarchies for folder in _instances(one, files)]
    return [str(folder) for folder in folders if not owner_lives(folder.name, process) and not end(folder, files)]


def destroy(name: str, hierarchies: list[Hierarchy], files: Files = KERNEL) -> list[str]:
    """The same for one server, by who knows that it has ended."""
    folders = [folder for one in hierarchies for folder in _instances(one, files) if folder.name == name]
    return [str(folder) for folder in folders if not end(folder, files)]


def leftover_count(hierarchies: list[Hierarchy], files: Files = KERNEL, process: Path = Path("/proc")) -> int:
    """Groups of servers that live no more."""
    folders = [folder for one in hierarchies for folder in _instances(one, files)]
    return sum(not owner_lives(folder.name, process) for folder in folders)


def _instances(hierarchy: Hierarchy, files: Files) -> list[Path]:
    """Below our own group and below its neighbours: the server may have been started from another session."""
    places = {hierarchy.home, hierarchy.mount}
    if hierarchy.home != hierarchy.mount:
        places.update(files.groups(hierarchy.home.parent))
    return [folder for place in sorted(places) for folder in files.groups(place) if _NAME.fullmatch(folder.name)]


def owner_lives(name: str, process: Path) -> bool:
    match = _NAME.fullmatch(name)
    if match is None:
        return True
    namespace, pid, started = match.groups()
    if int(namespace, 16) != (process / "self/ns/pid").stat().st_ino:
        # Its pids mean nothing here.
        return True
    return _started(int(pid), process) == int(started)


def _started(pid: int, process: Path) -> int:
    """In clock ticks since the boot; 0: no such process."""
    try:
        text = (process / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def end(folder: Path, files: Files) -> bool:
    """Kills who is in it, and removes it; False: it will not go."""
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    while True:
        _kill_below(folder, files)
        with contextlib.suppress(OSError):
            _remove_below(folder, files)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_DEATH_POLL_S)


def _kill_below(folder: Path, files: Files) -> None:
    for child in files.groups(folder):
        _kill_below(child, files)
    with contextlib.suppress(OSError):
        for pid in files.read(folder / "cgroup.procs").split():
            if int(pid) > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def _remove_below(folder: Path, files: Files) -> None:
    for child in files.groups(folder):
        _remove_below(child, files)
    with contextlib.suppress(FileNotFoundError):
        files.remove(folder)


def _parent(hierarchy: Hierarchy, name: str, controller: str, files: Files) -> Path:
    folder = hierarchy.home / name
    if hierarchy.version == 2:
        enable(hierarchy, controller, files)
    with contextlib.suppress(FileExistsError):
        files.make(folder)
    if hierarchy.version == 2:
        files.write(folder / "cgroup.subtree_control", f"+{controller}")
    elif controller == "cpuset":
        _inherit_cpus(folder, files)
    return folder


def enable(hierarchy: Hierarchy, controller: str, files: Files) -> None:
    """v2: groups below get only the controllers that their parent hands down, and a group that does so may hold no
    processes itself (the hierarchy's own root may)."""
    control = hierarchy.home / "cgroup.subtree_control"
    if controller in files.read(control).split():
        return
    try:
        files.write(control, f"+{controller}")
    except OSError:
        if not _is_ours(hierarchy, files):
            raise
        leaf = hierarchy.home / OWN_LEAF
        with contextlib.suppress(FileExistsError):
            files.make(leaf)
        for pid in files.read(hierarchy.home / "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                files.write(leaf / "cgroup.procs", pid)
        files.write(control, f"+{controller}")


def _is_ours(hierarchy: Hierarchy, files: Files) -> bool:
    """Whether all of this group is meant for us: delegated by systemd, or all that a container has."""
    if any(files.mark(hierarchy.home, mark) == b"1" for mark in _DELEGATED):
        return True
    return hierarchy.home == hierarchy.mount


def _inherit_cpus(folder: Path, files: Files) -> None:
    """v1: a new cpuset is empty, and nobody can enter it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        files.write(folder / name, files.read(folder.parent / name).strip())
