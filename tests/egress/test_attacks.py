"""What a hostile function may send to its proxy: it costs itself something, and nobody else."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.egress.conftest import HANG_S, Answer, Egress, World, rest
from tests.egress.outside import ECHO_PORT, PRIVATE, PUBLIC
from tests.support.frames import wait_until

ECHO = f"{PUBLIC}:{ECHO_PORT}"


@pytest.fixture(scope="module")
def tight(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Egress]:
    """With short times and small bounds."""
    made = Egress(
        tmp_path_factory.mktemp("tight"), world, allow=f"{PRIVATE},{PUBLIC}:{ECHO_PORT}", header_timeout=0.5,
        connect_timeout=1, idle_timeout=1, half_open_timeout=0.5, names_at_once_max=2, accepts_per_s=10_000,
        connections_per_tenant_max=300,
    )  # fmt: skip
    yield made
    made.end()


def test_a_request_within_a_request_is_not_read_as_one(egress: Egress) -> None:
    """Lengths that contradict each other are the classical way to smuggle: here the second request stays behind."""
    door = egress.door()
    second = f"GET http://{PUBLIC}/second HTTP/1.1\r\nHost: {PUBLIC}\r\n\r\n"
    both = Answer(
        door.ask(
            f"POST http://{PUBLIC}/first HTTP/1.1\r\nHost: {PUBLIC}\r\nContent-Length: {len(second)}\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}".encode()
        )
    )
    assert (both.status, both.json["target"], both.json["body_bytes"]) == (200, "/first", 0)
    assert both.raw.count(b"HTTP/1.1") == 1
    names = [name.lower() for name, _value in both.json["headers"]]
    assert "content-length" not in names
    for lengths in (
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: -1\r\n",
    ):
        answer = Answer(door.ask(f"POST http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\n{lengths}\r\nabc".encode()))
        assert answer.rule == "bad-request", lengths


def test_the_host_is_where_it_goes_and_not_what_a_header_says(egress: Egress) -> None:
    answer = egress.door().get(f"http://{PUBLIC}/", host=PRIVATE, Proxy_Authorization="secret", X_Kept="yes")
    headers = {name.lower(): value for name, value in answer.json["headers"]}
    assert (answer.json["reached"], headers["host"], headers["x-kept"]) == (PUBLIC, PUBLIC, "yes")
    assert "proxy-authorization" not in headers
    assert headers["connection"] == "close"
    assert answer.headers["connection"] == "close"


def test_bodies_go_through_whole(egress: Egress) -> None:
    door = egress.door()
    body = b"x" * 300_000
    head = f"POST http://{PUBLIC}/?bytes=500000 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = Answer(door.ask(head, body))
    assert answer.json["body_bytes"] == len(body)
    assert len(answer.body) > 500_000
    head_only = Answer(door.ask(f"HEAD http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
    assert (head_only.status, head_only.body) == (200, b"")


@pytest.mark.parametrize("raw", ["garbage%0D%0A%0D%0A", "HTTP%2F1.1%20101%20Switching%0D%0A%0D%0A", "%20"])
def test_what_answers_no_http_is_said(egress: Egress, raw: str) -> None:
    answer = egress.door().get(f"http://{PUBLIC}/?raw={raw}")
    assert (answer.status, answer.rule) == (502, "bad-answer")


def test_an_answer_that_breaks_off_is_seen_to(egress: Egress) -> None:
    raw = "HTTP%2F1.1%20200%20OK%0D%0AContent-Length%3A%20100%0D%0A%0D%0Aonly%20this"
    answer = egress.door().get(f"http://{PUBLIC}/?raw={raw}")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "100", b"only this")


def test_heads_are_bounded(egress: Egress) -> None:
    door = egress.door()
    large = door.get(f"http://{PUBLIC}/", X="y" * 20_000)
    assert (large.status, large.rule) == (431, "head-too-large")
    with door.connect() as worker:
        # Without an end: it is not read for long.
        sent_bytes = 0
        with contextlib.suppress(OSError):
            while sent_bytes < 100_000_000:
                sent_bytes += worker.send(b"GET " + b"x" * 100_000)
        assert sent_bytes < 50_000_000
    assert door.get(f"http://{PUBLIC}/", X="y" * 10_000).status == 200


def test_slow_heads_are_ended(tight: Egress) -> None:
    door = tight.door(tenant="slow")
    with door.connect() as silent, door.connect() as slow:
        slow.sendall(b"GET http://")
        assert Answer(rest(slow)).rule == "head-timeout"
        assert Answer(rest(silent)).rule == "head-timeout"
    wait_until(lambda: tight.counters("slow")["connections_open"] == 0)


def test_tunnels_that_nobody_uses_are_ended(tight: Egress) -> None:
    door = tight.door(tenant="idle")
    idle, said = door.tunnel(ECHO)
    busy, _said = door.tunnel(ECHO)
    assert said.status == 200
    with idle, busy:
        started = time.monotonic()
        while time.monotonic() - started < 2.5:  # longer than idle_timeout
            busy.sendall(b"still here")
            assert busy.recv(64) == b"still here"
            time.sleep(0.1)
        idle.settimeout(HANG_S)
        assert rest(idle) == b""
    wait_until(lambda: tight.counters("idle")["connections_open"] == 0)


def test_half_of_a_tunnel_may_end_before_the_other(tight: Egress) -> None:
    worker, _said = tight.door(tenant="half").tunnel(ECHO)
    with worker:
        worker.sendall(b"question")
        worker.shutdown(socket.SHUT_WR)
        assert rest(worker) == b"question[end]"
    wait_until(lambda: tight.counters("half")["connections_open"] == 0)


def test_half_open_tunnels_do_not_stay(tight: Egress) -> None:
    """The other side never answers and never ends: a web server that waits for a request."""
    door = tight.door(tenant="half-open")
    held = []
    for _ in range(20):
        worker, said = door.tunnel(f"{PRIVATE}:80")
        assert said.status == 200
        worker.shutdown(socket.SHUT_WR)
        held.append(worker)
    wait_until(lambda: tight.counters("half-open")["connections_open"] == 0)
    for worker in held:
        worker.close()


def test_connections_are_bounded_per_version_and_the_next_is_told(egress: Egress) -> None:
    door = egress.door(connections_max=3, tenant="bounded")
    held = [door.connect() for _ in range(3)]
    wait_until(lambda: egress.counters("bounded")["connections_open"] == 3)
    refused = door.get(f"http://{PUBLIC}/")
    assert (refused.status, refused.rule) == (429, "connections")
    assert "3" in refused.json["detail"]
    # Another version of the tenant has its own.
    assert egress.door(connections_max=3, tenant="bounded", version="ver_2").get(f"http://{PUBLIC}/").status == 200
    for worker in held:
        worker.close()
    wait_until(lambda: egress.counters("bounded")["connections_open"] == 0)
    assert door.get(f"http://{PUBLIC}/").status == 200


def test_ten_thousand_connections_of_one_tenant_do_not_keep_another_waiting(tight: Egress) -> None:
    """Those that have no place wait in their own queue."""
    flood, other = tight.door(connections_max=1_000, tenant="flood"), tight.door(tenant="other")
    held = []
    for _ in range(10_000):
        worker = socket.socket()
        worker.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            worker.connect(("127.0.0.1", flood.port))
        held.append(worker)
        if len(held) == 900:
            assert other.get(f"http://{PUBLIC}/").status == 200
            assert tight.counters("flood")["connections_open"] <= 300
            for one in held:
                one.close()
            held.clear()
    for one in held:
        one.close()
    assert other.get(f"http://{PUBLIC}/").status == 200
    wait_until(lambda: tight.counters("flood")["connections_open"] == 0)
    flood.end()


def test_a_tenant_with_slow_name_servers_keeps_no_other_waiting(tight: Egress) -> None:
    slow, other = tight.door(tenant="slow-names"), tight.door(tenant="names")
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(slow.get, "http://slow.test/") for _ in range(8)]
        assert other.get("http://private.test/").status == 200
        assert {one.result().rule for one in asked} == {"connect-timeout"}


def test_bytes_over_the_minutes_slow_down_and_cut_nothing_off(egress: Egress) -> None:
    """The first 3 MB are the minute's; the next 150 kB take three seconds."""
    door = egress.door(bytes_per_minute=3_000_000, tenant="heavy")
    started = time.monotonic()
    answer = door.get(f"http://{PUBLIC}/?bytes=3150000")
    assert len(answer.body) > 3_150_000
    slowed_s = time.monotonic() - started
    assert slowed_s > 2
    # A new worker of the version is no new allowance.
    door.end()
    started = time.monotonic()
    assert (
        len(egress.door(bytes_per_minute=3_000_000, tenant="heavy").get(f"http://{PUBLIC}/?bytes=100000").body)
        > 100_000
    )
    assert time.monotonic() - started > 1
    # The control: who has more is not slowed down.
    started = time.monotonic()
    assert len(egress.door(tenant="light").get(f"http://{PUBLIC}/?bytes=3150000").body) > 3_150_000
    assert time.monotonic() - started < slowed_s


def test_what_is_used_and_refused_is_counted_and_logged(egress: Egress) -> None:
    door = egress.door(tenant="metered")
    door.get(f"http://{PUBLIC}/?bytes=100000")
    door.get(f"http://{PRIVATE}/")
    found = egress.counters("metered")
    assert 100_000 < found["bytes_received_total"] < 102_000
    assert 0 < found["bytes_sent_total"] < 1_000
    assert (found["connections_total"], found["refused_total"]) == (2, {"private-address": 1})
    wait_until(lambda: '"tenant": "metered", "function": "sample"' in egress.log.read_text())


def test_counters_of_many_tenants_come_whole(egress: Egress) -> None:
    worker = subprocess.Popen(["sleep", "infinity"])
    pidfd = os.pidfd_open(worker.pid)
    with egress.connect() as zygote:
        for number in range(1_500):
            with socket.socket() as listener:
                listener.listen()
                question = {"worker": worker.pid, "tenant": f"many-{number}", "version_id": "ver_1"}
                socket.send_fds(zygote, [json.dumps(question).encode()], [listener.fileno(), pidfd])
    os.close(pidfd)
    wait_until(lambda: egress.counters("many-1499") and egress.counters("many-0"))
    worker.kill()
    worker.wait()


def test_it_has_no_rights(egress: Egress) -> None:
    process = Path(f"/proc/{egress.process.pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {str(0x6FFF_FFFF)}
    assert status["Groups"].strip() == ""
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_nonsense_from_a_peer_ends_that_peer_only(egress: Egress) -> None:
    for nonsense in (b"nonsense", b'{"worker": "x"}', b"[]", b'{"worker": 1}'):
        with egress.connect() as peer:
            peer.send(nonsense)
            peer.settimeout(HANG_S)
            while peer.recv(65536):
                pass
    assert egress.door().get(f"http://{PUBLIC}/").status == 200
