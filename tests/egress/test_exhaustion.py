"""What a hostile tenant may use up of the egress: its own share, by however many connections, lines and chunks."""

import contextlib
import select
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.egress.conftest import Answer, Egress, World, rest
from tests.egress.outside import ECHO_PORT, PUBLIC
from tests.support.frames import wait_until


def test_many_connections_are_no_more_bytes(lax: Egress) -> None:
    """Each would have moved its first piece before it was made to wait."""
    door = lax.door(bytes_per_minute=60, tenant="many-short", version="ver_bytes")
    other = lax.door(tenant="many-short", version="ver_other")
    first, _said = door.tunnel(f"{PUBLIC}:{ECHO_PORT}")
    first.sendall(b"x" * 2_000)
    # The minute's bytes are used up, and those of many minutes to come.
    wait_until(lambda: lax.counters("many-short")["bytes_sent_total"] > 0)
    held = [door.tunnel(f"{PUBLIC}:{ECHO_PORT}")[0] for _ in range(8)]
    for worker in held:
        worker.sendall(b"x" * 20_000)
    # The control: what these wait for is not the echo.
    control, _said = other.tunnel(f"{PUBLIC}:{ECHO_PORT}")
    control.sendall(b"x" * 20_000)
    assert control.recv(65536)
    assert select.select(held, [], [], 0.3)[0] == []
    for worker in (first, control, *held):
        worker.close()


def test_the_lines_of_a_head_are_bounded(egress: Egress) -> None:
    """Each is work, for a byte or two: a head of 16 KiB full of them kept the only loop for tens of milliseconds."""
    door = egress.door(tenant="lines")

    def request(lines: int) -> Answer:
        return Answer(door.ask(f"GET http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\n".encode() + b"a:\r\n" * lines + b"\r\n"))

    assert request(90).status == 200
    assert (request(1_000).status, request(1_000).rule) == (431, "head-too-large")

    def answer(head: str) -> Answer:
        return door.get(f"http://{PUBLIC}/?raw={quote(head)}")

    ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    assert answer(f"{ok}{'a:\r\n' * 100}\r\n").status == 200
    assert answer(f"{ok}{'a:\r\n' * 1_000}\r\n").rule == "bad-answer"
    early = "HTTP/1.1 103 Early\r\n\r\n"
    few = door.ask(f"GET http://{PUBLIC}/?raw={quote(early * 3 + ok)}%0D%0A HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (few.count(b"HTTP/1.1 103"), few.count(b"HTTP/1.1 200")) == (3, 1)
    many = door.ask(f"GET http://{PUBLIC}/?raw={quote(early * 40 + ok)}%0D%0A HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"HTTP/1.1 200" not in many
    assert b"(bad-answer)" in many


def test_chunks_of_a_byte_are_passed_on_together(egress: Egress) -> None:
    chunks = 700
    raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "1\r\nx\r\n" * chunks + "0\r\n\r\n"
    answer = egress.door(tenant="chunks").get(f"http://{PUBLIC}/?raw={quote(raw)}")
    assert answer.status == 200
    sizes, left = [], answer.body
    while left:
        size, _, left = left.partition(b"\r\n")
        sizes.append(int(size, 16))
        assert left[: sizes[-1]] == b"x" * sizes[-1]
        left = left[sizes[-1] + 2 :]
    assert sum(sizes) == chunks
    assert len(sizes) < 50


def test_who_does_not_read_holds_its_connection_and_is_counted(egress: Egress) -> None:
    """The answer has come whole and waits in the egress: its descriptors are no free ones."""
    door = egress.door(tenant="unread", send_bytes=4096)
    with socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        worker.connect(("127.0.0.1", door.port))
        worker.sendall(f"GET http://{PUBLIC}/?bytes=50000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: egress.counters("unread").get("bytes_received_total", 0) > 50_000)
        time.sleep(0.3)
        assert egress.counters("unread")["connections_open"] == 1
        assert len(Answer(rest(worker)).body) > 50_000
    wait_until(lambda: egress.counters("unread")["connections_open"] == 0)


def test_tenants_that_take_all_they_can_leave_room_for_others(world: World, tmp_path: Path) -> None:
    made = Egress(tmp_path, world, connections_max=40, header_timeout=120)
    held = []
    try:
        for number in range(4):
            door = made.door(tenant=f"greedy-{number}")
            for _ in range(40):
                worker = socket.socket()
                worker.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    worker.connect(("127.0.0.1", door.port))
                held.append(worker)
        wait_until(lambda: made.counters("greedy-3").get("connections_open", 0) > 0)
        assert made.door(tenant="modest").get(f"http://{PUBLIC}/").status == 200
        assert made.counters("greedy-0")["connections_open"] >= 15
    finally:
        for worker in held:
            worker.close()
        made.end()


@pytest.mark.parametrize("where", ["0x14.1.1.10", "public.test.", "PUBLIC.TEST"])
def test_control_other_spellings_of_a_public_host_are_reached(egress: Egress, where: str) -> None:
    assert egress.door().get(f"http://{where}/").json["reached"] == PUBLIC


FORMS = (
    *("GET http://xn--n3h.test\r\nHost: y", "GET http://20.1.1.10:080000/", "CONNECT 20.1.1.10:443/"),
    *("CONNECT 20.1.1.10:+443", "CONNECT 20.1.1.10:4_43", "CONNECT 20.1.1.10:443:443", "CONNECT 20.1.1.10%00:443"),
    *("GET http://20.1.1.10%2f@10.77.0.1/", "GET http://[::ffff:10.77.0.1%25lo]/", "GET http://[v1.x]/"),
    *("GET //20.1.1.10/", "CONNECT //20.1.1.10:443"),
    *("CONNECT [::ffff:20.1.1.10]443:443", "OPTIONS *", "GET http://\u2460.test/", "GET http:/20.1.1.10/"),
)  # fmt: skip


@pytest.mark.parametrize("line", FORMS)
def test_targets_of_other_forms_reach_nobody(egress: Egress, line: str) -> None:
    raw = f"{line} HTTP/1.1\r\nHost: {PUBLIC}\r\n\r\n".encode()
    assert Answer(egress.door().ask(raw)).rule == "bad-request"


def test_what_comes_behind_a_refused_request_is_not_read_as_one(egress: Egress) -> None:
    door = egress.door()
    good = f"GET http://{PUBLIC}/second HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for first in (b"GET http://10.77.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n"):
        found = door.ask(first + good)
        assert found.count(b"HTTP/1.1 ") == 1, found
        assert Answer(found).rule


def test_what_a_header_smuggles_is_not_sent_on(egress: Egress) -> None:
    door = egress.door()
    folded = door.ask(f"GET http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\nX: a\r\n Host: 10.77.0.1\r\n\r\n".encode())
    assert [value for name, value in Answer(folded).json["headers"] if name.lower() == "host"] == [PUBLIC]
    for lines in (
        "Host : x",
        "X: a\rHost: y",
        "X\0: y",
        "X: \0",
        "Host: x\r\nHost: y",
        "Transfer-Encoding: chunked, gzip",
    ):
        found = door.ask(f"POST http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode())
        assert Answer(found).rule == "bad-request", lines
    # A proxy between two ends takes Connection's word; length and Host are not for it to take away.
    named = door.ask(
        f"POST http://{PUBLIC}/ HTTP/1.1\r\nHost: x\r\nConnection: host, content-length, x-secret, upgrade\r\n"
        "X-Secret: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent-Length: 3\r\n\r\nabc".encode()
    )
    headers = {name.lower(): value for name, value in Answer(named).json["headers"]}
    assert (headers["host"], headers["content-length"], headers["connection"]) == (PUBLIC, "3", "close")
    assert not {"x-secret", "upgrade"} & set(headers)
