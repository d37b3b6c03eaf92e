"""The checker of reliability: what clients saw = journal = SQL = outbox of meter events = Stripe, to the unit.

The journal's files are deleted once they are booked, so ``JournalCopy`` keeps a second name of each while a test runs.
The rest is read where it lies: the control plane's database, the simulated Stripe's. Called by the tests of this folder
and by ``python -m tests.usage``.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gateway.contract.usage import (
    HEADER,
    HEADER_BYTES,
    KIND_USAGE,
    OUTCOMES,
    PLATFORM_ABORTED,
    SLOT,
    SLOT_BYTES,
    crc32c,
)
from tests.support.server import HANG_S, Server
from tests.usage.client import ClientLog

_POLL_S = 0.01
UNITS = {"invocations": 1, "cpu-ms": 1_000, "mib-s": 1_000_000}


class Entry(NamedTuple):
    """One invocation, as the journal and SQL have it."""

    outcome: str
    status: int
    billed: bool
    cpu_us: int
    mib_us: int


class Sums(NamedTuple):
    invocations: int
    cpu_us: int
    mib_us: int


@dataclass(frozen=True, slots=True)
class Books:
    journal: dict[str, Entry]
    records: dict[str, Entry]
    twice: list[str]
    """Ids that the journal or SQL has more than once."""
    hourly: Sums
    outbox: Sums
    """Raw sums of the meter events; zero while nobody is billed."""
    acknowledged: dict[str, int]
    """Meter → units that Stripe has acknowledged."""
    stripe: dict[str, int]
    """Meter → units that Stripe has."""
    open: int
    """Meter events that are not acknowledged, and hours that are not closed."""
    dead: int

    @property
    def billed(self) -> Sums:
        return sums_of(self.records.values())


def sums_of(entries: Iterable[Entry]) -> Sums:
    billed = [entry for entry in entries if entry.billed]
    return Sums(len(billed), sum(entry.cpu_us for entry in billed), sum(entry.mib_us for entry in billed))


class JournalCopy:
    """A second name for each file of the journal, from the moment it is there: what is deleted can still be read."""

    def __init__(self, server: Server) -> None:
        self._source = server.data_dir / "gateway" / "journal"
        self._folder = server.data_dir / "journal-copy"
        self._folder.mkdir()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            time.sleep(_POLL_S)
        self._look()

    def _look(self) -> None:
        for path in self._source.glob("*.segment"):
            copy = self._folder / path.name
            # Deleted at this very moment: then it was linked long ago.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(path, copy)

    def entries(self) -> Iterator[tuple[str, str, Entry]]:
        """(invocation id, version id, entry) of every record that is whole."""
        for path in sorted(self._folder.iterdir()):
            data = path.read_bytes()
            committed = HEADER.unpack_from(data)[3]
            for at in range(HEADER_BYTES, committed, SLOT_BYTES):
                slot = data[at : at + SLOT_BYTES]
                fields = SLOT.unpack(slot)
                assert fields[0] == crc32c(slot[4:]), f"{path.name} at {at}"
                assert fields[1] == KIND_USAGE
                yield fields[2].hex(), fields[17].rstrip(b"\0").decode(), entry_of(fields)


def entry_of(fields: tuple[int, ...]) -> Entry:
    """Counted once more, and not with the code that is tested."""
    wall_ns, cpu_ns, memory_bytes, status, outcome, flags = (fields[n] for n in (6, 7, 8, 13, 14, 15))
    name = OUTCOMES[outcome]
    billed = flags & 4 == 4 and name not in ("internal", PLATFORM_ABORTED)
    return Entry(name, status, billed, cpu_ns // 1000, (memory_bytes + 2**20 - 1) // 2**20 * (wall_ns // 1000))


def read_books(server: Server, function: str, journal: JournalCopy) -> Books:
    with _open(server.data_dir / "control-plane.db") as ours:
        versions = [
            row[0] for row in ours.execute("SELECT version_id FROM usage_versions WHERE function = ?", (function,))
        ]
        rows = ours.execute(
            "SELECT invocation_id, outcome, status, billed, cpu_us, mib_us FROM usage_records WHERE function = ?",
            (function,),
        ).fetchall()
        hourly = ours.execute(_HOURLY, (function,)).fetchone()
        raw = dict(ours.execute("SELECT meter, sum(raw) FROM meter_events WHERE tenant_id IN (" + _OWNER, (function,)))
        acknowledged = dict(ours.execute(_ACKNOWLEDGED + _OWNER, (function,)))
        waiting = ours.execute("SELECT count(*) FROM meter_events WHERE state IN ('new', 'sending')").fetchone()[0]
        dirty = ours.execute("SELECT count(*) FROM usage_hours WHERE dirty").fetchone()[0]
        dead = ours.execute("SELECT count(*) FROM usage_dead_letters").fetchone()[0]
        customers = [row[0] for row in ours.execute(_CUSTOMERS, (function,)) if row[0]]
        meters = dict(ours.execute("SELECT stripe_id, name FROM stripe_objects WHERE kind = 'meter'"))
    assert versions, f"nobody ever deployed {function}"
    entries = [(one, entry) for one, version, entry in journal.entries() if version in versions]
    counted = Counter(one for one, _ in entries) | Counter(row[0] for row in rows)
    return Books(
        journal=dict(entries),
        records={row[0]: Entry(row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows},
        twice=[one for one, count in counted.items() if count > 1],
        hourly=Sums(*hourly),
        outbox=Sums(*(raw.get(meter) or 0 for meter in UNITS)),
        acknowledged={meter: acknowledged.get(meter, 0) for meter in UNITS},
        stripe=_stripe(server, customers, meters),
        open=waiting + dirty,
        dead=dead,
    )


_OWNER = "SELECT tenant_id FROM usage_versions WHERE function = ?) GROUP BY meter"
_ACKNOWLEDGED = "SELECT meter, sum(value) FROM meter_events WHERE state = 'acknowledged' AND tenant_id IN ("
_HOURLY = (
    "SELECT coalesce(sum(invocations), 0), coalesce(sum(cpu_us), 0), coalesce(sum(mib_us), 0) FROM usage_hourly "
    "WHERE function = ?"
)
_CUSTOMERS = (
    "SELECT DISTINCT stripe_customer_id FROM subscriptions JOIN usage_versions USING (tenant_id) WHERE function = ?"
)


def _stripe(server: Server, customers: list[str], meters: dict[str, str]) -> dict[str, int]:
    """What Stripe has, by what it does not share with us: its own file."""
    found = dict.fromkeys(UNITS, 0)
    with _open(server.data_dir / "simulated-stripe" / "stripe.sqlite") as theirs:
        for meter, customer, value in theirs.execute("SELECT meter, customer, value FROM meter_events"):
            if customer in customers:
                found[meters[meter].removeprefix("tailcut_").replace("_", "-")] += value
    return found


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=HANG_S)
    try:
        yield connection
    finally:
        connection.close()


def wait_for_books(server: Server, function: str, journal: JournalCopy, *, paid: bool = False) -> Books:
    """Until everything in the journal is in SQL, and everything in SQL has gone through the outbox where somebody pays;
    a deadline ends a hanging test. The gateway must live and have nothing in flight."""
    deadline = time.monotonic() + HANG_S
    while True:
        books = read_books(server, function, journal)
        booked = books.journal.keys() == books.records.keys() and books.billed == books.hourly
        if booked and (not paid or (books.open == 0 and books.outbox == books.billed)):
            return books
        if time.monotonic() > deadline:
            return books  # `check` says what is wrong
        time.sleep(0.25)


def check(log: ClientLog, books: Books, *, paid: bool = False) -> None:
    """To the unit. Refused calls (429, 402, 404, and 503 before they ran) have no record, or one that costs nothing."""
    assert not log.faults, log.faults[:3]
    assert not books.twice, books.twice[:3]
    assert books.dead == 0
    assert books.journal == books.records, _differences(books)
    for one, status in log.answered.items():
        record = books.records.get(one)
        if status == 200:
            assert record is not None, f"{one} was answered and is in no book"
            assert record.billed, f"{one} was served and is not billed: {record}"
        if record is not None:
            assert record.status == status, f"{one} was answered {status}; the books say {record}"
    aborted = [one for one, record in books.records.items() if record.outcome == PLATFORM_ABORTED]
    answered_and_aborted = [one for one in aborted if one in log.answered]
    assert not answered_and_aborted, answered_and_aborted[:3]
    assert not [one for one in aborted if books.records[one].billed]
    # Whoever got no answer may have run, at most once each: nobody is billed for what nobody sent.
    unheard = [one for one in books.records if one not in log.answered]
    assert len(unheard) <= log.broken, (len(unheard), log.broken)
    assert books.billed == books.hourly == sums_of(books.journal.values())
    if paid:
        assert books.open == 0
        assert books.outbox == books.hourly
        whole = {name: raw // unit for (name, unit), raw in zip(UNITS.items(), books.outbox, strict=True)}
        assert books.acknowledged == whole
        assert books.stripe == whole


def _differences(books: Books) -> list[tuple[str, Entry | None, Entry | None]]:
    keys = books.journal.keys() | books.records.keys()
    different = [(one, books.journal.get(one), books.records.get(one)) for one in keys]
    return [each for each in different if each[1] != each[2]][:3]
