"""The few operations that control groups need, on the kernel's files or on a faked tree of a test.

Called by everything in this package. Why its own: the rules of cgroup v2 cannot be tried on every machine; a test
gives a tree that keeps them. What always holds: a refusal of the kernel's is an ``OSError``.
"""

import os
from pathlib import Path


class Files:
    """The kernel's."""

    def make(self, folder: Path) -> None:
        folder.mkdir()

    def remove(self, folder: Path) -> None:
        """EBUSY: there is a process in it, or a group."""
        folder.rmdir()

    def read(self, file: Path) -> str:
        return file.read_text()

    def write(self, file: Path, text: str) -> None:
        # Never created and never in pieces: a file that is not there is a controller that is not.
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def groups(self, folder: Path) -> list[Path]:
        """The groups directly below. None in a group that another user's server has closed: they are not ours."""
        try:
            with os.scandir(folder) as entries:
                return [folder / one.name for one in entries if one.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, PermissionError):
            return []

    def mark(self, folder: Path, name: str) -> bytes:
        """An extended attribute; empty: there is none."""
        try:
            return os.getxattr(folder, name)
        except OSError:
            return b""

    def note(self, folder: Path, name: str, value: bytes) -> None:
        """Sets such an attribute."""
        os.setxattr(folder, name, value)

    def unnote(self, folder: Path, name: str) -> None:
        os.removexattr(folder, name)

    def writable(self, file: Path) -> bool:
        return os.access(file, os.W_OK)

    def exists(self, file: Path) -> bool:
        return file.exists()


KERNEL = Files()
