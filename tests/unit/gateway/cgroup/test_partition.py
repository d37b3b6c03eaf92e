"""Partitions of both back ends on faked trees: what is written in which order, refused, and put back by whom."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from gateway.cgroup.bounds import Bounds
from gateway.cgroup.files import Files
from gateway.cgroup.hierarchy import Hierarchy
from gateway.cgroup.instance import Instance, instance_name
from gateway.cgroup.partition import (
    FORMER,
    REST,
    Partitions,
    cpus_of,
    dead_partition_count,
    release,
    sweep_dead_partitions,
    why_not,
)
from tests.support.fake_cgroups import FakeKernel

ALIVE = instance_name(os.getpid())
OTHER = instance_name(os.getppid())
DEAD = "tailcut-1-2-3".replace("-1-", f"-{ALIVE.split('-')[1]}-")


class FakeV1(Files):
    """A root CPU set with four CPUs, and the rule that exclusive neighbours do not overlap."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marks: dict[tuple[Path, str], bytes] = {}
        root.mkdir()
        self._fill(root)
        for name, content in (("cpus", "0-3"), ("mems", "0"), ("sched_load_balance", "1"), ("cpu_exclusive", "1")):
            (root / f"cpuset.{name}").write_text(f"{content}\n")

    def make(self, folder: Path) -> None:
        folder.mkdir()
        self._fill(folder)

    def remove(self, folder: Path) -> None:
        if not folder.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        if (folder / "cgroup.procs").read_text().strip():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))
        shutil.rmtree(folder)

    def write(self, file: Path, text: str) -> None:
        before = file.read_text()
        file.write_text(text)
        for one in self.groups(self.root):
            exclusive = (one / "cpuset.cpu_exclusive").read_text().strip() == "1"
            for other in self.groups(self.root):
                if one != other and exclusive and self._cpus(one) & self._cpus(other):
                    file.write_text(before)
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(file))

    def mark(self, folder: Path, name: str) -> bytes:
        return self.marks.get((folder, name), b"")

    def note(self, folder: Path, name: str, value: bytes) -> None:
        self.marks[folder, name] = value

    def unnote(self, folder: Path, name: str) -> None:
        del self.marks[folder, name]

    def balance(self) -> str:
        return (self.root / "cpuset.sched_load_balance").read_text().strip()

    def rest(self) -> set[int]:
        return self._cpus(self.root / REST)

    def hierarchies(self) -> list[Hierarchy]:
        return [Hierarchy(1, frozenset({"cpuset"}), self.root, self.root)]

    @staticmethod
    def _cpus(folder: Path) -> set[int]:
        return cpus_of((folder / "cpuset.cpus").read_text())

    @staticmethod
    def _fill(folder: Path) -> None:
        contents = {"cpus": "", "mems": "", "sched_load_balance": "1", "cpu_exclusive": "0"}
        for name, content in contents.items():
            (folder / f"cpuset.{name}").write_text(content)
        (folder / "cgroup.procs").write_text("")


@pytest.fixture
def v1(tmp_path: Path) -> FakeV1:
    return FakeV1(tmp_path / "cpuset")


def test_v1_the_last_partition_of_whichever_server_puts_the_root_back(v1: FakeV1) -> None:
    first, second = Partitions.of(ALIVE, v1.hierarchies(), v1), Partitions.of(OTHER, v1.hierarchies(), v1)
    folder = first.take(3).folders["cpuset"]
    assert (folder / "cpuset.cpu_exclusive").read_text() == "1"
    assert (v1.balance(), v1.rest()) == ("0", {0, 1, 2})
    second.take(1)
    assert v1.rest() == {0, 2}
    assert first.tidy() == 0
    assert (v1.balance(), v1.rest()) == ("0", {0, 2, 3})
    assert second.tidy() == 0
    assert v1.balance() == "1"
    assert v1.groups(v1.root) == []
    assert v1.marks == {}


def test_v1_a_root_that_was_not_balanced_stays_so(v1: FakeV1) -> None:
    (v1.root / "cpuset.sched_load_balance").write_text("0")
    partitions = Partitions.of(ALIVE, v1.hierarchies(), v1)
    partitions.take(2)
    partitions.tidy()
    assert v1.balance() == "0"
    assert v1.mark(v1.root, FORMER) == b""


def test_v1_a_cpu_that_another_group_uses_is_refused_and_nothing_is_left(v1: FakeV1) -> None:
    v1.make(v1.root / "somebody")
    v1.write(v1.root / "somebody" / "cpuset.cpus", "2-3")
    partitions = Partitions.of(ALIVE, v1.hierarchies(), v1)
    with pytest.raises(OSError, match="CPU 3 cannot be reserved"):
        partitions.take(3)
    assert partitions.taken == {}
    assert [folder.name for folder in v1.groups(v1.root)] == ["somebody"]
    assert v1.balance() == "1"


def test_v1_with_somebody_in_it_a_partition_stays_and_is_found_again(v1: FakeV1) -> None:
    partitions = Partitions.of(ALIVE, v1.hierarchies(), v1)
    folder = partitions.take(3).folders["cpuset"]
    (folder / "cgroup.procs").write_text("4242\n")
    assert partitions.tidy() == 1
    assert Partitions.of(ALIVE, v1.hierarchies(), v1).taken == {3: folder}
    assert Partitions.of(OTHER, v1.hierarchies(), v1).taken == {}
    (folder / "cgroup.procs").write_text("")
    assert partitions.tidy() == 0


def test_what_the_dead_left_is_swept_and_the_living_keep_theirs(v1: FakeV1) -> None:
    Partitions.of(DEAD, v1.hierarchies(), v1).take(3)
    Partitions.of(ALIVE, v1.hierarchies(), v1).take(2)
    assert dead_partition_count(v1.hierarchies(), v1) == 1
    assert sweep_dead_partitions(v1.hierarchies(), v1) == []
    assert (v1.balance(), v1.rest()) == ("0", {0, 1, 3})
    assert release(ALIVE, v1.hierarchies(), v1) == []
    assert v1.balance() == "1"


def test_a_server_outside_the_root_set_cannot_reserve(v1: FakeV1) -> None:
    v1.make(v1.root / "service")
    inside = Hierarchy(1, frozenset({"cpuset"}), v1.root, v1.root / "service")
    assert "only one in the root set" in (why_not(inside, v1) or "")
    assert "has cpuset" in (why_not(None) or "")
    with pytest.raises(OSError, match="only one in the root set"):
        Partitions.of(ALIVE, [inside], v1).take(1)


def test_v2_a_partition_is_asked_for_and_given_back(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path / "cgroup", ("cpuset", "memory"))
    hierarchies = [Hierarchy(2, frozenset({"cpuset", "memory"}), kernel.root, kernel.root)]
    partitions = Partitions.of(ALIVE, hierarchies, kernel)
    group = partitions.take(1)
    folder = group.folders["cpuset"]
    written = [(name.rpartition("/")[2], text) for name, text in kernel.log]
    assert written == [
        ("cgroup.subtree_control", "+cpuset"),
        ("cpuset.cpus", "1"),
        ("cpuset.cpus.partition", "root"),
    ]
    group.enter()
    assert (folder / "cgroup.procs").read_text() == str(kernel.pid)
    assert partitions.tidy() == 1
    kernel.place(kernel.root, kernel.pid)
    assert partitions.tidy() == 0
    assert not folder.exists()


def test_v2_a_workers_own_group_lies_in_the_partition_with_all_its_bounds(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path / "cgroup", ("cpuset", "memory", "pids", "cpu"))
    hierarchies = [Hierarchy(2, frozenset({"cpuset", "memory", "pids", "cpu"}), kernel.root, kernel.root)]
    kernel.write(kernel.root / "cgroup.subtree_control", "+cpu")
    instance = Instance.open(ALIVE, hierarchies, ("memory", "pids"), kernel)
    partitions = Partitions.of(ALIVE, hierarchies, kernel)
    partition = partitions.take(1).folders["cpuset"]
    group = instance.worker_group(partition)
    group.bound(Bounds(memory_bytes=2**26, pids_max=9, cpu_quota_us=20_000, cpu_period_us=100_000))
    (folder,) = set(group.folders.values())
    assert folder.parent == partition
    assert [(folder / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")] == [
        "67108864",
        "9",
        "20000 100000",
    ]
    group.enter()
    assert partitions.tidy() == 1
    kernel.place(kernel.root, kernel.pid)
    instance.remove(group)
    assert partitions.tidy() == 0


def test_v2_a_partition_that_the_kernel_calls_invalid_is_refused_with_its_reason(tmp_path: Path) -> None:
    class Refusing(FakeKernel):
        def write(self, file: Path, text: str) -> None:
            super().write(file, text)
            if file.name == "cpuset.cpus.partition":
                file.write_text("root invalid (Cpu list in cpuset.cpus not exclusive)\n")

    kernel = Refusing(tmp_path / "cgroup", ("cpuset",))
    hierarchies = [Hierarchy(2, frozenset({"cpuset"}), kernel.root, kernel.root)]
    partitions = Partitions.of(ALIVE, hierarchies, kernel)
    with pytest.raises(OSError, match="not exclusive"):
        partitions.take(1)
    assert kernel.groups(kernel.root) == []


def test_cpu_lists_are_the_kernels() -> None:
    assert cpus_of("0,2-3\n") == {0, 2, 3}
    assert cpus_of("\n") == set()
