"""/tmp has the version's size and a bounded number of files; threads and processes are bounded together."""

import pytest

from tests.limits.conftest import Deploy
from tests.support.server import Server

MIB = 2**20
FILL = """
import os
def handler(size: int):
    written, files = 0, []
    try:
        while written < size:
            files.append(os.open(f"/tmp/{len(files)}", os.O_CREAT | os.O_WRONLY))
            for _ in range(16):
                written += os.write(files[-1], b"x" * 65536)
    except OSError as error:
        return [error.errno, written]
    finally:
        for number, file in enumerate(files):
            os.close(file)
            os.unlink(f"/tmp/{number}")
    return [0, written]
"""
FILES = """
import os
def handler(count: int):
    made = 0
    try:
        for made in range(count):
            open(f"/tmp/{made}", "x").close()
    except OSError as error:
        return [error.errno, made]
    finally:
        for one in range(made):
            os.unlink(f"/tmp/{one}")
    return [0, made]
"""
THREADS = """
import threading
def handler(count: int):
    done = threading.Event()
    started = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        return [str(error), threading.active_count()]
    finally:
        done.set()
        for thread in started:
            thread.join()
    return ["", count]
"""
FORKS = """
import os, time
def handler(count: int):
    pids = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            pids.append(pid)
        return ["", len(pids)]
    except OSError as error:
        return [error.strerror, len(pids)]
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
"""
ENOSPC = 28


@pytest.mark.parametrize(("tmp_bytes", "error"), [(8 * MIB, ENOSPC), (64 * MIB, 0)])
def test_tmp_has_the_size_that_the_version_asks_for(server: Server, deploy: Deploy, tmp_bytes: int, error: int) -> None:
    found, written = server.invoke(deploy(FILL, tmp_bytes=tmp_bytes), size=32 * MIB).json()
    assert found == error
    assert written == (tmp_bytes if error else 32 * MIB)


@pytest.mark.parametrize(("count", "error"), [(10_000, ENOSPC), (1_000, 0)])
def test_tmp_has_a_bounded_number_of_files(server: Server, deploy: Deploy, count: int, error: int) -> None:
    found, _made = server.invoke(deploy(FILES, timeout_ms=20_000, cpu_ms=20_000), count=count).json()
    assert found == error


@pytest.mark.parametrize(("processes_max", "error"), [(8, "can't start new thread"), (64, "")])
def test_threads_are_bounded_by_the_versions_number(
    server: Server, deploy: Deploy, processes_max: int, error: str
) -> None:
    name = deploy(THREADS, processes_max=processes_max, memory_bytes=512 * MIB)
    found, running = server.invoke(name, count=30).json()
    assert found == error
    assert running == (30 if not error else processes_max)


@pytest.mark.parametrize(("processes_max", "error"), [(8, "Resource temporarily unavailable"), (64, "")])
def test_a_fork_bomb_ends_at_the_versions_number(
    server: Server, deploy: Deploy, processes_max: int, error: str
) -> None:
    name = deploy(FORKS, processes_max=processes_max, processes=True, memory_bytes=512 * MIB, timeout_ms=20_000)
    found, running = server.invoke(name, count=30).json()
    assert found == error
    assert running == (30 if not error else processes_max - 1)
