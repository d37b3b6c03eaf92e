"""What the jail of this machine's workers is made of: which trees are mounted, who the workers are, which parts apply.

``Jail.of`` is called once, when the zygote starts; ``Jail.config`` for each worker. The steps themselves are
zigcore/src/jail/apply.zig. What always holds: a worker's root holds the standard library, the system's shared
libraries, the package ``tailcut``, time zones, five devices and its own version's code, and nothing else of the host.
"""

import importlib.util
import os
import random
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.contract.worker import SpawnSpec
from gateway.core.jail import EVERYTHING, JailConfig, Mount, MountKind, Part, Profile, State
from gateway.zygote.settings import JailSettings

CODE_PATH = "/function"
"""Where every version finds itself."""
INTERPRETER = os.path.realpath(sys.executable)
"""What a version that may start processes may execute, besides programs of its own."""
INNER_ID = 1000
_CAPABILITIES = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_ADMIN": 21}
_DEVICES = ("null", "zero", "full", "random", "urandom")
_TEXTS = {
    "/etc/passwd": f"function:x:{INNER_ID}:{INNER_ID}::/tmp:/bin/false\n",
    "/etc/group": f"function:x:{INNER_ID}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
_ROOT_LINKS = ("/lib", "/lib64", "/lib32")


@dataclass(slots=True)
class Jail:
    settings: JailSettings
    parts: Part
    privileged: bool
    mounts: tuple[Mount, ...]
    _next: int = field(default_factory=lambda: random.randrange(2**31))  # noqa: S311  (nobody gains by guessing it)

    @classmethod
    def of(cls, settings: JailSettings) -> "Jail":
        parts = Part(0) if settings.mode == "off" else EVERYTHING
        return cls(settings, parts, is_privileged(), tuple(_mounts()))

    def next_owner(self) -> int:
        """The id of the next worker: nobody else has had it for a long time."""
        owner_id = self.settings.uid_min + self._next % self.settings.uid_count
        self._next += 1
        return owner_id

    def config(self, spec: SpawnSpec, owner_id: int) -> JailConfig:
        """The settings are the node's ceilings."""
        settings = self.settings
        profile = Profile.NONE
        mounts = [*self.mounts, Mount(MountKind.TREE, CODE_PATH, _without_links(spec.code_path))]
        if spec.processes:
            profile |= Profile.PROCESSES
            mounts += _programs(self.mounts)
        if self.separates_network(spec):
            profile |= Profile.NETWORK
        return JailConfig(
            parts=self.parts,
            mounts=mounts,
            privileged=self.privileged,
            owner_id=owner_id,
            tmp_bytes=min(settings.tmp_bytes, spec.tmp_bytes),
            tmp_files_max=settings.tmp_files_max,
            address_space_bytes=settings.address_space_bytes,
            descriptors_max=settings.descriptors_max,
            threads_max=settings.threads_max,
            descriptors=min(settings.descriptors_max, spec.open_files_max),
            threads=min(settings.threads_max, spec.processes_max),
            profile=profile,
            state=State[spec.state.upper()],
        )

    @property
    def limits_movable(self) -> bool:
        """Whether the gateway may move the soft limits of the workers: they count nobody else, and it has the right."""
        return Part.RLIMITS in self.parts and Part.USER in self.parts

    def separates_network(self, spec: SpawnSpec) -> bool:
        """Whether its network is the egress. Where the jail has no network namespace of its own, which the operator has
        accepted, every function has the machine's."""
        return spec.network and Part.NET in self.parts

    def code_path(self, outside: str) -> str:
        """Where a worker finds what lies at ``outside`` on the host."""
        return CODE_PATH if Part.MOUNT in self.parts else outside


def is_privileged() -> bool:
    """Root with what namespaces, mounts and other ids need: a root of a virtual host may have none of it."""
    if os.geteuid() != 0:
        return False
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("\nCapEff:")[2].split(maxsplit=1)[0], 16)
    return all(effective >> bit & 1 for bit in _CAPABILITIES.values()) and _may_return()


def _may_return() -> bool:
    """Whether who has left for a PID namespace may come back: not in somebody else's user namespace."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.setns(own, os.CLONE_NEWPID)
    except OSError:
        return False
    finally:
        os.close(own)
    return True


def _mounts() -> Iterator[Mount]:
    library = Path(os.__file__).parent
    trees = [*_library_folders(), str(library)]
    shared = sysconfig.get_config_var("DESTSHARED")
    if shared and Path(shared).is_dir():
        trees.append(str(shared))
    package = importlib.util.find_spec("tailcut")
    if package is not None and package.origin is not None:
        trees.append(str(Path(package.origin).parent))
    if Path("/usr/share/zoneinfo").is_dir():
        trees.append("/usr/share/zoneinfo")
    yield from _trees(trees)
    for name in ("site-packages", "dist-packages"):
        # Packages of the server's interpreter are no business of a function's.
        if (library / name).is_dir():
            yield Mount(MountKind.HIDDEN, str(library / name))
    for path in _ROOT_LINKS:
        if Path(path).is_symlink():
            yield Mount(MountKind.LINK, path, str(Path(path).readlink()))
    for name in _DEVICES:
        yield Mount(MountKind.DEVICE, f"/dev/{name}", f"/dev/{name}")
    # Named semaphores and shared memory (multiprocessing's locks) count as files of /tmp.
    yield Mount(MountKind.LINK, "/dev/shm", "/tmp")  # noqa: S108
    for path, content in _TEXTS.items():
        yield Mount(MountKind.TEXT, path, content)


def _programs(mounts: tuple[Mount, ...]) -> Iterator[Mount]:
    """The interpreter, its shared library where it has one, and the loader without which no program starts."""
    trees = tuple(f"{one.target}/" for one in mounts if one.kind is MountKind.TREE)
    library = f"{sysconfig.get_config_var('LIBDIR')}/{sysconfig.get_config_var('INSTSONAME')}"
    shared = [library] if sysconfig.get_config_var("Py_ENABLE_SHARED") else []
    for path in (INTERPRETER, *(path for path in (*shared, *_LOADERS) if Path(path).exists())):
        target = _without_links(path)
        if not target.startswith(trees):
            yield Mount(MountKind.FILE, target, os.path.realpath(path))


def _without_links(path: str) -> str:
    """The folder above may be reached through links of the operator's; the name itself must not be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120


def _library_folders() -> list[str]:
    """The system's folders of shared libraries that this interpreter uses: wheels find libc, libstdc++ … there."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {line.split(maxsplit=5)[5] for line in lines if ".so" in line and len(line.split(maxsplit=5)) == 6}
    folders = {os.path.dirname(os.path.realpath(file)) for file in files}  # noqa: PTH120
    return sorted(folder for folder in folders if _is_systems(folder))


def _is_systems(folder: str) -> bool:
    """Not some folder of a person's that a library happens to lie in."""
    about = Path(folder).stat()
    parts = Path(folder).parts
    return (
        folder.startswith(("/usr/lib", "/lib")) and len(parts) <= 4 and about.st_uid == 0 and not about.st_mode & 0o022
    )


def _trees(paths: list[str]) -> Iterator[Mount]:
    """Each once, and none that lies in another."""
    real = sorted({os.path.realpath(path) for path in paths})
    placed: list[str] = []
    for path in real:
        if not any(path == one or path.startswith(f"{one}/") for one in placed):
            placed.append(path)
            yield Mount(MountKind.TREE, path, path)
    for path in paths:
        # Named through a link: the name must lead there in the jail, too.
        if os.path.realpath(path) != path and not path.startswith(_ROOT_LINKS):
            yield Mount(MountKind.TREE, path, os.path.realpath(path))
