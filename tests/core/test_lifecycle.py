"""Workers, revisions, the zygote and the end: what changes while requests are being served."""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from .conftest import ECHO, KEY, Answer, Plane, Zygote, revision, route, version


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(plane: Plane) -> dict[str, int]:
    counts: dict[str, int] = plane.command("metrics")["reactors"][0]["workers"]
    return counts


class Load:
    """Clients that call without pause; every answer's status and body."""

    def __init__(self, plane: Plane, path: str, clients: int = 4) -> None:
        self.plane, self.path, self.stopping = plane, path, False
        self.answers: list[tuple[int, bytes]] = []
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        with self.plane.connect() as client:
            while not self.stopping:
                client.sendall(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = Answer.read(client)
                self.answers.append((answer.status, answer.body))

    def end(self) -> list[tuple[int, bytes]]:
        self.stopping = True
        for thread in self.threads:
            thread.join()
        return self.answers


def test_a_new_version_takes_over_under_load_without_a_failed_request(plane: Plane) -> None:
    load = Load(plane, "/acme/echo/pid")
    until(lambda: len(load.answers) > 50)
    for number in range(1, 8):
        kept = [version(n, "echo") for n in range(max(0, number - 1), number + 1)]
        plane.apply(revision(kept, [route("echo", number)], number + 1))
        seen = len(load.answers)
        until(lambda seen=seen: len(load.answers) > seen + 50)  # type: ignore[misc]
    answers = load.end()
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) >= 8
    # Nothing is left of versions that have left, whatever their workers did at that moment.
    plane.apply(revision([], [], 100))
    until(lambda: sum(workers(plane).values()) == 0)


def test_a_revision_that_is_wrong_changes_nothing(plane: Plane) -> None:
    for document in ("", "{}", json.dumps(ECHO)[:-1], json.dumps(ECHO | {"routes": [route("echo", 7)]})):
        result = plane.command("apply", document)
        assert result["status"] == 1
        assert result["error"]
    assert plane.get("/acme/echo").status == 200
    assert plane.command("metrics")["revision"] == 1


def test_a_deleted_functions_workers_end(plane: Plane) -> None:
    assert plane.get("/acme/echo").status == 200
    plane.apply(revision([], [], 2))
    assert plane.get("/acme/echo").status == 404
    until(lambda: sum(workers(plane).values()) == 0)


def test_a_probe_says_ready_or_why_not(make_plane: Callable[..., Plane]) -> None:
    failure = {"type": "ImportError", "message": "no module named x", "traceback": "Traceback: x"}
    plane = make_plane(
        revision(
            [
                version(4, "good", probe=True),
                version(5, "bad", probe=True, spawn=json.dumps({"fail": failure})),
                version(6, "gone", probe=True, spawn=json.dumps({"exit_at_start": 7})),
                version(7, "unmade", probe=True, spawn=json.dumps({"refuse": 12})),
            ],
            [route("bad", 5)],
        )
    )
    ready = plane.event("ready")
    assert ready["version"] == 4
    assert json.loads(ready["payload"])["pid"] == ready["pid"]
    failed: dict[int, dict[str, Any]] = {}
    while len(failed) < 3:
        event = plane.event("start_failed")
        failed[event["version"]] = event
    assert json.loads(failed[5]["payload"]) == failure
    assert failed[5]["status"] == 0
    assert "exit status 7" in json.loads(failed[6]["payload"])["message"]
    assert failed[6]["status"] == 0
    assert "12" in json.loads(failed[7]["payload"])["message"]
    assert failed[7]["status"] == 1


def test_callers_of_a_version_that_cannot_start_hear_it(make_plane: Callable[..., Plane]) -> None:
    failure = {"type": "ImportError", "message": "no module named x", "traceback": "Traceback: x"}
    spawn = json.dumps({"fail": failure, "start_s": 0.3})
    plane = make_plane(revision([version(0, "bad", spawn=spawn)], [route("bad", 0)]))
    with plane.connect() as owner, plane.connect() as stranger:
        owner.sendall(f"GET /acme/bad HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        stranger.sendall(b"GET /acme/bad HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = Answer.read(owner)
        assert answer.status == 500
        assert answer.problem["traceback"] == "Traceback: x"
        answer = Answer.read(stranger)
        assert answer.status == 503
        assert "traceback" not in answer.problem
    # Its starts back off: the next caller is answered at once.
    started = plane.command("metrics")["reactors"][0]["workers_started_total"]
    for _ in range(5):
        assert plane.get("/acme/bad").status == 503
    assert plane.command("metrics")["reactors"][0]["workers_started_total"] <= started + 1


def test_a_minimum_is_kept_warm_and_replaced(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(revision([version(0, "echo", workers_min=2)], [route("echo", 0)]))
    first = {plane.event("ready")["pid"], plane.event("ready")["pid"]}
    assert plane.get("/acme/echo").headers["tailcut-start"] == "warm"
    os.kill(first.pop(), 9)
    assert plane.event("exited")["status"] == 9
    assert plane.event("ready")["pid"] not in first
    until(lambda: workers(plane)["idle"] == 2)


def test_idle_workers_end_down_to_the_minimum(make_plane: Callable[..., Plane]) -> None:
    document = revision([version(0, "echo"), version(1, "kept", workers_min=1)], [route("echo", 0), route("kept", 1)])
    plane = make_plane(document, worker_idle_timeout=0.3)
    assert plane.get("/acme/echo").status == 200
    until(lambda: workers(plane) == {"starting": 0, "idle": 1, "busy": 0, "stopping": 0})
    assert plane.get("/acme/kept").headers["tailcut-start"] == "warm"


def test_the_zygotes_death_is_survived(plane: Plane, zygote: Zygote) -> None:
    pid = plane.get("/acme/echo/pid").body
    zygote.kill()
    assert plane.get("/acme/echo/pid").body == pid
    until(lambda: workers(plane)["idle"] == 1)
    os.kill(int(pid), 9)
    until(lambda: not any(workers(plane).values()))  # a call before its end would be lost with it
    with plane.connect() as client:
        client.sendall(b"GET /acme/echo/pid HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        zygote.start()
        answer = Answer.read(client)
    assert answer.status == 200
    assert answer.body != pid


def test_draining_answers_what_has_been_received(plane: Plane) -> None:
    assert plane.get("/acme/echo").status == 200
    with (
        plane.connect() as idle,
        plane.connect() as late,
        plane.connect() as fresh,
        plane.connect() as running,
        plane.connect() as pipelined,
    ):
        running.sendall(b"GET /acme/echo/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        pipelined.sendall(
            b"GET /acme/echo/sleep?s=0.4 HTTP/1.1\r\nHost: x\r\n\r\nGET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        for client in (idle, late):
            client.sendall(b"GET /-/readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert Answer.read(client).status == 200
        time.sleep(0.1)
        assert plane.command("drain") == 0
        # A request that was on its way when the drain began is served, and is the connection's last.
        time.sleep(0.3)
        for client in (late, fresh):
            client.sendall(b"GET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = Answer.read(client)
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert client.recv(1) == b""
        answer = Answer.read(running)
        assert (answer.body, answer.headers["connection"]) == (b"slept", "close")
        rest = bytearray()
        assert Answer.read(pipelined, rest=rest).body == b"slept"
        answer = Answer.read(pipelined, rest=rest)
        assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
        assert idle.recv(1) == b""
        # Ended in an orderly way: what crosses the end is not met by a reset.
        idle.sendall(b"GET /acme/echo HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.settimeout(0.2)
        assert idle.recv(1) == b""
    plane.event("drained")
    # The socket is the supervisor's: who connects now waits for the next gateway instead of being refused.
    plane.connect().close()
    assert plane.command("stop") == 0


def test_stopping_kills_the_workers(plane: Plane) -> None:
    pid = int(plane.get("/acme/echo/pid").body)
    assert plane.command("stop") == 0

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone)


def test_a_cpu_that_is_not_there_is_said_and_not_served_around(zygote: Zygote) -> None:
    missing = 1000
    assert missing not in os.sched_getaffinity(0)
    plane = Plane(zygote, {"cpus": [missing]})
    try:
        result = plane.command("start")
        assert result["status"] == 3
        assert f"CPU {missing}" in result["error"]
        assert plane.command("start")["status"] == 4
    finally:
        plane.end()


def test_two_reactors_share_a_tenants_concurrency(make_plane: Callable[..., Plane]) -> None:
    import socket

    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 0))
    one.listen(64)
    two = socket.socket()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    two.bind(one.getsockname())
    two.listen(64)
    for listener in (one, two):
        os.set_inheritable(listener.fileno(), True)
    cpus = sorted(os.sched_getaffinity(0))
    plane = make_plane(
        revision([version(0, "echo")], [route("echo", 0)], concurrency_max=3),
        cpus=[cpus[0], cpus[-1]],
        listen_fds=[one.fileno(), two.fileno()],
        pass_fds=[one.fileno(), two.fileno()],
    )
    plane.port = one.getsockname()[1]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(plane.get("/acme/echo/sleep?s=0.7").status)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == 3
    assert statuses.count(429) == 9
    # One word for both, when both are empty.
    assert plane.command("drain") == 0
    plane.event("drained")
    time.sleep(0.2)
    assert [event["kind"] for event in plane.command("events", 0.1)].count("drained") == 0
    one.close()
    two.close()
