"""Everything between a call and SQL is killed while calls come, and the books balance to the unit afterwards."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.server import Server
from tests.usage.books import ClientLog, Hammer, check, wait_for_books

ECHO = "def handler(marker: str) -> dict:\n    return {'marker': marker}\n"


def test_every_answer_has_exactly_one_record(server: Server) -> None:
    server.deploy("counted", ECHO)
    hammer = Hammer(server, "counted")
    time.sleep(2)
    log = hammer.stop()
    assert log.broken == 0
    assert len(log.answered) > 50
    books = wait_for_books(server, "counted", log.answered)
    check(log, books)
    assert set(books.records) == set(log.answered)
    assert all(row[3] > 0 and row[4] > 0 for row in books.records.values()), "CPU and memory are measured"


def test_the_books_balance_after_kills_of_everything_on_the_way(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("counted", ECHO)
    hammer = Hammer(server, "counted")
    for victim in ("gateway", "control-plane", "valkey", "gateway", "valkey", "control-plane", "gateway"):
        time.sleep(1.0)
        before = server.pid(victim)
        server.kill(before)
        server.wait_for(lambda v=victim, b=before: server.pid(v) not in (None, b), what=f"a new {victim}")
    time.sleep(2)
    log = hammer.stop()
    served = [one for one, status in log.answered.items() if status == 200]
    assert len(served) > 100
    check(log, wait_for_books(server, "counted", served))


def test_without_redis_the_journal_keeps_everything_until_it_is_back(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("counted", ECHO)
    hammer = Hammer(server, "counted", threads=2)
    for _ in range(3):
        server.kill(server.pid("valkey"))
        time.sleep(0.7)
    log = hammer.stop()
    served = [one for one, status in log.answered.items() if status == 200]
    books = wait_for_books(server, "counted", served)
    check(log, books)


def test_control_a_record_that_is_missing_or_doubled_is_found(server: Server) -> None:
    server.deploy("counted-control", ECHO)
    hammer = Hammer(server, "counted-control", threads=1)
    time.sleep(0.5)
    log = hammer.stop()
    books = wait_for_books(server, "counted-control", log.answered)
    check(log, books)
    one = next(iter(books.records))
    lost, doubled = dict(books.records), [one]
    lost.pop(one)
    for wrong_log, wrong_books in (
        (log, replace(books, records=lost)),
        (log, replace(books, twice=doubled)),
        (log, replace(books, hourly=(books.hourly[0] + 1, *books.hourly[1:]))),
        (ClientLog(answered=dict(log.answered), mixed=[one]), books),
        (ClientLog(answered=log.answered | {one: 500}), books),
    ):
        with pytest.raises(AssertionError):
            check(wrong_log, wrong_books)
