"""A disk without room for the journal: calls are refused before they run, nothing is lost, and room is all it takes.

The journal lies on a small tmpfs in a mount namespace of the server's own: ENOSPC comes from the kernel.
"""

import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from gateway.contract.usage import HEADER_BYTES, SEGMENT_BYTES, SLOT_BYTES
from tests.conftest import FREE_PORTS, server_environment
from tests.support.server import HANG_S, Server

SLOTS = (SEGMENT_BYTES - HEADER_BYTES) // SLOT_BYTES
DISK_BYTES = 3 * SEGMENT_BYTES + 2**20
"""A reactor needs three: one is written, one waits, and the one before stays mapped. The ballast takes two of them."""
_AT_ONCE = 32
ECHO = "def handler() -> int:\n    return 1\n"


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Server]:
    journal = tmp_path / "server" / "gateway" / "journal"
    journal.mkdir(parents=True)
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
    namespace = ("unshare", "--mount", "--propagation", "private")
    wrapper = (*namespace, "sh", "-ec", script, "sh", str(DISK_BYTES), str(journal))
    arguments = (*FREE_PORTS, "--no-example", "--cpus", "0")
    server = Server(tmp_path / "server", server_environment(), *arguments, wrapper=wrapper)
    yield server
    server.stop()


def seen_by(server: Server, path: Path) -> Path:
    """The same path in the server's mount namespace."""
    return Path(f"/proc/{server.process.pid}/root") / path.relative_to("/")


def test_a_full_disk_refuses_calls_and_loses_none_and_room_is_enough(cramped: Server) -> None:
    server = cramped
    journal = seen_by(server, server.data_dir / "gateway" / "journal")
    server.deploy("counted", ECHO)
    server.wait_for(lambda: len(list(journal.glob("*.segment"))) == 1, what="the first segment")
    ballast = journal / "ballast"
    ballast.write_bytes(bytes(2 * SEGMENT_BYTES))
    served = statuses_of(server, 1)
    assert served[200] == 1  # from here on the second segment is wanted
    server.wait_for(lambda: "tailcut_usage_journal_full 1.0" in server.metrics(), what="the alarm")
    # The whole first segment is served, and not one call more.
    while not served[503]:
        served += statuses_of(server, 4_000)
    refused = server.invoke("counted")
    assert refused.status_code == 503
    assert "journal" in refused.json()["detail"]
    assert served[200] <= SLOTS
    assert served[200] + 10 > SLOTS, "the gateway's own invocations apart"
    ballast.unlink()
    server.wait_for(lambda: server.invoke("counted").status_code == 200, what="service again")
    server.wait_for(lambda: "tailcut_usage_journal_full 0.0" in server.metrics(), what="the end of the alarm")
    # Control: it was the room, not a number of calls.
    after = statuses_of(server, 500)
    assert after == Counter({200: 500})
    expected = served[200] + 1 + after[200]
    books = server.wait_for(lambda: booked(server, expected), what=f"{expected} records")
    assert books == expected


def booked(server: Server, count: int) -> int | None:
    """How many invocations SQL bills, once they are at least ``count``."""
    with sqlite3.connect(f"file:{server.data_dir / 'control-plane.db'}?mode=ro", uri=True, timeout=HANG_S) as database:
        found: int = database.execute(
            "SELECT count(*) FROM usage_records WHERE function = 'counted' AND billed"
        ).fetchone()[0]
    return found if found >= count else None


def statuses_of(server: Server, count: int) -> Counter[int]:
    """Of so many calls, some at once on one connection (pipelined: a segment has 65,504 places)."""
    host, _, port = server.gateway_url.removeprefix("http://").partition(":")
    request = (
        f"POST /{server.tenant}/counted HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.key}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    found: Counter[int] = Counter()
    with socket.create_connection((host, int(port)), HANG_S) as connection, connection.makefile("rb") as answers:
        for at in range(0, count, _AT_ONCE):
            together = min(_AT_ONCE, count - at)
            connection.sendall(request * together)
            for _ in range(together):
                found[status_of(answers)] += 1
    return found


def status_of(answers: BinaryIO) -> int:
    """Of the next answer, which is read to its end."""
    line = answers.readline()
    length = 0
    while (header := answers.readline().strip()) != b"":
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return int(line.split(b" ")[1])
