"""The zygote: who is forked, refused, reaped and killed, and who survives whom."""

import contextlib
import errno
import json
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from tests.support.frames import SPAWN, Zygote, wait_until
from tests.support.server import is_template

HELLO = "def handler():\n    return 'hello'\n"
HANG = "import time\ndef handler():\n    print('in')\n    time.sleep(600)\n"


def test_it_has_one_thread_and_leaves_no_zombies(zygote, start, connection):
    worker = start(HELLO)
    assert "\nThreads:\t1\n" in Path(f"/proc/{zygote.process.pid}/status").read_text()
    worker.channel.close()
    assert connection.exit_of(worker) == 0
    wait_until(lambda: not Path(f"/proc/{worker.pid}").exists())


def test_a_worker_ends_when_its_channel_is_closed(start, connection):
    worker = start(HELLO)
    assert worker.invoke().json == "hello"
    worker.channel.close()
    assert worker.ended()
    assert connection.exit_of(worker) == 0


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", None),
        (b"garbage", "7 bytes"),
        (SPAWN.pack(0, 16, 5, 0, 0), "magic"),
        (SPAWN.pack(0x54434631, 99, 5, 0, 0), "kind 99"),
        (SPAWN.pack(0x54434631, 16, 5, 0, 10) + b"{}", "announced"),
        (SPAWN.pack(0x54434631, 16, 5, 0, 2) + b"{}", "tenant"),
        (SPAWN.pack(0x54434631, 16, 5, 0, 3) + b"\xff\xff\xff", "document"),
    ],
)
def test_what_is_not_a_spawn_frame_is_refused(zygote, frame, words):
    connection = zygote.connect()
    left, right = socket.socketpair()
    if frame:
        socket.send_fds(connection.socket, [frame], [left.fileno(), right.fileno()])
        kind, _request, pid, status, text, fds = connection.reply()
        assert (kind, pid, status, fds) == ("refused", 0, errno.EINVAL, [])
        assert words in text
    else:
        # An empty datagram cannot be told from the end.
        connection.socket.send(b"")
        with pytest.raises(EOFError):
            connection.reply()
    connection.close()
    left.close()
    right.close()


def test_a_spawn_without_its_descriptors_is_refused(zygote):
    connection = zygote.connect()
    connection.socket.send(SPAWN.pack(0x54434631, 16, 8, 0, 2) + b"{}")
    assert connection.reply()[:4] == ("refused", 8, 0, errno.EINVAL)
    connection.close()


def test_a_cpu_that_does_not_exist_is_refused(zygote, tmp_path):
    connection = zygote.connect()
    left, right = socket.socketpair()
    spec = {"tenant": "a", "function": "f", "version_id": "v", "code_path": str(tmp_path), "handler": "m:h"}
    connection.ask(json.dumps(spec).encode(), 4000, [left.fileno(), right.fileno()])
    kind, _request, _pid, status, text, _fds = connection.reply()
    assert (kind, status) == ("refused", errno.EINVAL)
    assert "CPU 4000" in text
    connection.close()
    left.close()
    right.close()


def test_workers_of_a_gateway_that_dies_are_killed_and_others_live(zygote, start, tmp_path):
    other = start(HELLO)
    dying = zygote.connect()
    tmp_path.chmod(0o755)  # a worker is another user
    (tmp_path / "main.py").write_text(HANG)
    workers = [dying.spawn(tmp_path, "main:handler") for _ in range(3)]
    for worker in workers:
        worker.first_word()
        worker.send()
        worker.receive()
    dying.close()
    for worker in workers:
        # Its channel is still open: only the zygote can have ended it.
        assert worker.ended()
        worker.close()
    assert other.invoke().json == "hello"


def test_workers_outlive_the_zygote_and_a_new_one_forks_on(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "main.py").write_text(HELLO)
    with Zygote(tmp_path) as zygote:
        connection = zygote.connect()
        worker = connection.spawn(tmp_path, "main:handler")
        worker.first_word()
        zygote.process.send_signal(signal.SIGKILL)
        zygote.process.wait()
        with pytest.raises((EOFError, ConnectionResetError)):
            connection.reply()
        assert worker.invoke().json == "hello"
        zygote.start()
        again = zygote.connect()
        second = again.spawn(tmp_path, "main:handler")
        second.first_word()
        assert second.invoke().json == "hello"
        assert zygote.stop() == 0
        assert second.invoke().json == "hello"
        for each in (worker, second):
            each.channel.close()
            assert each.ended()
            each.close()


@pytest.mark.parametrize(
    "frame",
    [
        b"x",
        b"x" * 64,
        bytes.fromhex("31464354") + b"\x02" + bytes(59),  # our magic, another kind
        bytes.fromhex("31464354") + b"\x01" + bytes(27) + b"\xff" * 8 + bytes(24),  # lengths that are not there
        bytes.fromhex("31464354") + b"\x01\x01" + bytes(38) + b"\xff\xff\xff\xff" + bytes(16),  # more than is shared
        b"x" * 70_000,
    ],
)
def test_frames_that_are_not_ours_end_the_worker_cleanly(start, connection, frame):
    worker = start(HELLO)
    worker.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    worker.channel.send(frame)
    with pytest.raises(EOFError):
        worker.receive()
    assert os.waitstatus_to_exitcode(connection.exit_of(worker)) == 4


def test_many_workers_start_at_once(zygote, start, connection):
    workers = [start(HELLO, ready=False) for _ in range(12)]
    for worker in workers:
        assert worker.first_word().kind == "ready"
    assert {worker.invoke().json for worker in workers} == {"hello"}


def template_of(zygote: Zygote) -> int:
    """It may be a moment before it says its name."""
    parent = f"\nPPid:\t{zygote.process.pid}\n"
    found: list[int] = []
    while not found and zygote.process.poll() is None:
        named = [path for path in Path("/proc").glob("[0-9]*") if is_template(int(path.name))]
        # Other tests' may end meanwhile.
        with contextlib.suppress(OSError):
            found = [int(path.name) for path in named if parent in (path / "status").read_text()]
    (template,) = found
    return template


def memory_has(pid: int, needle: bytes) -> bool:
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_rest = line.split(maxsplit=2)
            start, end = (int(part, 16) for part in span.split("-"))
            if start >> 63 or not rights.startswith("rw"):
                continue
            memory.seek(start)
            try:
                found = needle in memory.read(end - start)
            except OSError:
                # Reserved, and not to be read.
                continue
            if found:
                return True
    return False


def test_a_worker_has_nothing_of_what_another_was_told(zygote, start):
    secrets = [os.urandom(16).hex() for _ in range(3)]
    workers = [start(HELLO, env={"SECRET": secret}) for secret in secrets]
    last = start(HELLO)
    for worker, secret in zip(workers, secrets, strict=True):
        assert memory_has(worker.pid, secret.encode()), "its own: it is found where it is"
        assert not memory_has(last.pid, secret.encode())
        assert not memory_has(template_of(zygote), secret.encode())
    assert not memory_has(workers[2].pid, secrets[0].encode())


def test_a_zygote_whose_template_is_gone_ends_so_that_the_supervisor_starts_another(tmp_path):
    with Zygote(tmp_path) as zygote:
        tmp_path.chmod(0o755)
        (tmp_path / "main.py").write_text(HELLO)
        connection = zygote.connect()
        worker = connection.spawn(tmp_path, "main:handler")
        worker.first_word()
        os.kill(template_of(zygote), signal.SIGKILL)
        assert zygote.process.wait(60) == 1
        assert worker.invoke().json == "hello"
        worker.close()


def test_the_template_ends_with_its_zygote(tmp_path):
    with Zygote(tmp_path) as zygote:
        # It is there once the zygote answers.
        connection = zygote.connect()
        connection.socket.send(b"garbage")
        assert connection.reply()[0] == "refused"
        template = template_of(zygote)
        zygote.process.kill()
        zygote.process.wait()
        # A process that has ended and that nobody has waited for yet has no memory.
        wait_until(lambda: not (maps := Path(f"/proc/{template}/maps")).exists() or not maps.read_text())


def test_a_zygote_that_runs_short_of_descriptors_refuses_and_lives_on(tmp_path):
    with Zygote(tmp_path) as zygote:
        tmp_path.chmod(0o755)
        (tmp_path / "main.py").write_text(HELLO)
        connection = zygote.connect()
        # Once it answers it has opened all that it needs itself.
        connection.socket.send(b"garbage")
        assert connection.reply()[0] == "refused"
        spec = {
            "tenant": "a",
            "function": "f",
            "version_id": "v",
            "code_path": str(tmp_path),
            "handler": "main:handler",
        }
        document = json.dumps(spec | {"env": {}, "state": "forked", "processes_max": 4}).encode()
        folder = Path(f"/proc/{zygote.process.pid}/fd")
        _soft, hard = resource.prlimit(zygote.process.pid, resource.RLIMIT_NOFILE)
        kinds = []
        for spare in range(10):
            taken = {int(path.name) for path in folder.iterdir()}
            free = [number for number in range(max(taken) + 20) if number not in taken]
            resource.prlimit(zygote.process.pid, resource.RLIMIT_NOFILE, (free[spare], hard))
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            memory = os.memfd_create("shared")
            connection.ask(document, min(os.sched_getaffinity(0)), [right.fileno(), memory])
            kind, _request, _pid, _status, _text, fds = connection.reply()
            kinds.append(kind)
            for fd in (memory, *fds):
                os.close(fd)
            left.close()
            right.close()
            if kind == "spawned":
                break
        # The control: with enough of them there is a worker.
        assert set(kinds[:-1]) == {"refused"}
        assert kinds[-1] == "spawned"
        assert zygote.process.poll() is None
