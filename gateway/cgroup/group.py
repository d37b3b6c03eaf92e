"""One control group: a folder of the same name in each hierarchy that it has controllers of.

Made by ``instance``; the zygote makes one before it forks a worker, the fork enters it, and it is removed when the
worker is dead. What always holds: ``enter`` moves only the calling process, which has one thread.
"""

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from gateway.cgroup.bounds import MEMORY_FILES, Bounds, MemoryFiles, oom_kills, writes
from gateway.cgroup.files import KERNEL, Files


@dataclass(frozen=True, slots=True)
class Group:
    folders: dict[str, Path]
    """Controller → folder; controllers of one hierarchy share one."""
    versions: dict[str, int]
    """Controller → 1 or 2."""
    files: Files = KERNEL

    def bound(self, bounds: Bounds) -> None:
        """Raises OSError when a bound cannot be had. Those of controllers that the group has not are left out."""
        for version in sorted(set(self.versions.values())):
            for write in writes(bounds, version):
                if self.versions.get(write.controller) != version:
                    continue
                try:
                    self.write(write.controller, write.file, write.text)
                except OSError:
                    if write.required:
                        raise

    def write(self, controller: str, file: str, text: str) -> None:
        self.files.write(self.folders[controller] / file, text)

    def read(self, controller: str, file: str) -> str:
        return self.files.read(self.folders[controller] / file)

    def enter(self) -> None:
        """Moves this process. Raises OSError."""
        for path in self.entrances():
            self.files.write(Path(path), "0")

    def entrances(self) -> list[str]:
        """The files that a process writes "0" to in order to move itself, for who has nothing else of the group."""
        # v1: "tasks" moves one thread, and for oneself the kernel takes no lock that all forks of the machine wait
        # for, as it does for "cgroup.procs".
        return [
            f"{folder}/{'tasks' if self.versions[controller] == 1 else 'cgroup.procs'}"
            for controller, folder in _once(self.folders)
        ]

    def memory_folder_fd(self) -> int | None:
        """For who reads its use and sets its bound, wherever that process's root is; None: memory is not bounded."""
        if "memory" not in self.folders:
            return None
        return os.open(self.folders["memory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def cpu_usage_fd(self) -> int | None:
        """Of the file that counts the CPU time of all that ever ran in the group, whoever waited for its end; None:
        nobody counts it."""
        if "cpuacct" in self.folders:
            file = self.folders["cpuacct"] / "cpuacct.usage"
        elif self.versions.get("memory") == 2:  # every group of v2 counts it
            file = self.folders["memory"] / "cpu.stat"
        else:
            return None
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def memory_peak_bytes(self) -> int:
        """0: not known."""
        names = self._memory_files()
        return self._memory_number(names.peak) if names else 0

    def memory_usage_bytes(self) -> int:
        names = self._memory_files()
        return self._memory_number(names.usage) if names else 0

    def oom_kills(self) -> int:
        """How many of its processes the kernel ended because the group's memory bound was reached."""
        if (names := self._memory_files()) is None:
            return 0
        with contextlib.suppress(OSError):
            return oom_kills(self.read("memory", names.events))
        return 0

    def processes(self) -> list[int]:
        """Of the group itself, as this process's PID namespace numbers them."""
        found: set[int] = set()
        for _controller, folder in _once(self.folders):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in self.files.read(folder / "cgroup.procs").split())
        return sorted(found - {0})

    def remove(self) -> bool:
        """False: somebody is still in it; try again later."""
        gone = True
        for _controller, folder in _once(self.folders):
            try:
                self.files.remove(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                gone = False
        return gone

    def _memory_files(self) -> MemoryFiles | None:
        return MEMORY_FILES[self.versions["memory"]] if "memory" in self.versions else None

    def _memory_number(self, file: str) -> int:
        try:
            text = self.read("memory", file).strip()
        except OSError:
            return 0
        return int(text) if text.isdecimal() else 0


def enter(entrances: list[str]) -> None:
    """Moves this process by ``Group.entrances`` of the kernel's. Raises OSError."""
    for path in entrances:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def _once(folders: dict[str, Path]) -> list[tuple[str, Path]]:
    """Each folder with one of its controllers."""
    return list({folder: (controller, folder) for controller, folder in folders.items()}.values())
