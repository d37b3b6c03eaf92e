"""Which hierarchies are mounted, what they control, and which of their groups this process is in.

Called by ``instance``, the supervisor and the doctor. What always holds: each controller is in one hierarchy at most;
``home`` is a folder below (or at) ``mount``; nothing is created or changed here.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.cgroup.files import KERNEL, Files

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "cpuset", "freezer")
OWN_LEAF = "tailcut-processes"
"""v2: a group with controllers below it may hold no processes; our own then live in this one."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    version: int
    """1 or 2"""
    controllers: frozenset[str]
    """Of ``CONTROLLERS``."""
    mount: Path
    home: Path
    """The group of this process: ours go below it, so that whatever bounds us bounds them."""


def discover(process: Path = Path("/proc/self"), files: Files = KERNEL) -> list[Hierarchy]:
    """v1 and v2 may be mounted side by side; the kernel gives each controller to one of them."""
    try:
        groups = _own_groups(files.read(process / "cgroup"))
        mounts = files.read(process / "mountinfo").splitlines()
    except OSError:  # a kernel without control groups, or no /proc
        return []
    found: dict[frozenset[str], Hierarchy] = {}
    for line in mounts:
        about, _dash, source = line.partition(" - ")
        kind, _name, options = source.split(maxsplit=2)
        root, mount = (_unescaped(text) for text in about.split()[3:5])
        if kind == "cgroup":
            controllers = frozenset(options.split(",")).intersection(CONTROLLERS)
            own = next((path for names, path in groups.items() if controllers & names), None)
            version = 1
        elif kind == "cgroup2":
            own = groups.get(frozenset({""}))
            home = _home(Path(mount), root, own or "/")
            controllers = frozenset(_words(files, home / "cgroup.controllers")).intersection(CONTROLLERS)
            version = 2
        else:
            continue
        if controllers and own is not None and controllers not in found:
            found[controllers] = Hierarchy(version, controllers, Path(mount), _home(Path(mount), root, own))
    return list(found.values())


def _own_groups(text: str) -> dict[frozenset[str], str]:
    """``4:memory:/a`` → {memory}: /a; v2 is ``0::/a``."""
    groups = {}
    for line in text.splitlines():
        _number, names, path = line.split(":", 2)
        groups[frozenset(names.split(","))] = path
    return groups


def _home(mount: Path, root: str, own: str) -> Path:
    """``own`` and ``root`` (what of the hierarchy is mounted) are seen from the same place."""
    relative = os.path.relpath(own, root)
    home = mount if relative.startswith("..") else Path(os.path.normpath(mount / relative))
    return home.parent if home.name == OWN_LEAF else home


def _words(files: Files, file: Path) -> list[str]:
    try:
        return files.read(file).split()
    except OSError:
        return []


def _unescaped(text: str) -> str:
    """Spaces and the like are written as ``\\040`` (proc_pid_mountinfo(5))."""
    return text.encode().decode("unicode_escape") if "\\" in text else text
