"""A worker may get the network namespace of one that has ended: never one in use, never ours; and it is empty."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.contract.worker import SpawnSpec
from gateway.zygote.networks import Networks
from tests.support import frames

PLAIN = SpawnSpec("a", "b", "c", "/", "")
OURS = os.readlink("/proc/self/ns/net")  # noqa: PTH115 (not a path, a name)
LEAVES = "import os; os.unshare(os.CLONE_NEWNET); print(flush=True); input()"


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frames.Connection]:
    folder = tmp_path_factory.mktemp("networks")
    with frames.Zygote(folder) as zygote:
        connection = zygote.connect()
        yield connection
        connection.close()


@pytest.fixture
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "main.py").write_text("def handler():\n    return 1\n")
    for path in (folder.parent, folder):
        path.chmod(0o755)
    return folder


def begin(connection: frames.Connection, code: Path) -> frames.Worker:
    worker = connection.spawn(code, "main:handler")
    assert worker.first_word().kind == "ready"
    return worker


def end(connection: frames.Connection, worker: frames.Worker) -> None:
    worker.close()
    connection.exit_of(worker)


def namespace(worker: frames.Worker) -> str:
    return os.readlink(f"/proc/{worker.pid}/ns/net")  # noqa: PTH115


def test_of_workers_that_live_each_has_its_own(connection: frames.Connection, code: Path) -> None:
    first = begin(connection, code)
    ended = namespace(first)
    end(connection, first)
    alive = [begin(connection, code) for _ in range(3)]
    found = [namespace(worker) for worker in alive]
    assert len({*found, OURS}) == len(alive) + 1
    assert ended in found, "and one of them has that of the one that has ended"
    for worker in alive:
        network = Path(f"/proc/{worker.pid}/net")
        assert [line.split(":")[0].strip() for line in (network / "dev").read_text().splitlines()[2:]] == ["lo"]
        assert not any(int(count) for count in (network / "dev").read_text().splitlines()[2].split(":")[1].split())
        assert (network / "route").read_text().count("\n") <= 1
        assert (network / "tcp").read_text().count("\n") == 1
        assert worker.call().json == 1
        end(connection, worker)


def test_ours_is_nobodys_and_one_with_a_network_leaves_nothing() -> None:
    networks = Networks(os.stat("/proc/self/ns/net").st_ino)  # noqa: PTH116
    networked = SpawnSpec("a", "b", "c", "/", "", network=True)
    stays = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    leaves = subprocess.Popen([sys.executable, "-c", LEAVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert leaves.stdout is not None
        leaves.stdout.readline()
        assert networks.of_worker(stays.pid, PLAIN) is None
        assert networks.of_worker(leaves.pid, networked) is None
        assert Networks(None).of_worker(leaves.pid, PLAIN) is None
        # The control: of one that has left there is one, and a version with a network does not get it.
        networks.give(networks.of_worker(leaves.pid, PLAIN))
        assert networks.take(networked) is None
        fd = networks.take(PLAIN)
        assert fd is not None
        assert networks.take(PLAIN) is None
        os.close(fd)
    finally:
        for process in (stays, leaves):
            process.kill()
            process.wait()
