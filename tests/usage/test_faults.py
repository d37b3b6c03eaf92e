"""Everything between a call and SQL is killed while calls come, and the books balance to the unit afterwards."""

import time
from collections.abc import Callable

from tests.support.server import Server
from tests.usage.books import Hammer, check, read_books, wait_for_books

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
        server.kill(victim)
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
        server.kill("valkey")
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
    for broken in (
        lambda: books.records.pop(one),
        lambda: books.twice.append(one),
        lambda: log.mixed.append(one),
        lambda: log.answered.update({one: 500}),
    ):
        books = read_books(server.data_dir, "counted-control")
        answered, mixed = dict(log.answered), list(log.mixed)
        broken()
        try:
            check(log, books)
        except AssertionError:
            pass
        else:
            raise AssertionError("the checker did not notice")
        log.answered, log.mixed = answered, mixed
