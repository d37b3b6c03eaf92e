"""What a process looks like from outside, thread by thread: what the jail has changed, and scheduling."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.escape.kept import PR_GET_DUMPABLE, PR_GET_SECUREBITS, asked_itself
from tests.sched import kernel

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
STATUS = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask", "SigBlk", "SigIgn", "TracerPid"),
)
CAN_ASK = os.uname().machine == "x86_64"
"""Whether this machine's threads can be asked what they alone are told."""


@dataclass(frozen=True)
class Posture:
    """``shared``: namespaces that it has in common with us. ``mounts``: point → type and options that matter."""

    status: dict[str, str]
    shared: set[str]
    descriptors: dict[int, str]
    mounts: dict[str, str]
    limits: dict[str, tuple[str, str]]
    uid_map: list[list[str]]
    gid_map: list[list[str]]
    groups: dict[str, str]
    """Controllers of a hierarchy → its control group there, where that is not ours."""
    root: list[str]
    oom_score_adj: int
    cpus: set[int]
    """It may run on these."""
    scheduling: kernel.Scheduling
    timer_slack_ns: int
    folder: str
    files_owner: int
    """Whose its files in /proc are: root's, of one that nobody of its own user may look into."""
    kept: list[int]
    """Whether it is dumpable, and its secure bits; empty where it cannot be asked."""


def threads(pid: int) -> list[Path]:
    return sorted(Path("/proc", str(pid), "task").iterdir())


def posture(thread: Path) -> Posture:
    number = int(thread.name)
    kept = asked_itself(number, PR_GET_DUMPABLE, PR_GET_SECUREBITS) if CAN_ASK and number != os.getpid() else []
    scheduling = kernel.scheduling(number)
    assert scheduling is not None, f"thread {number} is gone"
    lines = (thread / "status").read_text().splitlines()
    fields = {line.partition(":")[0]: " ".join(line.partition(":")[2].split()) for line in lines}
    return Posture(
        status={name: fields[name] for name in STATUS},
        shared={name for name in NAMESPACES if _namespace(thread, name) == _namespace(Path("/proc/self"), name)},
        descriptors={int(one.name): _kind(str(one.readlink())) for one in (thread / "fd").iterdir()},
        mounts=dict(_mount(line) for line in (thread / "mountinfo").read_text().splitlines()),
        limits=limits_of(thread),
        uid_map=[line.split() for line in (thread / "uid_map").read_text().splitlines()],
        gid_map=[line.split() for line in (thread / "gid_map").read_text().splitlines()],
        groups=_groups(thread),
        root=sorted(path.name for path in (thread / "root").iterdir()),
        oom_score_adj=int((thread / "oom_score_adj").read_text()),
        cpus=os.sched_getaffinity(number),
        scheduling=scheduling,
        timer_slack_ns=int(Path(f"/proc/{number}/timerslack_ns").read_text()),
        folder=str((thread / "cwd").readlink()),
        files_owner=(thread / "environ").stat().st_uid,
        kept=kept,
    )


def limits_of(process: Path) -> dict[str, tuple[str, str]]:
    """Soft and hard."""
    return {line[:25].strip(): _limit(line) for line in (process / "limits").read_text().splitlines()[1:]}


def _groups(thread: Path) -> dict[str, str]:
    """v1, as on the machines that this is run on."""
    ours = set(Path("/proc/self/cgroup").read_text().splitlines())
    others = (line.split(":", 2) for line in (thread / "cgroup").read_text().splitlines() if line not in ours)
    return {controllers: path for _number, controllers, path in others}


def _namespace(process: Path, name: str) -> str:
    return str((process / "ns" / name).readlink())


def _kind(target: str) -> str:
    """``socket:[123]`` → ``socket``, ``/proc/123/maps`` → ``/proc/PID/maps``"""
    target = re.sub(r"^/proc/[0-9]+/", "/proc/PID/", target)
    return target.partition(":")[0] if ":[" in target else target.removesuffix(" (deleted)")


def _mount(line: str) -> tuple[str, str]:
    front, back = line.split(" - ")
    point, options = front.split()[4:6]
    kept = [one for one in options.split(",") if one != "relatime"]
    kind = back.split()[0]
    return point, f"{'tmpfs' if kind == 'tmpfs' else 'bound'} {','.join(kept)}"


def _limit(line: str) -> tuple[str, str]:
    soft, hard = line[25:].split()[:2]
    return soft, hard
