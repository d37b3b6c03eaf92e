"""``tailcut-server doctor``: what this machine gives, what is missing, what that costs, how to get it.

Nothing is guessed from versions: each part of the jail is tried on a process that ends at once, as the zygote would do
it with the same settings; all else is features.py's. What always holds: exit code 0 when the whole jail can be had, 5
when a part cannot.
"""

import argparse
import ctypes
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from gateway.cgroup.hierarchy import Hierarchy, discover
from gateway.cgroup.instance import Instance, instance_name, leftover_count
from gateway.core.jail import Part
from gateway.features import features
from gateway.zygote import trials
from gateway.zygote.groups import WANTED
from gateway.zygote.jail import Jail
from gateway.zygote.settings import JailSettings, SettingsError, jail_settings
from gateway.zygote.spawner import Spawner, partial_spawner, probe

_PR_SET_PDEATHSIG = 1
EXIT_FEATURE_MISSING = 5
_WIDTH_STATE = 8
_WIDTH_PART = 14
_WIDTH_FEATURE = 24

_NAMESPACES_HELP = (
    "run as root with CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, or allow user namespaces: sysctl "
    "user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 (Debian), "
    "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, a seccomp profile that allows "
    "unshare, mount and pivot_root"
)
_COSTS: dict[Part, tuple[str, str]] = {
    Part.USER: ("workers run as the server's own user", _NAMESPACES_HELP),
    Part.MOUNT: ("functions see the host's files", _NAMESPACES_HELP + "; Linux 5.12 or newer (mount_setattr)"),
    Part.PID: ("functions see, and may signal, other processes of their user", _NAMESPACES_HELP),
    Part.NET: ("functions reach the network, loopback services included", _NAMESPACES_HELP),
    Part.IPC: ("functions share System V and POSIX queues with the host", _NAMESPACES_HELP),
    Part.UTS: ("functions see the host's name", _NAMESPACES_HELP),
    Part.CGROUP: ("functions see the names of control groups", _NAMESPACES_HELP),
    Part.RLIMITS: ("no hard limits on descriptors, threads, file sizes", "a limit of the server itself is in the way"),
    Part.PRIVILEGES: ("workers keep what the server may do", "a security module forbids dropping capabilities"),
    Part.LANDLOCK: (
        "the mounts are the only wall around files",
        "a kernel with CONFIG_SECURITY_LANDLOCK=y and landlock among its lsm= (Linux 5.13, complete from 6.12)",
    ),
    Part.SECCOMP: ("functions may use every system call", "a kernel with CONFIG_SECCOMP_FILTER=y"),
}


_GROUPS_HELP = (
    "run as root, or in a group that is delegated (systemd: Delegate=yes; a container: a writable cgroup mount)"
)
_GROUP_COSTS = {
    "memory": "shared memory, files in /tmp and what the kernel holds for a worker have no bound",
    "pids": "only RLIMIT_NPROC bounds threads and processes",
}

_BEST_EFFORT = "tenants with a CPU reservation run best-effort, and every answer says so"
_SCHEDULING: dict[str, tuple[str, str]] = {
    "partition": (
        _BEST_EFFORT,
        "two CPUs or more, root in the root CPU set with cgroup's cpuset writable (not in a container), no other group "
        "on the CPU; then `tailcut-server up --reserved-cpus`",
    ),
    "deadline": (_BEST_EFFORT, "root with CAP_SYS_NICE; bandwidth left below kernel.sched_rt_runtime_us"),
    "demotion": (
        "a worker that was demoted for burning CPU serves one call and is replaced",
        "root with CAP_SYS_NICE, or a limit (RLIMIT_NICE) of 20 or more for the server's user",
    ),
}


@dataclass(frozen=True, slots=True)
class Line:
    part: str
    state: str
    """``active``, ``missing``, or ``off`` (by the setting)"""
    refused: str = ""
    """Of a part of the jail: step, call and errno; else a version, a number, what the kernel answered."""
    costs: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    kernel: str
    rights: str
    setting: str
    whole: bool
    """All parts hold together: TAILCUT_JAIL=on starts."""
    workers_are: str
    lines: list[Line]
    """The parts of the jail."""
    features: list[Line]
    """What else the design uses; without it something is slower or weaker, and the lines say what."""
    groups: list[Line]
    """Control groups, by controller."""
    bounded: bool
    """The memory of workers can be bounded, or the setting accepts that it cannot."""
    leftover_groups: int
    scheduling: list[Line]
    """What CPU reservations need; not parts of the jail."""


def diagnose(settings: JailSettings, *, beside: bool = False) -> Diagnosis:
    """Forks some twenty processes, one after the other. ``beside`` a running server nothing is tried that takes a CPU
    away for a moment: that one's reactors are on it."""
    jail = Jail.of(JailSettings(mode="on", uid_min=settings.uid_min, uid_count=settings.uid_count))
    whole = probe(Spawner(jail)) is None
    missing = {} if whole else partial_spawner(jail)[1]
    lines = []
    for part in Part:
        name = (part.name or "").lower()
        if part in missing:
            costs, remedy = _COSTS[part]
            lines.append(Line(name, "missing", missing[part], costs, remedy))
        elif settings.mode == "off":
            lines.append(Line(name, "off", "", _COSTS[part][0], "TAILCUT_JAIL=on"))
        else:
            lines.append(Line(name, "active"))
    hierarchies = discover()
    groups = _groups(hierarchies)
    last = settings.uid_min + settings.uid_count - 1
    each = f"each worker another one of the host's ids {settings.uid_min}-{last}"
    return Diagnosis(
        kernel=platform.release(),
        rights="root" if jail.privileged else f"uid {os.geteuid()}, without the rights of root",
        setting=settings.mode,
        whole=whole,
        workers_are=each if jail.privileged else "the server's own user, in user namespaces of their own",
        lines=lines,
        features=[
            Line(one.name, "active" if one.active else "missing", one.detail, one.costs, one.remedy)
            for one in features()
        ]
        + [_network(Spawner(jail), whole=whole)],
        groups=groups,
        bounded=groups[0].state == "active" or settings.memory == "rlimits" or settings.mode != "on",
        leftover_groups=leftover_count(hierarchies),
        scheduling=_scheduling(beside=beside),
    )


def _network(spawner: Spawner, *, whole: bool) -> Line:
    """Tried as for a version that asks for it: its own lo, a socket on it, the way out of the jail."""
    refusal = probe(spawner, network=True) if whole else "it needs the whole jail"
    if refusal is None:
        return Line("network of functions", "active")
    costs = "versions that ask for a network do not start"
    return Line("network of functions", "missing", refusal, costs, "/proc/sys writable in a new network namespace")


def _groups(hierarchies: list[Hierarchy]) -> list[Line]:
    """Tried by making one of each."""
    instance = Instance.open(instance_name(os.getpid()), hierarchies, WANTED)
    instance.close()
    lines = []
    for controller in WANTED:
        if controller in instance.versions:
            lines.append(Line(f"{controller} group", "active", f"cgroup v{instance.versions[controller]}"))
        else:
            lines.append(
                Line(
                    f"{controller} group",
                    "missing",
                    instance.missing[controller],
                    _GROUP_COSTS[controller],
                    _GROUPS_HELP,
                )
            )
    return lines


def _scheduling(*, beside: bool) -> list[Line]:
    """Not parts of the jail: without them everything runs, on whatever CPU time is left over."""
    refusals = {"demotion": trials.demotion()}
    if not beside:
        partition, deadline = trials.reservation()
        refusals = {"partition": partition, "deadline": deadline} | refusals
    return [
        Line(name, "active") if refusal is None else Line(name, "missing", refusal, *_SCHEDULING[name])
        for name, refusal in refusals.items()
    ]


def show(diagnosis: Diagnosis) -> str:
    rows = [
        f"kernel        Linux {diagnosis.kernel}",
        f"rights        {diagnosis.rights}",
        f"workers are   {diagnosis.workers_are}",
        f"TAILCUT_JAIL  {diagnosis.setting}",
        "",
    ]
    rows += _table(diagnosis.lines, _WIDTH_PART)
    rows += [""]
    rows += _table(diagnosis.features, _WIDTH_FEATURE)
    rows += [""]
    rows += _table(diagnosis.groups, _WIDTH_PART)
    rows += _table(diagnosis.scheduling, _WIDTH_PART)
    rows.append(f"{'':14}groups of dead servers: {diagnosis.leftover_groups} (removed at the next start)")
    rows += ["", _verdict(diagnosis)]
    return "\n".join(rows) + "\n"


def _table(lines: list[Line], width: int) -> Iterator[str]:
    for line in lines:
        yield f"{line.part:<{width}}{line.state:<{_WIDTH_STATE}}{line.refused}".rstrip()
        if line.costs:
            yield f"{'':{width}}costs: {line.costs}"
        if line.remedy:
            yield f"{'':{width}}to get it: {line.remedy}"


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.setting == "off":
        return "WORKERS ARE NOT JAILED: run only code that you trust."
    if not diagnosis.bounded:
        return "Memory cannot be bounded: the server will not start. TAILCUT_JAIL_MEMORY=rlimits accepts that."
    if diagnosis.whole:
        return "The whole jail holds."
    if diagnosis.setting == "partial":
        return "WORKERS ARE NOT FULLY JAILED: run only code that you trust."
    return "The jail cannot be closed: the server will not start. TAILCUT_JAIL=partial accepts what is active."


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--beside", action="store_true", help="try nothing that a running server would notice")
    arguments = parser.parse_args()
    if arguments.beside:
        # Whoever asked may be killed; nobody would read the answer.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        diagnosis = diagnose(jail_settings(), beside=arguments.beside)
    except SettingsError as error:
        sys.stderr.write(f"doctor: {error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(diagnosis), indent=2) + "\n" if arguments.json else show(diagnosis))
    return 0 if diagnosis.whole and diagnosis.bounded else EXIT_FEATURE_MISSING


if __name__ == "__main__":
    sys.exit(main())
