"""A live worker, read from outside, equals an exhaustive list: cold, warm, and each of its threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.cgroup.hierarchy import discover
from tests.escape.expected import LIMITS, Case, judge
from tests.escape.posture import CAN_ASK, Posture, posture, threads
from tests.sched import kernel
from tests.sched.conftest import RESERVED_CPU, wait_for_no_partition
from tests.sched.conftest import start as start_scheduled
from tests.support.server import Server

FUNCTION = """
import threading
def handler(threads: int):
    for _ in range(threads):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return threading.active_count()
"""
SLEEPS = """
import threading, time
def handler(seconds: float):
    threading.Thread(target=time.sleep, args=(seconds,)).start()
    time.sleep(seconds)
    return "slept"
"""


def start(server: Server, name: str, state: str = "warm", *, network: bool = False, jailed: bool = True) -> int:
    before = server.worker_pids()
    server.deploy(name, FUNCTION, workers_min=1, state=state, network=network)

    # One worker at least on each reactor: any of the new ones will do that has started (a start that burns is demoted).
    def ready() -> set[int]:
        return {pid for pid in server.worker_pids() - before if is_ready(pid, filters=2 if jailed else 0)}

    return min(server.wait_for(ready, what="a worker"))


def is_ready(pid: int, filters: int) -> bool:
    """It waits for calls."""
    seen = kernel.scheduling(pid)
    status = Path(f"/proc/{pid}/status").read_text()
    return (
        seen is not None
        and seen.policy != kernel.IDLE
        and "State:\tS" in status
        and f"Seccomp_filters:\t{filters}\n" in status
    )


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
    judge(posture(Path(f"/proc/{start(server, 'posture-fresh', 'fresh')}")), Case("fresh"))
    server.deploy("frames", FRAMES, state="fresh")
    assert server.invoke("frames").json() == 0
    # The control: who has the right sees them.
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek((id(FRAMES) >> 12) * 8)
        assert int.from_bytes(pagemap.read(8), "little") & PHYSICAL != 0


def test_a_worker_with_a_network_has_one_interface_and_nothing_else_besides(server: Server) -> None:
    for state in ("warm", "fresh"):
        worker = start(server, f"posture-network-{state}", state, network=True)
        judge(posture(Path(f"/proc/{worker}")), Case(state))
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


def test_a_forked_worker_and_the_process_of_its_call_are_jailed_in_every_thread(server: Server) -> None:
    worker = start(server, "posture-forked", "forked")
    judge(posture(Path(f"/proc/{worker}")), Case("forked"))
    server.deploy("posture-call", SLEEPS, state="forked", timeout_ms=60_000)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.invoke, "posture-call", seconds=3)
        process = server.wait_for(lambda: sleeper(server), what="the process of the call")
        for thread in threads(process):
            judge(posture(thread), Case("call"))
        assert call.result().json() == "slept", "and being looked at has not changed its call"


def sleeper(server: Server) -> int | None:
    """The process of a call: not the first of a PID namespace, and with the thread that its function starts."""
    for pid in server.worker_pids():
        numbers = Path(f"/proc/{pid}/status").read_text().partition("\nNSpid:")[2].split("\n")[0].split()
        if len(numbers) > 1 and numbers[-1] != "1" and len(threads(pid)) > 1:
            return pid
    return None


def test_a_worker_under_a_reservation_has_its_cpu_its_class_and_the_same_jail(tmp_path: Path) -> None:
    wait_for_no_partition()
    scheduled = start_scheduled(tmp_path / "server")
    try:
        scheduled.server.deploy("posture", FUNCTION, state="warm")
        scheduled.reserve(20_000)
        scheduled.settled("posture", threads=0)
        if not scheduled.can:
            assert scheduled.deadline_workers() == set()
            return
        assert scheduled.sched("posture", threads=2) == "deadline"
        (worker,) = scheduled.deadline_workers()
        case = Case(reserved_cpu=RESERVED_CPU, reservation=(20_000, 100_000))
        assert len(threads(worker)) >= 3
        for thread in threads(worker):
            judge(posture(thread), replace(case, serves=int(thread.name) == worker))
        # Controls: neither is it one without a reservation, nor one with another.
        for other in (Case(), replace(case, reservation=(10_000, 100_000)), replace(case, serves=False)):
            with pytest.raises(AssertionError):
                judge(posture(Path(f"/proc/{worker}")), other)
    finally:
        scheduled.server.stop()


def test_control_each_thing_that_is_read_is_judged(server: Server) -> None:
    """A worker that differs in one of them is found out, whichever it is."""
    found = posture(Path(f"/proc/{start(server, 'posture-judged')}"))
    judge(found)
    for field in fields(Posture):
        if field.name == "kept" and not CAN_ASK:
            continue
        for other in perturbed(getattr(found, field.name)):
            with pytest.raises(AssertionError):
                judge(replace(found, **{field.name: other}))


def perturbed(value: Any) -> Iterator[Any]:
    """The same but for one thing, for each thing in it."""
    match value:
        case kernel.Scheduling():
            yield from (replace(value, policy=kernel.BATCH), replace(value, nice=-1), replace(value, period_us=1))
        case dict():
            for name in value:
                yield {key: one for key, one in value.items() if key != name}
                yield value | {name: ("1", "1") if isinstance(value[name], tuple) else "other"}
            yield value | {"another": "one"}
        case set():
            yield value | {"net"}
        case list():
            yield [*value, "another"]
            for index in range(len(value)):
                yield [*value[:index], *value[index + 1 :]]
        case int():
            yield value + 1
        case str():
            yield value + "x"


def test_control_a_worker_without_the_jail_is_found_out(own_server) -> None:
    server = own_server(jail="off")
    with pytest.raises(AssertionError):
        judge(posture(Path(f"/proc/{start(server, 'posture', jailed=False)}")))
    assert "WORKERS ARE NOT FULLY JAILED" in (server.log_dir / "gateway.log").read_text()
    assert "WORKERS ARE NOT JAILED" in (server.log_dir / "zygote.log").read_text()
