"""The jail of libzigcore (``zc_jail_*``) behind two functions; the list itself is zigcore/src/jail/apply.zig.

Called by gateway/zygote in forked processes only. What always holds: a refusal is ``JailError`` with step, call and
errno, and whoever gets one must end, for the process may be half-jailed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any

from gateway.core import binding
from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]


class Part(IntFlag):
    """Mirrors zigcore/src/jail/config.zig."""

    USER = 1 << 0
    MOUNT = 1 << 1
    PID = 1 << 2
    NET = 1 << 3
    IPC = 1 << 4
    UTS = 1 << 5
    CGROUP = 1 << 6
    RLIMITS = 1 << 7
    PRIVILEGES = 1 << 8
    LANDLOCK = 1 << 9
    SECCOMP = 1 << 10


EVERYTHING = Part((1 << 11) - 1)
_MOUNTS_KEPT_MAX = 256
"""Of the host's, which all workers have, and of the versions started last."""


class MountKind(IntEnum):
    """``zc_jail_mount_kind``"""

    TREE = 1
    DEVICE = 2
    LINK = 3
    TEXT = 4
    FOLDER = 5
    HIDDEN = 6
    FILE = 7


class Profile(IntFlag):
    """``zc_jail_profile``: what a version asked for and was allowed."""

    NONE = 0
    PROCESSES = 1
    NETWORK = 2


class State(IntEnum):
    """Of the function: zigcore/src/jail/config.zig has what each needs beyond the ordinary."""

    WARM = 0
    FRESH = 1
    FORKED = 2


@dataclass(frozen=True, slots=True)
class Mount:
    kind: MountKind
    target: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class JailConfig:
    """One worker's jail; ids are the host's."""

    parts: Part
    mounts: Sequence[Mount]
    privileged: bool
    owner_id: int
    """User and group; without root it is not used: the worker is then the server's own user."""
    tmp_bytes: int
    tmp_files_max: int
    address_space_bytes: int
    descriptors_max: int
    threads_max: int
    """Threads and processes together. This and the one above are hard, the node's; the two below soft, the version's:
    the gateway moves them, from outside."""
    descriptors: int
    threads: int
    profile: Profile = Profile.NONE
    state: State = State.WARM


class JailError(Exception):
    """A step of the jail was refused: its name, the call, the errno."""


class Native:
    """A configuration as libzigcore reads it: made before the fork, for a fork that makes it copies pages for that."""

    __slots__ = ("_keep", "config")

    def __init__(self, config: JailConfig) -> None:
        laid_out = [_mount(one) for one in config.mounts]
        mounts = ffi.new("zc_jail_mount[]", [structure for structure, _source, _target in laid_out])
        self._keep = (mounts, laid_out)
        self.config: Any = ffi.new(
            "zc_jail_config *",
            {
                "parts": config.parts & EVERYTHING,
                "mounts_count": len(config.mounts),
                "mounts": mounts,
                "owner_uid": config.owner_id,
                "owner_gid": config.owner_id,
                "tmp_bytes": config.tmp_bytes,
                "tmp_files_max": config.tmp_files_max,
                "address_space_bytes": config.address_space_bytes,
                "descriptors_max": config.descriptors_max,
                "threads_max": config.threads_max,
                "descriptors": config.descriptors,
                "threads": config.threads,
                "privileged": int(config.privileged),
                "profile": config.profile,
                "state": config.state,
            },
        )


@lru_cache(_MOUNTS_KEPT_MAX)
def _mount(one: Mount) -> tuple[Any, Any, Any]:
    """The structure, and what it points to: most are the same for all workers."""
    source, target = ffi.new("char[]", one.source.encode()), ffi.new("char[]", one.target.encode())
    return ffi.new("zc_jail_mount *", {"kind": one.kind, "source": source, "target": target})[0], source, target


def begin(native: Native) -> None:
    """Without root, before the fork of the worker."""
    error = ffi.new("zc_error *")
    _check(binding.load().zc_jail_begin(native.config, error), error)


def enter(native: Native, zygote_fd: int) -> None:
    """Confines this process. Descriptors 0 to 4 stay; a fresh function's worker gets 5 to 9.

    ``zygote_fd``: a socket of the zygote's, or -1.
    """
    error = ffi.new("zc_error *")
    _check(binding.load().zc_jail_enter(native.config, zygote_fd, error), error)


def _check(status: int, error: Any) -> None:
    if status != binding.Status.OK:
        raise JailError(ffi.string(error.text).decode(errors="replace"))
