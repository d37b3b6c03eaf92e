"""What keeps one tenant from another in the egress's one loop, and what is kept about both, without a process."""

import asyncio
import json
import socket
from typing import Any

import h11
import pytest

from gateway.contract.egress import Question
from gateway.egress import own, plain, relay, server
from gateway.egress.log import Log
from gateway.egress.settings import EgressSettings

CHUNKS = 5_000


def test_a_body_of_small_chunks_lets_others_run() -> None:
    async def run() -> tuple[int, int]:
        far = h11.Connection(h11.CLIENT)
        far.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        far.send(h11.EndOfMessage())
        far.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * CHUNKS)
        assert isinstance(far.next_event(), h11.Response)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        data, _event = await plain._body(far, asyncio.StreamReader())
        task.cancel()
        return len(data), turns

    size, turns = asyncio.run(run())
    assert size == CHUNKS
    assert turns > 100


def test_of_what_nobody_reads_little_is_held() -> None:
    async def run() -> int:
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)
            made = await relay.side(near)
            sent_bytes, quiet = 0, 0
            while quiet < 20:
                await asyncio.sleep(0)
                try:
                    sent_bytes += far.send(bytes(65536))
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
            held_bytes = len(made.reader._buffer)  # type: ignore[attr-defined]
            made.abort()
            assert sent_bytes > held_bytes > 0
            return held_bytes

    assert asyncio.run(run()) <= 2 * relay.PIECE_BYTES


def test_a_name_server_that_fails_takes_no_own_host_off_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if len(asked) > 2 and host == "database.test":
            raise socket.gaierror
        return [(0, 0, 0, "", ("20.0.0.7" if host == "database.test" else f"20.0.1.{len(asked)}", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found: list[frozenset[str]] = []

    async def run() -> None:
        enough = asyncio.Event()

        def note(hosts: frozenset[str]) -> None:
            found.append(hosts)
            if len(found) == 3:
                enough.set()

        task = asyncio.create_task(own.own_addresses(("database.test", "redis.test"), note, 0.0))
        async with asyncio.timeout(30):
            await enough.wait()
        task.cancel()

    asyncio.run(run())
    assert found[:3] == [frozenset(("20.0.0.7", f"20.0.1.{at}")) for at in (2, 4, 6)]


def test_a_version_never_counts_for_a_tenant_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_TENANTS_MAX", 0)

    async def run() -> None:
        with socket.socket() as listener:
            made = server.Server(listener, EgressSettings(listener_fd=0), None, Log())  # type: ignore[arg-type]
            question = Question(worker=1, tenant="one", version_id="ver_1", connections_max=1, bytes_per_minute=60)
            before = made._version(question, 0.0)
            before.bytes.spend(1_000, 0.0)
            made._version(Question(worker=2, tenant="two", version_id="ver_2", bytes_per_minute=60), 0.0)
            again = made._version(question, 0.0)
            assert again is before  # its debt is not forgotten
            assert again.tenant in made.tenants()
            assert json.loads(made.counters()[0])

    asyncio.run(run())
