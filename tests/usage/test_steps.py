"""A kill at each step of the pipeline: journal = records = hours = shapes, and outbox = Stripe, exactly, every time.

``tests.usage.steps`` runs the real shipper, consumer and metering on data prepared here and kills itself between any
two commands to Redis, statements and commits of SQL, requests to Stripe and changes of the journal's folder. Then
everything starts anew, undisturbed, and the books are compared. Random kills of the real processes under load are in
``test_faults``; here none is left out.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from alembic import command

from control_plane.migrate import alembic_config
from gateway.contract.usage import HEADER, HEADER_BYTES, MAGIC, SLOT, aborted_slot
from gateway.host.journal import INFLIGHT_BYTES
from tests.control_plane.stripe import API_KEY, SimulatedStripe, ask_postgres
from tests.control_plane.usage_feed import Call
from tests.support.postgres import Postgres
from tests.support.valkey import Valkey
from tests.usage.books import UNITS, Entry, entry_of, sums_of
from tests.usage.steps import WHOLE, Order, Outcome

GATEWAY = 0x7E57_0000_0000_0001
"""The one that wrote the journal, and died."""
TENANT = "tnt_stepped"
VERSIONS = ("ver_first", "ver_second")
NOBODYS = "ver_nobodys"
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)


@dataclass
class Stepper:
    """The program, what it works on, and how that was in the beginning."""

    program: "subprocess.Popen[str]"
    folder: Path
    fresh: Path
    database: "Sqlite | Postgresql"
    valkey: Valkey
    stripe: SimulatedStripe

    def begin(self) -> None:
        """Everything as if nothing had ever been shipped, booked or sent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.fresh, self.folder)
        self.database.begin()
        self.valkey.client().flushall()
        with sqlite3.connect(self.stripe.file, timeout=30) as theirs:
            theirs.execute("DELETE FROM meter_events")
            theirs.execute("DELETE FROM state WHERE name LIKE 'identifier %'")

    def run(self, part: str, kill_at: int = WHOLE, sabotage: str = "") -> Outcome:
        order = Order(part, str(self.folder), self.valkey.url, self.database.url, kill_at, sabotage)
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        print(json.dumps(asdict(order)), file=self.program.stdin, flush=True)
        return Outcome(**json.loads(self.program.stdout.readline()))

    def killed_at_each_step(self, part: str, sabotage: str = "") -> Iterator[str]:
        """→ the name of the step, after everything has started anew and come to its end."""
        for number in range(1, WHOLE, self.database.stride):
            self.begin()
            outcome = self.run(part, number, sabotage)
            if outcome.exit == 0:
                assert number - self.database.stride <= len(outcome.steps) < number
                return
            assert (outcome.exit, len(outcome.steps)) == (-9, number), outcome
            again = self.run(part, WHOLE, sabotage)
            assert again.exit == 0, (number, outcome.steps[-1], again.steps[-3:])
            yield f"{number}, {outcome.steps[-1]}"

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(map(plain, row)) for row in self.database.ask(query)]


def plain(value: Any) -> Any:
    """A sum of PostgreSQL's is a Decimal."""
    return int(value) if isinstance(value, Decimal) else value


class Sqlite:
    """In the folder that is copied for each run."""

    stride = 1
    insert = "INSERT INTO usage_records"

    def __init__(self, fresh: Path, folder: Path) -> None:
        self._fresh, self._file = fresh / "database.sqlite", folder / "database.sqlite"
        self.url = f"sqlite+aiosqlite:///{self._file}"
        command.upgrade(alembic_config(f"sqlite+aiosqlite:///{self._fresh}"), "head")

    def prepare(self, *statements: str) -> None:
        with sqlite3.connect(self._fresh) as ours:
            for statement in statements:
                ours.execute(statement)

    def begin(self) -> None:
        """It was copied."""

    def ask(self, query: str) -> list[Any]:
        with sqlite3.connect(self._file, timeout=30) as ours:
            return ours.execute(query).fetchall()


class Postgresql:
    """A database that is made anew from another one for each run. TAILCUT_STEPS_STRIDE=1 leaves no step out."""

    stride = int(os.environ.get("TAILCUT_STEPS_STRIDE", "25"))
    insert = "COPY usage_records"

    def __init__(self, server: Postgres) -> None:
        self._server = server
        fresh, own = server.new_database(), server.new_database()
        self._fresh, self._own = (urlsplit(url).path.strip("/") for url in (fresh, own))
        self._dsn = own
        self.url = own.replace("postgresql:", "postgresql+asyncpg:")
        command.upgrade(alembic_config(fresh.replace("postgresql:", "postgresql+asyncpg:")), "head")

    def prepare(self, *statements: str) -> None:
        for statement in statements:
            self._server.execute(statement, self._fresh)

    def begin(self) -> None:
        self._server.execute(f"DROP DATABASE IF EXISTS {self._own} WITH (FORCE)")
        self._server.execute(f"CREATE DATABASE {self._own} TEMPLATE {self._fresh}")

    def ask(self, query: str) -> list[Any]:
        return asyncio.run(ask_postgres(self._dsn, query, ()))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stepper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepper]:
    base = tmp_path_factory.mktemp("steps")
    fresh, work = base / "fresh", base / "work"
    (fresh / "journal").mkdir(parents=True)
    stripe = SimulatedStripe(base / "stripe", "http://127.0.0.1:9/nobody")
    arguments = (sys.executable, "-m", "tests.usage.steps", stripe.url, API_KEY)
    (base / "valkey").mkdir()
    is_sqlite = request.param == "sqlite"
    database = Sqlite(fresh, work) if is_sqlite else Postgresql(request.getfixturevalue("postgres"))
    with (
        Valkey(base / "valkey") as valkey,
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program,
    ):
        made = Stepper(program, work, fresh, database, valkey, stripe)
        prepare_database(database, customer_in(stripe))
        yield made
        assert program.stdin is not None
        program.stdin.close()
    stripe.kill()


def customer_in(stripe: SimulatedStripe) -> str:
    for meter in UNITS:
        form = {
            "display_name": meter,
            "event_name": f"tailcut_{meter.replace('-', '_')}",
            "default_aggregation[formula]": "sum",
            "customer_mapping[type]": "by_id",
            "customer_mapping[event_payload_key]": "stripe_customer_id",
            "value_settings[event_payload_key]": "value",
        }
        stripe.post("/v1/billing/meters", **form)
    return str(stripe.post("/v1/customers", name="stepped")["id"])


def prepare_database(database: Sqlite | Postgresql, customer: str) -> None:
    database.prepare(
        "INSERT INTO tier_versions (id, tier, number, sha256, currency, document, current, created_at) "
        f"VALUES ('tver_none', 'none', 1, '', 'usd', '{{}}', FALSE, '{moment(HOUR)}')",
        f"INSERT INTO tenants (id, name, created_at) VALUES ('{TENANT}', 'stepped', '{moment(HOUR)}')",
        "INSERT INTO subscriptions (tenant_id, tier_version_id, status, overrides, cancel_at_period_end,"
        f" stripe_customer_id, sync_number, updated_at) VALUES ('{TENANT}', 'tver_none', 'active', '{{}}', FALSE,"
        f" '{customer}', 0, '{moment(HOUR)}')",
        *(
            f"INSERT INTO usage_versions (version_id, tenant_id, function) VALUES ('{version}', '{TENANT}', 'hello')"
            for version in VERSIONS
        ),
    )


def moment(at: datetime) -> str:
    """As both databases take it."""
    return f"{at:%Y-%m-%d %H:%M:%S}.000000"


def prepare_journal(folder: Path) -> list[bytes]:
    """What a gateway leaves that was killed. → the slots that the books must have.

    A full segment; one that was being written, with a record behind ``committed``; a call that had begun.
    """
    first, second = (Call(version, arrived_at=HOUR + timedelta(minutes=1)) for version in VERSIONS)
    later = Call(VERSIONS[0], arrived_at=HOUR + timedelta(hours=1), cpu_us=7_777)
    full = [first, second, *first.many(1, outcome="internal", status=500), later, Call(NOBODYS)]
    open_ = [*second.many(1, cpu_us=123), *later.many(2)]
    begun = (bytes.fromhex(first.many(1)[0].invocation_id), int(HOUR.timestamp()) * 10**9, VERSIONS[0].encode())
    for number, calls, behind in ((1, full, 0), (2, open_, 1)):
        slots = b"".join(call.slot() for call in calls)
        committed = HEADER_BYTES + len(slots) // len(calls) * (len(calls) - behind)
        header = HEADER.pack(MAGIC, GATEWAY, number, committed, not behind).ljust(HEADER_BYTES, b"\0")
        (folder / f"{GATEWAY:016x}-00-{number:08x}.segment").write_bytes(header + slots + bytes(1024))
    table = begun[0] + begun[1].to_bytes(8, "little") + begun[2].ljust(40, b"\0")
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    (folder / f"{GATEWAY:016x}-00.inflight").write_bytes(table.ljust(INFLIGHT_BYTES, b"\0") + boot)
    aborted = aborted_slot(begun[0], begun[2].ljust(32, b"\0"), begun[1])
    return [*(call.slot() for call in [*full, *open_] if call.version != NOBODYS), aborted]


def test_a_kill_at_each_step_from_the_journal_to_sql(stepper: Stepper) -> None:
    slots = prepare_journal(stepper.fresh / "journal")
    journal = {fields[2].hex(): entry_of(fields) for fields in map(SLOT.unpack, slots)}
    assert len(journal) == len(slots) == 8
    steps = 0
    for step in stepper.killed_at_each_step("usage"):
        steps += 1
        assert usage_differences(stepper, journal) == [], step
        left = sorted(key.decode() for key in stepper.valkey.client().scan_iter("tailcut:usage:stream:*"))
        assert left == [], step
    print(f"{steps} steps from the journal to SQL, a kill at each")
    assert steps > 50 // stepper.database.stride
    if stepper.database.stride > 1:
        return  # a sample; that the comparison can fail is shown with the other database
    # Control: a defect that only a kill shows is found, at the steps where it shows.
    wrong = "the watermark in a transaction of its own"
    stepper.begin()
    whole = stepper.run("usage", sabotage=wrong)
    assert (whole.exit, usage_differences(stepper, journal)) == (0, [])
    stepper.begin()
    assert stepper.run("usage", 1 + whole.steps.index(stepper.database.insert), wrong).exit == -9
    assert stepper.run("usage", sabotage=wrong).exit == 0
    assert usage_differences(stepper, journal) != []


def usage_differences(stepper: Stepper, journal: dict[str, Entry]) -> list[str]:
    """Whatever is not as the journal has it, in words."""
    rows = stepper.ask("SELECT invocation_id, outcome, status, billed, cpu_us, mib_us FROM usage_records")
    records = {row[0]: Entry(row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows}
    hours = stepper.ask("SELECT sum(invocations), sum(cpu_us), sum(mib_us) FROM usage_hourly")[0]
    found = [f"twice: {one}" for one, count in Counter(row[0] for row in rows).items() if count > 1]
    found += [f"{name} of {journal.get(name)} is {records.get(name)}" for name in journal.keys() | records.keys()
              if journal.get(name) != records.get(name)]  # fmt: skip
    if hours != sums_of(journal.values()):
        found.append(f"hours: {hours}; journal: {sums_of(journal.values())}")
    for span in ("hour", "day"):
        [(calls,)] = stepper.ask(f"SELECT sum(calls) FROM usage_shapes WHERE span = '{span}'")
        if calls != len(journal):
            found.append(f"shapes of the {span}: {calls} calls; journal: {len(journal)}")
    [(dead,)] = stepper.ask("SELECT count(*) FROM usage_dead_letters")
    return [*found, *([f"{dead} dead letters"] if dead != 1 else [])]


def test_a_kill_at_each_step_from_the_outbox_to_stripe(stepper: Stepper) -> None:
    """Two hours, of which one has less than a unit of one meter: five events."""
    shutil.rmtree(stepper.fresh / "journal")
    for hours, (invocations, cpu_us, mib_us) in ((0, (3, 2_500, 1_300_000)), (1, (2, 1_700, 600_000))):
        at = moment(HOUR + timedelta(hours=hours))
        stepper.database.prepare(
            f"INSERT INTO usage_hours (tenant_id, hour, open_revision, dirty) VALUES ('{TENANT}', '{at}', 0, TRUE)",
            "INSERT INTO usage_hourly (tenant_id, function, version_id, hour, revision, invocations, errors, cpu_us,"
            f" mib_us) VALUES ('{TENANT}', 'hello', '{VERSIONS[0]}', '{at}', 0, {invocations}, 0, {cpu_us}, {mib_us})",
        )
    steps = 0
    for step in stepper.killed_at_each_step("meters"):
        steps += 1
        assert meter_differences(stepper) == [], step
    print(f"{steps} steps from the hours to Stripe, a kill at each")
    assert steps > 30 // stepper.database.stride
    if stepper.database.stride > 1:
        return
    # Control: the answer to a sending is lost, and it is repeated under another name.
    wrong = "each sending under a new identifier"
    stepper.begin()
    whole = stepper.run("meters", sabotage=wrong)
    assert (whole.exit, meter_differences(stepper)) == (0, [])
    stepper.begin()
    assert stepper.run("meters", 2 + whole.steps.index("POST /v1/billing/meter_events"), wrong).exit == -9
    assert stepper.run("meters", sabotage=wrong).exit == 0
    assert meter_differences(stepper) != []


def meter_differences(stepper: Stepper) -> list[str]:
    """Hours = outbox = Stripe, by what Stripe does not share with us: its own file."""
    [hours] = stepper.ask("SELECT sum(invocations), sum(cpu_us), sum(mib_us) FROM usage_hourly")
    raw = dict(stepper.ask("SELECT meter, sum(raw) FROM meter_events GROUP BY meter"))
    sent = dict(stepper.ask("SELECT meter, sum(value) FROM meter_events WHERE state = 'acknowledged' GROUP BY meter"))
    counted = dict.fromkeys(UNITS, 0)
    with sqlite3.connect(stepper.stripe.file, timeout=30) as theirs:
        names = {one["id"]: one["event_name"] for one in stepper.stripe.get("/v1/billing/meters")["data"]}
        for meter, value in theirs.execute("SELECT meter, value FROM meter_events"):
            counted[names[meter].removeprefix("tailcut_").replace("_", "-")] += value
    found = []
    for total, (meter, unit) in zip(hours, UNITS.items(), strict=True):
        seen = (raw.get(meter), sent.get(meter), counted[meter])
        if seen != (total, total // unit, total // unit):
            found.append(f"{meter}: {total} in the hours; raw, acknowledged and counted by Stripe: {seen}")
    waiting = stepper.ask("SELECT count(*) FROM meter_events WHERE state NOT IN ('acknowledged', 'unbilled')")
    dirty = stepper.ask("SELECT count(*) FROM usage_hours WHERE dirty")
    return [*found, *([f"open: {waiting}, {dirty}"] if (waiting, dirty) != ([(0,)], [(0,)]) else [])]
