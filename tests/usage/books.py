"""The checker of reliability.md: what clients saw against what the books say, to the unit.

A client's log has the id, the status and the body of every answer; the books are ``usage_records`` and
``usage_hourly`` of the control plane's database. Called by the tests of this folder.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.server import HANG_S, Server


@dataclass
class ClientLog:
    """What calls were answered, as their clients saw it."""

    answered: dict[str, int] = field(default_factory=dict)
    """Request id → status, of complete answers by the gateway."""
    broken: int = 0
    """No complete answer: whether it ran is the books' word."""
    mixed: list[str] = field(default_factory=list)
    """Answers that carry somebody else's body."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, client: httpx.Client, url: str, key: str, marker: str) -> None:
        try:
            answer = client.post(url, json={"marker": marker}, headers={"Authorization": f"Bearer {key}"})
        except httpx.HTTPError:
            with self.lock:
                self.broken += 1
            return
        with self.lock:
            request_id = answer.headers["tailcut-request-id"]
            assert request_id not in self.answered, "one id, two answers"
            self.answered[request_id] = answer.status_code
            if answer.status_code == 200 and answer.json() != {"marker": marker}:
                self.mixed.append(request_id)


class Hammer:
    """Calls a function from several threads until it is stopped."""

    def __init__(self, server: Server, function: str, threads: int = 4) -> None:
        self.log = ClientLog()
        self._server = server
        self._function = function
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        url = f"{self._server.gateway_url}/{self._server.tenant}/{self._function}"
        count = 0
        while not self._stop.is_set():
            with httpx.Client(timeout=30) as client:
                for _ in range(50):
                    if self._stop.is_set():
                        return
                    count += 1
                    self.log.call(client, url, self._server.key, f"{number}-{count}")

    def stop(self) -> ClientLog:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.log


@dataclass(frozen=True, slots=True)
class Books:
    records: dict[str, tuple[str, int, bool, int, int]]
    """invocation id → outcome, status, billed, CPU µs, MiB·µs"""
    twice: list[str]
    hourly: tuple[int, int, int]
    """Invocations, CPU µs, MiB·µs of all hours"""
    dead: int

    @property
    def billed(self) -> tuple[int, int, int]:
        rows = [row for row in self.records.values() if row[2]]
        return len(rows), sum(row[3] for row in rows), sum(row[4] for row in rows)


def read_books(data_dir: Path, function: str) -> Books:
    database = data_dir / "control-plane.db"
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT invocation_id, outcome, status, billed, cpu_us, mib_us FROM usage_records WHERE function = ?",
            (function,),
        ).fetchall()
        sums = connection.execute(
            "SELECT coalesce(sum(invocations), 0), coalesce(sum(cpu_us), 0), coalesce(sum(mib_us), 0) "
            "FROM usage_hourly WHERE function = ?",
            (function,),
        ).fetchone()
        dead = connection.execute("SELECT count(*) FROM usage_dead_letters").fetchone()[0]
    finally:
        connection.close()
    counted = Counter(row[0] for row in rows)
    return Books(
        records={row[0]: (row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows},
        twice=[one for one, count in counted.items() if count > 1],
        hourly=tuple(sums),
        dead=dead,
    )


def wait_for_books(server: Server, function: str, ids: Iterable[str]) -> Books:
    """Until every id is booked (a record of each answer that somebody has); a deadline ends a hanging test."""
    wanted = set(ids)
    deadline = time.monotonic() + HANG_S
    while True:
        books = read_books(server.data_dir, function)
        if wanted <= books.records.keys():
            return books
        assert time.monotonic() < deadline, f"{len(wanted - books.records.keys())} answers are not in the books"
        time.sleep(0.25)


def check(log: ClientLog, books: Books) -> None:
    """Every answer has exactly one record with its status; sums are equal; nobody got another's body."""
    assert not log.mixed
    assert not books.twice
    assert books.dead == 0
    wrong = [
        (one, status, books.records[one])
        for one, status in log.answered.items()
        # 429, 402, 403, 404: refused before admission, so there is no record.
        if one in books.records and books.records[one][1] != status
    ]
    assert not wrong, wrong[:3]
    missing = [one for one, status in log.answered.items() if status == 200 and one not in books.records]
    assert not missing, missing[:3]
    unbilled = [one for one, status in log.answered.items() if status == 200 and not books.records[one][2]]
    assert not unbilled, unbilled[:3]
    # Whoever got no answer may have run, at most once each.
    unheard = [one for one in books.records if one not in log.answered]
    assert len(unheard) <= log.broken, (len(unheard), log.broken)
    assert books.billed == books.hourly
