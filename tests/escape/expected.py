"""THE LIST: what each thread of a live worker looks like from outside, whoever started the server, in every state.

``test_posture`` (root) and ``test_unprivileged`` (any user) read workers (posture.py) and ``judge`` them by it. What
always holds: nothing that is read is left unjudged, and what a worker may be (a range, a pattern) is written here.
"""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tailcut

from gateway.contract.table import Limits
from gateway.zygote.groups import CHECKPOINT_BYTES
from gateway.zygote.settings import JailSettings
from tests.escape.posture import CAN_ASK, Posture, limits_of
from tests.sched import kernel

LIBRARY = Path(os.__file__).parent
READ_ONLY = "bound ro,nosuid,nodev"
DEVICE = "bound ro,nosuid,noexec"
SETTINGS = JailSettings()
LIMITS = Limits()
NONE = "0000000000000000"
SERVER_GROUP = "/tailcut-[0-9a-f]+-[0-9]+-[0-9]+"
WORKER_GROUP = f"{SERVER_GROUP}/worker-[0-9]+-[0-9]+$"
PARTITION = "^/tailcut-cpu{cpu}-tailcut-[0-9a-f]+-[0-9]+-[0-9]+$"
MAPPED_BYTES_MAX = 256 * 2**20
"""What an interpreter has mapped at most when its function is ready."""
REWINDERS = {5: "/proc/PID/pagemap", 6: "/proc/PID/maps", 7: "/proc/PID/stat", 8: "/proc/PID/timers",
             9: "/memfd:tailcut-checkpoint", 10: "/dev/null", 11: "/function", 12: "/tmp"}  # fmt: skip
"""What a fresh function's worker has besides: all of it about itself."""
OF_STATES = {"fresh": REWINDERS, "forked": {5: "/tmp"}, "call": {5: "/tmp"}}
"""Whoever goes back empties ``/tmp``. ``call``: the process of one call of a forked function."""
OOM_SCORE_ADJ = 500
TIMER_SLACK_NS = 50_000
SECUREBITS = 0b1110_1111
"""NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked, and KEEP_CAPS locked off."""
IGNORED = "0000000001001000"
"""SIGPIPE and SIGXFSZ, as Python has them."""
NO_LIMIT = ("", "")
INHERITED_LIMITS = ("Max stack size", "Max resident set", "Max file locks", "Max realtime timeout")
"""The server's own."""


@dataclass(frozen=True)
class Case:
    """Of which worker: all that the list depends on."""

    state: str = "warm"
    server_uid: int = 0
    """As root each worker is a user of its own; else all are the server's."""
    groups: tuple[str, ...] = ("memory", "pids")
    """The controllers that it has a control group of its own in."""
    reserved_cpu: int | None = None
    reservation: tuple[int, int] = (0, 0)
    """Runtime and period, in microseconds."""
    serves: bool = True
    """The thread that serves calls: it alone is under the reservation."""


def expected(case: Case, found: Posture) -> dict[str, Any]:
    """Field of the posture → what it must be; of ``found`` only what is different in each worker."""
    owner = found.status["Uid"].split()[0]
    return {
        "status": status(owner),
        "shared": set(),
        "descriptors": {
            **dict.fromkeys((0, 1, 2), "/dev/null"),
            3: "socket",
            4: "/memfd:tailcut-body",
            **OF_STATES.get(case.state, {}),
        },
        "mounts": mounts(),
        "limits": limits(),
        "uid_map": [["1000", owner, "1"]],
        "gid_map": [["1000", owner, "1"]],
        "groups": groups(case),
        "root": roots(),
        "oom_score_adj": OOM_SCORE_ADJ,
        "cpus": {case.reserved_cpu} if case.reserved_cpu is not None else set(found.cpus),
        "scheduling": scheduling(case, found),
        # The kernel gives a thread under a deadline exact timers, and the threads that it starts have them from it.
        "timer_slack_ns": 0 if case.reserved_cpu is not None else TIMER_SLACK_NS,
        "folder": "/function",
        "files_owner": 0,
        "kept": [0, SECUREBITS] if CAN_ASK else [],
    }


def status(owner: str) -> dict[str, str]:
    return {
        "Uid": " ".join([owner] * 4),
        "Gid": " ".join([owner] * 4),
        "Groups": "",
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), NONE),
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "Seccomp_filters": "2",
        "Umask": "0077",
        "SigBlk": NONE,
        "SigIgn": IGNORED,
        "TracerPid": "0",
    }


def _trees() -> set[str]:
    trees = {str(LIBRARY), str(Path(tailcut.__file__).parent), "/usr/lib/x86_64-linux-gnu", "/function"}
    return trees | ({"/usr/share/zoneinfo"} if Path("/usr/share/zoneinfo").is_dir() else set())


def _devices() -> set[str]:
    return {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}


def mounts() -> dict[str, str]:
    hidden = {str(LIBRARY / name) for name in ("site-packages", "dist-packages") if (LIBRARY / name).is_dir()}
    return {
        "/": "tmpfs ro,nosuid,nodev,noexec",
        "/tmp": "tmpfs rw,nosuid,nodev,noexec",
        **dict.fromkeys(_trees(), READ_ONLY),
        **dict.fromkeys(hidden, "tmpfs ro,nosuid,nodev,noexec"),
        **dict.fromkeys(_devices(), DEVICE),
    }


def roots() -> list[str]:
    links = {path for path in ("/lib", "/lib64", "/lib32") if Path(path).is_symlink()}
    return sorted({Path(path).parts[1] for path in (*_trees(), *_devices(), *links, "/etc", "/tmp")})


def limits() -> dict[str, tuple[str, str]]:
    """Without those of memory, which move: ``judge_memory``."""
    same = {
        "Max file size": LIMITS.tmp_bytes,
        "Max core file size": 0,
        "Max cpu time": 1_800,
        "Max locked memory": 0,
        "Max pending signals": 256,
        "Max msgqueue size": 0,
        "Max nice priority": 0,
        "Max realtime priority": 0,
    }
    ours = limits_of(Path("/proc/self"))
    return {
        **{name: (str(value), str(value)) for name, value in same.items()},
        "Max processes": (str(LIMITS.processes_max), str(SETTINGS.threads_max)),
        "Max open files": (str(LIMITS.open_files_max), str(SETTINGS.descriptors_max)),
        **{name: ours[name] for name in INHERITED_LIMITS},
    }


def groups(case: Case) -> dict[str, str]:
    """Controllers → a pattern. In all other hierarchies it is where the server is."""
    wanted = dict.fromkeys(case.groups, WORKER_GROUP)
    if case.state in ("forked", "call") and case.server_uid == 0:
        wanted["cpuacct"] = WORKER_GROUP  # it has several processes; an ordinary user is handed no such group here
    if case.reserved_cpu is not None:
        wanted |= {"cpuset": PARTITION.format(cpu=case.reserved_cpu), "cpu": WORKER_GROUP}
    return wanted


def is_deadline(case: Case) -> bool:
    return case.reserved_cpu is not None and case.serves


def scheduling(case: Case, found: Posture) -> kernel.Scheduling:
    if is_deadline(case):
        return kernel.Scheduling(kernel.DEADLINE, 0, *case.reservation)
    # An ordinary thread of the tier's weight (100: nice 0), or with what the server was started with. A slice says
    # nothing about what it may.
    nice = found.scheduling.nice if found.scheduling.nice in (0, os.getpriority(os.PRIO_PROCESS, 0)) else 0
    return kernel.Scheduling(kernel.NORMAL, nice, found.scheduling.runtime_us, 0)


def judge(found: Posture, case: Case = Case()) -> None:
    """Raises AssertionError for the first field that is not as it must be."""
    numbers = re.fullmatch(r"([0-9]+)( \1){3}", found.status.get("Uid", ""))
    assert numbers, f"one user: {found.status}"
    owner = int(numbers[1])
    if case.server_uid == 0:
        assert SETTINGS.uid_min <= owner < SETTINGS.uid_min + SETTINGS.uid_count, "each worker is a user of its own"
    else:
        assert owner == case.server_uid, "without root all workers are the server's user"
    assert len(found.cpus) == 1, f"pinned to one CPU, not {found.cpus}"
    wanted = expected(case, found)
    assert set(wanted) == {field.name for field in fields(Posture)}, "nothing is read and not judged"
    for name, value in wanted.items():
        seen = getattr(found, name)
        if name == "limits":
            seen = dict(seen)
            judge_memory(seen.pop("Max data size", NO_LIMIT), seen.pop("Max address space", NO_LIMIT), case)
        if name == "groups":
            assert set(seen) == set(value), f"control groups: {seen}"
            assert all(re.search(value[each], seen[each]) for each in value), f"control groups: {seen}"
            continue
        assert seen == value, f"{name} is {seen}, not {value}"


def judge_memory(data: tuple[str, str], address_space: tuple[str, str], case: Case) -> None:
    """The soft ones move with the version's bound, above what a worker shares with the zygote; the hard ones stay."""
    assert data[1] == "unlimited"
    reserved_bytes = CHECKPOINT_BYTES if case.state == "fresh" else 0
    assert 0.9 * LIMITS.memory_bytes < int(data[0]) < LIMITS.memory_bytes + MAPPED_BYTES_MAX + reserved_bytes
    hard_bytes = SETTINGS.address_space_bytes if case.groups else 4 * 2**30
    assert address_space[1] == str(hard_bytes)
    assert int(address_space[0]) <= hard_bytes
