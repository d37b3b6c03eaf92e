"""Memory of every kind ends at the version's bound: with a MemoryError where the code could be told, and with the death
of that worker alone where not. Each kind has a control: the same code within a larger bound answers."""

from typing import Any

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

MIB = 2**20
BOUND = 64 * MIB
ROOMY = 1024 * MIB
MODULE = """
import ctypes, mmap, os, socket, threading
MIB = 2**20
held = []

def objects():
    return len([object() for _ in range(6_000_000)])

def one_block():
    return len(bytearray(100 * MIB))

def blocks():
    return len([bytearray(MIB) for _ in range(100)])

def text():
    return len("x" * (100 * MIB))

def allocated():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for _ in range(100):
        block = libc.malloc(MIB)
        if not block:
            raise MemoryError("malloc")
        ctypes.memset(block, 1, MIB)
    return 100

def mapped():
    return fill(mmap.mmap(-1, 100 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

def mapped_shared():
    return fill(mmap.mmap(-1, 100 * MIB))

def fill(area):
    for at in range(0, len(area), 4096):
        area[at] = 1
    return len(area)

def files():
    with open("/tmp/file", "wb") as file:
        for _ in range(100):
            file.write(b"x" * MIB)
    os.unlink("/tmp/file")
    return 100

def shared_files():
    with open("/dev/shm/file", "w+b") as file:
        file.truncate(100 * MIB)
        filled = fill(mmap.mmap(file.fileno(), 100 * MIB))
    os.unlink("/dev/shm/file")
    return filled

def stacks():
    done = threading.Event()
    def burn():
        area = (ctypes.c_char * (2 * MIB))()
        ctypes.memset(area, 1, 2 * MIB)
        done.wait(20)
    threads = [threading.Thread(target=burn, daemon=True) for _ in range(50)]
    for thread in threads:
        thread.start()
    count = threading.active_count()
    done.set()
    for thread in threads:
        thread.join()
    return count

def sockets():
    total = 0
    for _ in range(400):
        for one in (pair := socket.socketpair()):
            one.setblocking(False)
            try:
                while True:
                    total += one.send(b"x" * 65536)
            except BlockingIOError:
                pass
        held.append(pair)
    held.clear()
    return total

def page_tables():
    # One page of each 2 MiB, all the same one of zeros: what this costs is the tables.
    area = mmap.mmap(-1, 4 * 1024 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE,
                     prot=mmap.PROT_READ)
    for at in range(0, len(area), 2 * MIB):
        area[at]
    return len(area)

def all_together():
    # None of them is too much by itself.
    kept = [bytearray(30 * MIB), mmap.mmap(-1, 20 * MIB)]
    fill(kept[1])
    with open("/tmp/part", "wb") as file:
        for _ in range(30):
            file.write(b"x" * MIB)
    os.unlink("/tmp/part")
    return len(kept)

def nothing():
    return "served"

def handler(kind: str):
    return globals()[kind]()
"""
TOLD = ("objects", "one_block", "blocks", "text", "allocated", "mapped", "page_tables")
KILLED = ("mapped_shared", "files", "shared_files", "sockets", "all_together")
LIMITS = {"tmp_bytes": 256 * MIB, "processes_max": 64, "open_files_max": 1_000, "timeout_ms": 30_000, "cpu_ms": 30_000}


@pytest.fixture
def bounded(deploy: Deploy) -> str:
    return deploy(MODULE, memory_bytes=BOUND, **LIMITS)


def call(server: Server, name: str, kind: str) -> tuple[int, dict[str, Any], int]:
    answer = server.invoke(name, kind=kind)
    return answer.status_code, answer.json(), int(answer.headers["Tailcut-Memory-Bytes"])


@pytest.mark.parametrize("kind", [*TOLD, *KILLED])
def test_what_does_not_fit_is_refused_and_its_caller_is_told(server: Server, bounded: str, kind: str) -> None:
    status, problem, measured = call(server, bounded, kind)
    assert (status, problem["type"].rpartition("/")[2], problem["limit"]) == (500, "memory-limit", "memory"), problem
    assert problem["allowed_bytes"] == BOUND
    assert 0 < problem["used_bytes"] == measured <= BOUND
    if kind in TOLD:
        assert kind in problem["traceback"], "where it was, for the owner"
    if kind in KILLED:
        assert "traceback" not in problem
        assert measured > 0.9 * BOUND
    assert call(server, bounded, "nothing")[1] == "served", "the next call is served"


@pytest.mark.parametrize("kind", sorted({*TOLD, *KILLED} - {"page_tables"}))
def test_control_with_room_the_same_code_answers(server: Server, deploy: Deploy, kind: str) -> None:
    status, body, measured = call(server, deploy(MODULE, memory_bytes=ROOMY, **LIMITS), kind)
    assert status == 200, body
    assert measured > BOUND


def test_page_tables_are_bounded_by_what_may_be_mapped(server: Server, deploy: Deploy) -> None:
    status, body, measured = call(server, deploy(MODULE, memory_bytes=8 * 1024 * MIB, **LIMITS), "page_tables")
    assert (status, measured > 8 * MIB) == (200, True), f"the control: {body}"


def test_stacks_of_threads_are_memory_too(server: Server, bounded: str, deploy: Deploy) -> None:
    status, problem, measured = call(server, bounded, "stacks")
    assert (status, problem["error"]["message"]) == (500, "can't start new thread")
    assert measured <= BOUND
    assert call(server, deploy(MODULE, memory_bytes=ROOMY, **LIMITS), "stacks")[:2] == (200, 51), "the control"


def test_an_import_that_is_too_large_is_a_failed_start_with_the_reason(server: Server) -> None:
    told = server.deploy(
        "memory-import", "x = bytearray(100 * 2**20)\ndef handler(): return 1", memory_bytes=BOUND, expect="failed"
    )
    assert told.error is not None
    assert told.error["type"] == "MemoryError"
    killed = server.deploy("memory-import-2", IMPORT, memory_bytes=BOUND, expect="failed")
    assert killed.error is not None
    assert "memory_bytes" in killed.error["message"]
    server.deploy("memory-import-3", IMPORT, memory_bytes=ROOMY)


IMPORT = """
import mmap
area = mmap.mmap(-1, 100 * 2**20)
for at in range(0, len(area), 4096):
    area[at] = 1
def handler():
    return 1
"""
