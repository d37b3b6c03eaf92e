"""A server that an ordinary user of the machine starts: a real other uid, no group, no capability.

Used by tests that run as root. The interpreter or the checkout may lie in a folder that only root may enter: then the
server gets a mount namespace, in which a folder that holds nothing else lies over that one. What always holds: nothing
on the machine is made readable for anybody, and the control groups that were handed over are removed again.
"""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.cgroup.hierarchy import discover
from tests.conftest import FREE_PORTS, ROOT, server_environment
from tests.support.server import Server

UID = 4_711
CONTROLLERS = ("memory", "pids")
NO_USER_NAMESPACES = (
    *("unshare", "--user", f"--map-user={UID}", f"--map-group={UID}", "--keep-caps"),
    *("sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"),
    *("setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"),
)
"""In front of a command of that user: on a machine whose sysctl forbids them."""


@dataclass(frozen=True)
class OrdinaryUser:
    folder: Path
    """Its own."""
    groups: tuple[Path, ...]
    """Control groups that it may make others in."""

    def start(self, name: str, *before: str, delegated: bool = True, **settings: object) -> Server:
        """``before``: a command that executes the server; without ``delegated`` it stays in our control groups. Raises
        AssertionError with what `up` printed when it does not start."""
        data_dir = self.folder / name
        data_dir.mkdir()
        os.chown(data_dir, UID, UID)
        entered = "".join(f"echo $$ >{shlex.quote(str(group))}/cgroup.procs\n" for group in self.groups)
        script = f'set -e\n{entered if delegated else ""}{_opened(self.folder / "held")}exec "$@"\n'
        become = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
        wrapper = ("unshare", "--mount", "sh", "-c", script, "sh", *become, *before)
        environment = server_environment(**settings) | {"HOME": str(data_dir)}
        return Server(data_dir, environment, *FREE_PORTS, "--no-example", wrapper=wrapper)


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    folder = Path(tempfile.mkdtemp(prefix="tailcut-user-"))
    folder.chmod(0o755)
    homes = {one.home for one in discover() if one.version == 1 and one.controllers & set(CONTROLLERS)}
    groups = tuple(home / f"test-user-{os.getpid()}" for home in sorted(homes))
    try:
        for group in groups:
            group.mkdir()
            for path in (group, *group.iterdir()):
                os.chown(path, UID, UID)
        yield OrdinaryUser(folder, groups)
    finally:
        for group in groups:
            for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                inner.rmdir()
            group.rmdir()
        shutil.rmtree(folder)


def _opened(held: Path) -> str:
    """Shell commands: what is needed of a folder that only its owner may enter stays, all else in it goes."""
    needed = [Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOT)]
    lines = ["mount --make-rprivate /"]
    for closed, paths in _by_closed_folder(needed).items():
        for number, path in enumerate(paths):
            place = shlex.quote(f"{held}-{number}")
            lines += [f"mkdir -p {place}", f"mount --bind {_quoted(path)} {place}"]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {_quoted(closed)}")
        for number, path in enumerate(paths):
            place = shlex.quote(f"{held}-{number}")
            lines += [f"mkdir -p {_quoted(path)}", f"mount --move {place} {_quoted(path)}"]
    return "".join(f"{line}\n" for line in lines)


def _by_closed_folder(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if above:
            found.setdefault(above[0], []).append(path)
    return found


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
