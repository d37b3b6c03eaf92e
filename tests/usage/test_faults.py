"""Everything between a call and Stripe is killed while calls come, and the books balance to the unit afterwards."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.server import Server
from tests.usage import soak
from tests.usage.books import Entry, JournalCopy, check, read_books, wait_for_books
from tests.usage.client import ClientLog, Hammer

CALLS = 5_000
FAULTS = 8
SLEEPER = "import time\n\ndef handler(marker: str) -> None:\n    time.sleep(60)\n"


def test_every_answer_has_exactly_one_record(server: Server) -> None:
    server.deploy("counted-once", soak.ECHO)
    journal = JournalCopy(server)
    hammer = Hammer(server, "counted-once", threads=2)
    server.wait_for(lambda: hammer.count > 300, what="300 calls")
    log = hammer.stop()
    assert log.broken == 0
    books = wait_for_books(server, "counted-once", journal)
    journal.stop()
    check(log, books)
    assert set(books.records) == set(log.answered)
    assert all(record.cpu_us > 0 and record.mib_us > 0 for record in books.records.values()), "both are measured"
    # Control: the checker finds a record that is missing, doubled, wrong or somebody else's.
    one = next(iter(books.records))
    other = {name: record for name, record in books.records.items() if name != one}
    for wrong_log, wrong_books in (
        (log, replace(books, records=other)),
        (log, replace(books, records=other, journal=other)),
        (log, replace(books, twice=[one])),
        (log, replace(books, hourly=books.hourly._replace(cpu_us=books.hourly.cpu_us + 1))),
        (ClientLog(answered=dict.fromkeys(other, 200)), books),
        (ClientLog(answered=log.answered, faults=["another body"]), books),
        (ClientLog(answered=log.answered | {one: 500}), books),
    ):
        with pytest.raises(AssertionError):
            check(wrong_log, wrong_books)
    with pytest.raises(AssertionError):
        check(log, books, paid=True)  # nobody pays here: neither outbox nor Stripe has anything


def test_the_books_balance_to_stripe_after_faults_at_random_moments(own_server: Callable[..., Server]) -> None:
    """The same code as `make soak-books`; TAILCUT_TEST_SEED repeats a run."""
    seed = int(os.environ.get("TAILCUT_TEST_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}")
    report = soak.run(own_server(**soak.SETTINGS), calls=CALLS, faults=FAULTS, seed=seed)
    print(report.text())
    assert report.struck.total() == FAULTS
    assert len(report.log.served()) > CALLS / 2


def test_calls_in_flight_when_the_gateway_is_killed_are_aborted_once_and_free(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    server.deploy("sleeper", SLEEPER, timeout_ms=60_000)
    journal = JournalCopy(server)
    hammers = [Hammer(server, "sleeper", threads=1) for _ in range(3)]
    server.wait_for(lambda: busy(server) == 3, what="three invocations that run")
    for hammer in hammers:
        hammer.finish()

    def begin_anew() -> None:
        before = server.pid("gateway")
        server.kill(before)
        server.wait_for(lambda: server.pid("gateway") not in (None, before), what="a new gateway")

    begin_anew()
    logs = [hammer.stop() for hammer in hammers]
    assert [(len(log.answered), log.broken) for log in logs] == [(0, 1)] * 3
    server.wait_for(lambda: len(read_books(server, "sleeper", journal).records) == 3, what="three records")
    begin_anew()  # which finds nothing new
    time.sleep(1)
    journal.stop()
    books = read_books(server, "sleeper", journal)
    assert set(books.records.values()) == {Entry("platform_aborted", 0, billed=False, cpu_us=0, mib_us=0)}
    for log in logs:
        log.broken += 2  # each of the others' calls
        check(log, books)


def busy(server: Server) -> int:
    """Workers that run an invocation."""
    lines = [line for line in server.metrics().splitlines() if line.startswith("tailcut_workers{")]
    return sum(int(float(line.split()[-1])) for line in lines if 'state="busy"' in line)
