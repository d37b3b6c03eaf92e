"""The zygote's settings; alone here, so that its environment is read in one place and pydantic is not imported."""

import os
from dataclasses import dataclass
from typing import Literal, get_args

from gateway.cgroup.instance import instance_name
from gateway.contract.egress import PATH_VARIABLE

FD_VARIABLE = "TAILCUT_ZYGOTE_FD"
GROUP_VARIABLE = "TAILCUT_JAIL_GROUP"

MemoryMode = Literal["group", "rlimits"]
"""``group``: each worker in a memory control group, or no worker; ``rlimits``: without one, where none can be had."""
JailMode = Literal["on", "partial", "off"]
"""``on``: all of it or no worker; ``partial``: what this machine gives; ``off``: only for code that you trust."""


_ADDRESS_SPACE_WITHOUT_GROUPS = 4 * 2**30


class SettingsError(Exception):
    """A variable has a value that cannot be meant."""


@dataclass(frozen=True, slots=True)
class JailSettings:
    mode: JailMode = "on"
    uid_min: int = 0x7000_0000
    """Host ids of the workers, when root chooses: from here on, each worker another one."""
    uid_count: int = 0x0F00_0000
    memory: MemoryMode = "group"
    group: str | None = None
    """The name of the server's parent group; by default this process's own."""
    tmp_bytes: int = 16 * 2**30
    """``tmp_bytes``, ``descriptors_max``, ``threads_max``: the node's ceilings over what versions have."""
    tmp_files_max: int = 4096
    address_space_bytes: int = 128 * 2**30
    """Of mappings, used or not: a backstop. Without control groups (``memory="rlimits"``) 4 GiB, unless it is set."""
    descriptors_max: int = 4096
    threads_max: int = 512


def listener_fd() -> str | None:
    """The listening socket that the supervisor hands down."""
    return os.environ.get(FD_VARIABLE)


def ready_fd() -> int | None:
    """Where the supervisor waits for the word that the jail holds and workers can be had."""
    text = os.environ.get("TAILCUT_READY_FD")
    return int(text) if text is not None else None


def reserved_cpus() -> frozenset[int]:
    """The CPUs that workers with a reservation may take, as the supervisor names them."""
    text = os.environ.get("TAILCUT_RESERVED_CPUS", "")
    return frozenset(int(part) for part in text.split(",") if part.isdecimal())


def egress_path() -> str | None:
    """Where the egress takes over the sockets of workers with a network; none: no version gets one."""
    return os.environ.get(PATH_VARIABLE)


def owner() -> str:
    """Whose control groups and partitions they are."""
    return os.environ.get("TAILCUT_JAIL_GROUP") or instance_name(os.getppid())


def jail_settings() -> JailSettings:
    """Raises SettingsError."""
    mode = os.environ.get("TAILCUT_JAIL", "on")
    default = JailSettings()
    memory = _memory_mode()
    for known in get_args(JailMode):
        if mode == known:
            return JailSettings(
                mode=known,
                uid_min=_number("TAILCUT_JAIL_UID_MIN", 1, 2**32 - 2, default.uid_min),
                uid_count=_number("TAILCUT_JAIL_UID_COUNT", 1, 2**31, default.uid_count),
                memory=memory,
                group=os.environ.get(GROUP_VARIABLE),
                address_space_bytes=_number(
                    "TAILCUT_JAIL_ADDRESS_SPACE_BYTES",
                    2**28,
                    2**46,
                    default.address_space_bytes if memory == "group" else _ADDRESS_SPACE_WITHOUT_GROUPS,
                ),
            )
    raise SettingsError(f"TAILCUT_JAIL is {mode!r}: on, partial or off")


def _memory_mode() -> MemoryMode:
    text = os.environ.get("TAILCUT_JAIL_MEMORY", "group")
    for known in get_args(MemoryMode):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise SettingsError(f"TAILCUT_JAIL_MEMORY is {text!r}: group or rlimits")


def _number(name: str, least: int, most: int, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}: a whole number from {least} to {most}")
    return int(text)
