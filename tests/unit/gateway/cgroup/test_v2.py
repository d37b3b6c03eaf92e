"""The v2 back end on a faked tree: who hands down which controller, what is written where, and what is swept."""

import errno
import os
from pathlib import Path

import pytest

from gateway.cgroup.bounds import Bounds
from gateway.cgroup.hierarchy import OWN_LEAF, Hierarchy, discover
from gateway.cgroup.instance import Instance, instance_name, leftover_count, sweep_dead
from tests.support.fake_cgroups import FakeKernel

WANTED = ("memory", "pids")


def _process(tmp_path: Path, own: str, mount: Path, root: str = "/") -> Path:
    folder = tmp_path / "self"
    folder.mkdir()
    (folder / "cgroup").write_text(f"0::{own}\n")
    (folder / "mountinfo").write_text(
        f"31 23 0:28 / /sys/fs rw,relatime - tmpfs tmpfs rw\n"
        f"41 31 0:38 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    return folder


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "cgroup", WANTED)


def _root(kernel: FakeKernel) -> list[Hierarchy]:
    return [Hierarchy(2, frozenset(WANTED), kernel.root, kernel.root)]


def test_our_own_group_and_its_controllers_are_found(tmp_path: Path, kernel: FakeKernel) -> None:
    kernel.write(kernel.root / "cgroup.subtree_control", "+memory")
    kernel.make(kernel.root / "service")
    found = discover(_process(tmp_path, "/service", kernel.root), kernel)
    assert found == [Hierarchy(2, frozenset({"memory"}), kernel.root, kernel.root / "service")]


def test_where_only_a_part_of_the_hierarchy_is_mounted(tmp_path: Path, kernel: FakeKernel) -> None:
    found = discover(_process(tmp_path, "/docker/abc", kernel.root, root="/docker/abc"), kernel)
    assert found == [Hierarchy(2, frozenset(WANTED), kernel.root, kernel.root)]


def test_from_the_leaf_of_our_own_processes_home_is_the_group_above(tmp_path: Path, kernel: FakeKernel) -> None:
    kernel.write(kernel.root / "cgroup.subtree_control", "+memory +pids")
    kernel.make(kernel.root / "service")
    assert discover(_process(tmp_path, f"/service/{OWN_LEAF}", kernel.root), kernel)[0].home == kernel.root / "service"


def test_a_worker_group_is_bounded_entered_read_and_removed(kernel: FakeKernel) -> None:
    instance = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel)
    assert instance.missing == {}
    group = instance.worker_group()
    group.bound(Bounds(memory_bytes=64 * 2**20, pids_max=20))
    folder = group.folders["memory"]
    assert folder == group.folders["pids"]
    assert group.read("memory", "memory.max") == str(64 * 2**20)
    assert group.read("memory", "memory.swap.max") == "0"
    assert group.read("memory", "memory.oom.group") == "1"
    assert group.read("pids", "pids.max") == "20"
    kernel.pid = 4711
    group.enter()
    assert group.processes() == [4711]
    (folder / "memory.peak").write_text("1048576\n")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n")
    assert (group.memory_peak_bytes(), group.oom_kills()) == (1048576, 1)
    instance.remove(group)
    assert folder.exists(), "somebody was in it"
    kernel.place(kernel.root, 4711)
    instance.remove(instance.worker_group())
    assert not folder.exists()
    instance.close()
    assert kernel.groups(kernel.root) == []


def test_bounds_are_written_before_anybody_is_in_the_group(kernel: FakeKernel) -> None:
    group = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel).worker_group()
    kernel.log.clear()
    group.bound(Bounds(memory_bytes=2**20, pids_max=4))
    group.enter()
    assert [file.rpartition("/")[2] for file, _text in kernel.log] == [
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "pids.max",
        "cgroup.procs",
    ]


def test_a_kernel_without_swap_accounting_loses_that_only(kernel: FakeKernel) -> None:
    group = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel).worker_group()
    (group.folders["memory"] / "memory.swap.max").unlink()
    group.bound(Bounds(memory_bytes=2**20))
    assert group.read("memory", "memory.oom.group") == "1"
    (group.folders["memory"] / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        group.bound(Bounds(memory_bytes=2**20))


def _service(kernel: FakeKernel) -> Hierarchy:
    kernel.write(kernel.root / "cgroup.subtree_control", "+memory +pids")
    service = kernel.root / "service"
    kernel.make(service)
    for pid in (100, 101):
        kernel.place(service, pid)
    return Hierarchy(2, frozenset(WANTED), kernel.root, service)


def test_in_a_delegated_group_our_own_processes_make_room(kernel: FakeKernel) -> None:
    hierarchy = _service(kernel)
    kernel.marks[hierarchy.home, "trusted.delegate"] = b"1"
    instance = Instance.open("tailcut-1-2-3", [hierarchy], WANTED, kernel)
    assert instance.missing == {}
    assert (hierarchy.home / OWN_LEAF / "cgroup.procs").read_text().split() == ["100", "101"]
    instance.worker_group().bound(Bounds(memory_bytes=2**20))


def test_in_a_group_that_is_not_ours_nobody_is_moved_and_it_is_said(kernel: FakeKernel) -> None:
    hierarchy = _service(kernel)
    instance = Instance.open("tailcut-1-2-3", [hierarchy], WANTED, kernel)
    assert set(instance.missing) == set(WANTED)
    assert "busy" in instance.missing["memory"]
    assert (hierarchy.home / "cgroup.procs").read_text().split() == ["100", "101"]


def test_a_controller_that_is_not_there_is_said(kernel: FakeKernel) -> None:
    instance = Instance.open("tailcut-1-2-3", _root(kernel), (*WANTED, "cpu"), kernel)
    assert instance.missing == {"cpu": "no mounted hierarchy of control groups has it"}
    assert set(instance.worker_group().folders) == set(WANTED)


def test_dead_servers_groups_are_swept_and_living_ones_are_not(kernel: FakeKernel) -> None:
    hierarchies = _root(kernel)
    namespace = instance_name(os.getpid()).split("-")[1]
    dead = Instance.open(f"tailcut-{namespace}-{os.getpid()}-1", hierarchies, WANTED, kernel)
    living = Instance.open(instance_name(os.getpid()), hierarchies, WANTED, kernel)
    elsewhere = Instance.open("tailcut-1-2-3", hierarchies, WANTED, kernel)
    for instance in (dead, living, elsewhere):
        instance.worker_group()
    kernel.make(kernel.root / "somebody-elses")
    assert leftover_count(hierarchies, kernel) == 1
    assert sweep_dead(hierarchies, kernel) == []
    left = {folder.name for folder in kernel.groups(kernel.root)}
    assert left == {living.name, elsewhere.name, "somebody-elses"}
    assert len(kernel.groups(living.parents["memory"])) == 1


def test_a_new_zygote_of_the_same_server_keeps_groups_that_somebody_is_in(kernel: FakeKernel) -> None:
    first = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel)
    busy, idle = first.worker_group(), first.worker_group()
    kernel.pid = 7
    busy.enter()
    second = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel)
    assert second.sweep() == 1
    assert busy.folders["memory"].exists()
    assert not idle.folders["memory"].exists()
    kernel.place(kernel.root, 7)
    second.remove(second.group("worker-of-mine"))
    assert not busy.folders["memory"].exists()


def test_a_group_that_cannot_be_made_leaves_nothing(kernel: FakeKernel) -> None:
    instance = Instance.open("tailcut-1-2-3", _root(kernel), WANTED, kernel)
    instance.group("twice")
    with pytest.raises(OSError, match="exists") as caught:
        instance.group("twice")
    assert caught.value.errno == errno.EEXIST
