"""Load, faults and the checker in one run: `make test` does it with a little, `make soak-books` with much.

What is under load is a whole server of its own whose tenant has bought a tier, so that everything reaches Stripe's
server, too. Hours are billed at once and again and again (``usage_hour_grace`` of minus an hour), which makes many
revisions of an hour, and faults in the middle of the outbox likely.
"""

import time
from collections import Counter
from dataclasses import dataclass

import httpx

from tests.support.server import HANG_S, Server
from tests.usage.books import Books, JournalCopy, check, wait_for_books
from tests.usage.client import ClientLog, Hammer
from tests.usage.nemesis import Nemesis

SETTINGS = {"usage_hour_grace": "-PT1H", "billing_interval": "PT0.3S"}
FUNCTION = "counted"
THREADS = 8
PAUSE_S = 0.008
"""Between two calls of a thread: the load is there while faults are, and does not end before the first is healed."""
ECHO = "def handler(marker: str) -> dict:\n    return {'marker': marker}\n"


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    log: ClientLog
    books: Books
    struck: Counter[str]
    load_s: float
    settled_s: float
    """From the last answer until the books were complete."""

    def text(self) -> str:
        outcomes = Counter(record.outcome for record in self.books.records.values())
        statuses = Counter(self.log.answered.values())
        lines = {
            "seed": self.seed,
            "faults": f"{self.struck.total()}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(self.struck.items())),
            "load": f"{self.load_s:.0f} s; complete {self.settled_s:.1f} s after the last answer",
            "answered": f"{len(self.log.answered)}: " + ", ".join(f"{n} × {s}" for s, n in sorted(statuses.items())),
            "broken": self.log.broken,
            "journal": len(self.books.journal),
            "SQL": f"{len(self.books.records)}: " + ", ".join(f"{n} {name}" for name, n in outcomes.most_common()),
            "billed": " = ".join(str(tuple(each)) for each in (self.books.billed, self.books.hourly)),
            "outbox": tuple(self.books.outbox),
            "Stripe": f"{self.books.stripe}, acknowledged {self.books.acknowledged}",
        }
        return "\n".join(f"{name:10} {value}" for name, value in lines.items())


def run(server: Server, *, calls: int, faults: int, seed: int) -> Report:
    """Raises AssertionError when the books do not balance. ``server``: started with ``SETTINGS``."""
    become_payer(server)
    server.deploy(FUNCTION, ECHO)
    journal = JournalCopy(server)
    began_s = time.monotonic()
    hammer = Hammer(server, FUNCTION, threads=THREADS, pause_s=PAUSE_S)
    nemesis = Nemesis(server, hammer, calls, faults, seed)
    try:
        nemesis.start()
        while hammer.count < calls:
            time.sleep(0.05)
            assert time.monotonic() - began_s < HANG_S + calls / 50, f"{hammer.count} of {calls} calls"
        nemesis.wait()
    finally:
        nemesis.stop()
        log = hammer.stop()
    ended_s = time.monotonic()
    try:
        server.wait_for(lambda: server.pid("gateway"), what="a gateway")
        books = wait_for_books(server, FUNCTION, journal, paid=True)
    finally:
        journal.stop()
    report = Report(seed, log, books, nemesis.struck, ended_s - began_s, time.monotonic() - ended_s)
    try:
        check(log, books, paid=True)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{report.text()}") from error
    return report


def become_payer(server: Server, name: str = "payer") -> None:
    """From now on ``server`` acts for a tenant of its own that has bought the tier Scale."""
    token = (server.data_dir / "operator-token").read_text().strip()
    created = _api(server, token).post("/v1/tenants", json={"name": name}).raise_for_status().json()
    server.tenant, server.key = created["name"], created["key"]["token"]
    tenant = _api(server, server.key)

    def offered() -> str | None:
        answer = tenant.post("/v1/subscription/checkout", json={"tier": "scale"})
        return str(answer.json()["url"]) if answer.is_success else None

    url = server.wait_for(offered, what="prices in the simulated Stripe")
    assert httpx.post(url, data={"action": "pay"}, timeout=HANG_S, trust_env=False).status_code == 303
    server.wait_for(lambda: tenant.get("/v1/subscription").json()["tier"] == "scale", what="the tier")


def _api(server: Server, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server.control_plane_url, headers=headers, timeout=HANG_S, trust_env=False)
