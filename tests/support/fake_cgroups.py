"""A faked tree of cgroup v2 that keeps the kernel's rules, for machines where v2 controls nothing.

Rules (Documentation/admin-guide/cgroup-v2.rst): a group has the controllers that its parent hands down; one that hands
down may hold no processes, the root may; only an empty group can be removed; what is not there cannot be written.
"""

import errno
import os
import shutil
from pathlib import Path

from gateway.cgroup.files import Files

_INTERFACE = {
    "memory": {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.peak": "0",
        "memory.current": "0",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
    },
    "pids": {"pids.max": "max"},
    "cpu": {"cpu.max": "max 100000", "cpu.weight": "100"},
    "cpuset": {"cpuset.cpus": "", "cpuset.cpus.partition": "member"},
}


class FakeKernel(Files):
    """``controllers`` are what the root has; ``pid`` is who writes "0"."""

    def __init__(self, root: Path, controllers: tuple[str, ...], pid: int = 100) -> None:
        self.root = root
        self.pid = pid
        self.marks: dict[tuple[Path, str], bytes] = {}
        self.log: list[tuple[str, str]] = []
        """Writes, in order: path below the root, text."""
        root.mkdir()
        self._fill(root, controllers)

    def make(self, folder: Path) -> None:
        handed_down = (folder.parent / "cgroup.subtree_control").read_text().split()
        folder.mkdir()
        self._fill(folder, tuple(handed_down))

    def remove(self, folder: Path) -> None:
        if not folder.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        if (folder / "cgroup.procs").read_text().strip() or self.groups(folder):
            raise _error(errno.EBUSY, folder)
        shutil.rmtree(folder)

    def write(self, file: Path, text: str) -> None:
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        self.log.append((str(file.relative_to(self.root)), text))
        if file.name == "cgroup.subtree_control":
            self._hand_down(file, text)
        elif file.name == "cgroup.procs":
            self._move(file, str(self.pid) if text == "0" else text)
        else:
            file.write_text(text)

    def mark(self, folder: Path, name: str) -> bytes:
        return self.marks.get((folder, name), b"")

    def place(self, folder: Path, pid: int) -> None:
        """A process that is there already."""
        self._move(folder / "cgroup.procs", str(pid))

    def _fill(self, folder: Path, controllers: tuple[str, ...]) -> None:
        (folder / "cgroup.controllers").write_text(" ".join(controllers))
        (folder / "cgroup.subtree_control").write_text("")
        (folder / "cgroup.procs").write_text("")
        if folder != self.root:
            self._interface(folder, controllers)

    def _interface(self, folder: Path, controllers: tuple[str, ...]) -> None:
        for controller in controllers:
            for name, content in _INTERFACE[controller].items():
                (folder / name).write_text(content)

    def _hand_down(self, file: Path, text: str) -> None:
        folder = file.parent
        for word in text.split():
            if word[1:] not in (folder / "cgroup.controllers").read_text().split():
                raise _error(errno.ENOENT, file)
            if folder != self.root and (folder / "cgroup.procs").read_text().strip():
                raise _error(errno.EBUSY, file)
            file.write_text(" ".join({*file.read_text().split(), word[1:]}))
            for child in self.groups(folder):
                have = (child / "cgroup.controllers").read_text().split()
                if word[1:] not in have:
                    (child / "cgroup.controllers").write_text(" ".join([*have, word[1:]]))
                    self._interface(child, (word[1:],))

    def _move(self, file: Path, pid: str) -> None:
        folder = file.parent
        if folder != self.root and (folder / "cgroup.subtree_control").read_text().strip():
            raise _error(errno.EBUSY, file)
        for other in [self.root, *self.root.rglob("*")]:
            procs = other / "cgroup.procs"
            if procs.exists():
                left = [one for one in procs.read_text().split() if one != pid]
                procs.write_text("\n".join(left))
        file.write_text("\n".join([*file.read_text().split(), pid]))


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
