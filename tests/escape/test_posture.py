"""A live worker, read from outside, equals an exhaustive list: cold, warm, and each of its threads."""

import os
import re
from pathlib import Path

import pytest
import tailcut

from gateway.cgroup.hierarchy import discover
from gateway.contract.table import Limits
from gateway.zygote.groups import CHECKPOINT_BYTES
from gateway.zygote.settings import JailSettings
from tests.escape.posture import Posture, posture, threads
from tests.support.server import Server

FUNCTION = """
import threading
def handler(threads: int):
    for _ in range(threads):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return threading.active_count()
"""
LIBRARY = Path(os.__file__).parent
READ_ONLY = "bound ro,nosuid,nodev"
DEVICE = "bound ro,nosuid,noexec"
SETTINGS = JailSettings()
LIMITS = Limits()
GROUP = "/tailcut-[0-9a-f]+-[0-9]+-[0-9]+/worker-[0-9]+-[0-9]+$"
MAPPED_BYTES_MAX = 256 * 2**20
"""What an interpreter has mapped at most when its function is ready."""
NONE = "0000000000000000"


REWINDERS = {5: "/proc/PID/pagemap", 6: "/proc/PID/maps", 7: "/proc/PID/stat", 8: "/proc/PID/timers",
             9: "/memfd:tailcut-checkpoint", 10: "/dev/null", 11: "/function", 12: "/tmp"}  # fmt: skip
"""What a fresh function's worker has besides: all of it about itself."""


def expected(owner: str, state: str) -> Posture:
    trees = {str(LIBRARY), str(Path(tailcut.__file__).parent), "/usr/lib/x86_64-linux-gnu", "/function"}
    if Path("/usr/share/zoneinfo").is_dir():
        trees.add("/usr/share/zoneinfo")
    hidden = {str(LIBRARY / name) for name in ("site-packages", "dist-packages") if (LIBRARY / name).is_dir()}
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}
    links = {path for path in ("/lib", "/lib64", "/lib32") if Path(path).is_symlink()}
    mounts = {
        "/": "tmpfs ro,nosuid,nodev,noexec",
        "/tmp": "tmpfs rw,nosuid,nodev,noexec",
        **dict.fromkeys(trees, READ_ONLY),
        **dict.fromkeys(hidden, "tmpfs ro,nosuid,nodev,noexec"),
        **dict.fromkeys(devices, DEVICE),
    }
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
    return Posture(
        status={
            "Uid": " ".join([owner] * 4),
            "Gid": " ".join([owner] * 4),
            "Groups": "",
            **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), NONE),
            "NoNewPrivs": "1",
            "Seccomp": "2",
            "Seccomp_filters": "2",
        },
        shared=set(),
        descriptors={
            **dict.fromkeys((0, 1, 2), "/dev/null"),
            3: "socket",
            4: "/memfd:tailcut-body",
            **(REWINDERS if state == "fresh" else {}),
        },
        mounts=mounts,
        limits={name: (str(value), str(value)) for name, value in same.items()}
        | {
            "Max processes": (str(LIMITS.processes_max), str(SETTINGS.threads_max)),
            "Max open files": (str(LIMITS.open_files_max), str(SETTINGS.descriptors_max)),
        },
        uid_map=[["1000", owner, "1"]],
        gid_map=[["1000", owner, "1"]],
        groups=dict.fromkeys(("memory", "pids"), GROUP),
        root=sorted({Path(path).parts[1] for path in (*trees, *devices, *links, "/etc", "/tmp")}),
    )


def start(server: Server, name: str, state: str = "warm", *, network: bool = False) -> int:
    before = server.worker_pids()
    server.deploy(name, FUNCTION, workers_min=1, state=state, network=network)
    # One worker at least on each reactor: any of the new ones will do.
    return min(server.wait_for(lambda: server.worker_pids() - before, what="a worker"))


def judge(found: Posture, state: str = "warm") -> None:
    owner = found.status["Uid"].split()[0]
    assert SETTINGS.uid_min <= int(owner) < SETTINGS.uid_min + SETTINGS.uid_count, "each worker is a user of its own"
    wanted = expected(owner, state)
    others = {name: pair for name, pair in found.limits.items() if name not in wanted.limits}
    judge_memory(others.pop("Max data size"), others.pop("Max address space"), state)
    assert set(others) == {
        "Max stack size", "Max resident set", "Max file locks", "Max realtime timeout",
    }  # fmt: skip
    assert set(found.groups) == set(wanted.groups)
    for path in found.groups.values():
        assert re.search(GROUP, path), path
    for name in ("status", "shared", "descriptors", "mounts", "uid_map", "gid_map", "root"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert {name: found.limits[name] for name in wanted.limits} == wanted.limits


def judge_memory(data: tuple[str, str], address_space: tuple[str, str], state: str) -> None:
    """The soft ones move with the version's bound, above what a worker shares with the zygote; the hard ones stay."""
    assert data[1] == "unlimited"
    reserved_bytes = 0 if state == "warm" else CHECKPOINT_BYTES
    assert 0.9 * LIMITS.memory_bytes < int(data[0]) < LIMITS.memory_bytes + MAPPED_BYTES_MAX + reserved_bytes
    assert address_space[1] == str(SETTINGS.address_space_bytes)
    assert int(address_space[0]) <= SETTINGS.address_space_bytes


def test_a_worker_is_in_control_groups_of_its_own_and_they_bound_it(server: Server) -> None:
    one, two = start(server, "groups-one"), start(server, "groups-two")
    first, second = posture(Path(f"/proc/{one}")), posture(Path(f"/proc/{two}"))
    for controller in ("memory", "pids"):
        assert first.groups[controller] != second.groups[controller]
    for worker, found in ((one, first), (two, second)):
        folders = group_folders(found)
        assert (folders["memory"] / "memory.limit_in_bytes").read_text() == f"{LIMITS.memory_bytes}\n"
        assert (folders["memory"] / "memory.swappiness").read_text() == "0\n"
        assert (folders["pids"] / "pids.max").read_text() == f"{LIMITS.processes_max}\n"
        for folder in folders.values():
            assert (folder / "cgroup.procs").read_text() == f"{worker}\n"
            assert folder.stat().st_uid == 0, "and nobody but root may change them"


def group_folders(found: Posture) -> dict[str, Path]:
    homes = {name: one.mount for one in discover() for name in one.controllers}
    return {name: homes[name] / path.lstrip("/") for name, path in found.groups.items()}


def test_a_cold_and_a_warm_worker_are_jailed_in_every_thread(server: Server) -> None:
    before = server.worker_pids()
    cold = start(server, "posture")
    judge(posture(Path(f"/proc/{cold}")))
    for _ in range(20):
        server.invoke("posture", threads=0)
    assert server.invoke("posture", threads=3).json() >= 4
    warm = [pid for pid in server.worker_pids() - before if len(threads(pid)) >= 4]
    assert warm, "a worker with the function's own threads"
    for pid in warm:
        for thread in threads(pid):
            judge(posture(thread))
        # Not to be looked into by another process of its user: its files in /proc are root's.
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
        assert Path(f"/proc/{pid}/net/dev").read_text().count(":") == 1, "one interface, lo"
        assert Path(f"/proc/{pid}/net/route").read_text().count("\n") <= 1


def test_a_fresh_worker_has_the_rewinders_descriptors_besides_and_no_view_of_physical_memory(server: Server) -> None:
    judge(posture(Path(f"/proc/{start(server, 'posture-fresh', 'fresh')}")), "fresh")
    server.deploy("frames", FRAMES, state="fresh")
    assert server.invoke("frames").json() == 0
    # The control: who has the right sees them.
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek((id(FRAMES) >> 12) * 8)
        assert int.from_bytes(pagemap.read(8), "little") & PHYSICAL != 0


def test_a_worker_with_a_network_has_one_interface_and_nothing_else_besides(server: Server) -> None:
    for state in ("warm", "fresh"):
        worker = start(server, f"posture-network-{state}", state, network=True)
        judge(posture(Path(f"/proc/{worker}")), state)
        assert Path(f"/proc/{worker}/net/dev").read_text().count(":") == 1
        assert Path(f"/proc/{worker}/net/route").read_text().count("\n") <= 1
        # One socket listens: 127.0.0.1:3128, and it is not among the worker's descriptors.
        (listening,) = [line.split() for line in Path(f"/proc/{worker}/net/tcp").read_text().splitlines()[1:]]
        assert listening[1] == "0100007F:0C38"
    # The control: without one nothing listens.
    worker = start(server, "posture-no-network")
    assert len(Path(f"/proc/{worker}/net/tcp").read_text().splitlines()) == 1


PHYSICAL = (1 << 55) - 1
FRAMES = """
import os
def handler():
    page = int.from_bytes(os.pread(5, 8, (id(handler) >> 12) * 8), "little")
    assert page >> 63, "the page is there"
    return page & ((1 << 55) - 1)
"""


def test_two_workers_share_neither_user_nor_namespaces(server: Server) -> None:
    one, two = start(server, "posture-one"), start(server, "posture-two")
    first, second = posture(Path(f"/proc/{one}")), posture(Path(f"/proc/{two}"))
    assert first.status["Uid"] != second.status["Uid"]
    for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
        assert Path(f"/proc/{one}/ns/{name}").readlink() != Path(f"/proc/{two}/ns/{name}").readlink(), name


def test_control_a_worker_without_the_jail_is_found_out(own_server) -> None:
    server = own_server(jail="off")
    with pytest.raises(AssertionError):
        judge(posture(Path(f"/proc/{start(server, 'posture')}")))
    assert "WORKERS ARE NOT FULLY JAILED" in (server.log_dir / "gateway.log").read_text()
    assert "WORKERS ARE NOT JAILED" in (server.log_dir / "zygote.log").read_text()
