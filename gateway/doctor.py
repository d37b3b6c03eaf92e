"""``tailcut-server doctor``: what this machine gives the jail, what is missing, what that costs, how to get it.

Nothing is guessed from versions or files: each part is tried on a process that ends at once, as the zygote would do it
with the same settings. What always holds: exit code 0 when the whole jail can be had, 5 when a part cannot.
"""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass

from gateway.core.jail import Part
from gateway.zygote import trials
from gateway.zygote.jail import Jail
from gateway.zygote.settings import JailSettings, SettingsError, jail_settings
from gateway.zygote.spawner import Spawner, partial_spawner, probe

EXIT_FEATURE_MISSING = 5
_WIDTH_STATE = 8

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
    """Step, call and errno."""
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
    scheduling: list[Line]
    """What CPU reservations need; not parts of the jail."""


def diagnose(settings: JailSettings) -> Diagnosis:
    """Forks some twenty processes, one after the other."""
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
    last = settings.uid_min + settings.uid_count - 1
    each = f"each worker another one of the host's ids {settings.uid_min}-{last}"
    return Diagnosis(
        kernel=platform.release(),
        rights="root" if jail.privileged else f"uid {os.geteuid()}, without the rights of root",
        setting=settings.mode,
        whole=whole,
        workers_are=each if jail.privileged else "the server's own user, in user namespaces of their own",
        lines=lines,
        scheduling=_scheduling(),
    )


def _scheduling() -> list[Line]:
    """Not parts of the jail: without them everything runs, on whatever CPU time is left over."""
    partition, deadline = trials.reservation()
    refusals = {"partition": partition, "deadline": deadline, "demotion": trials.demotion()}
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
    for line in [*diagnosis.lines, *diagnosis.scheduling]:
        rows.append(f"{line.part:<12}  {line.state:<{_WIDTH_STATE}}{line.refused}".rstrip())
        if line.costs:
            rows.append(f"{'':14}costs: {line.costs}")
        if line.remedy:
            rows.append(f"{'':14}to get it: {line.remedy}")
    rows += ["", _verdict(diagnosis), "Not enforced yet, on any machine: memory, CPU time (SECURITY.md)."]
    return "\n".join(rows) + "\n"


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.setting == "off":
        return "WORKERS ARE NOT JAILED: run only code that you trust."
    if diagnosis.whole:
        return "The whole jail holds."
    if diagnosis.setting == "partial":
        return "WORKERS ARE NOT FULLY JAILED: run only code that you trust."
    return "The jail cannot be closed: the server will not start. TAILCUT_JAIL=partial accepts what is active."


def main() -> int:
    parser = argparse.ArgumentParser(prog="gateway.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    try:
        diagnosis = diagnose(jail_settings())
    except SettingsError as error:
        sys.stderr.write(f"doctor: {error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(diagnosis), indent=2) + "\n" if arguments.json else show(diagnosis))
    return 0 if diagnosis.whole else EXIT_FEATURE_MISSING


if __name__ == "__main__":
    sys.exit(main())
