"""Runs the real pipeline on prepared data, a step at a time, and kills itself with SIGKILL before the step asked for.

A program of its own, for ``test_steps``, which gives it the address of the simulated Stripe and the key for it. It
imports everything once, then forks a process for each line of its input (``Order`` as JSON) and answers with a line
(``Outcome``). The hooks are placed from outside, in the fork: before every command to Redis, statement and commit of
SQL, request to Stripe and change of the journal's folder. What runs is ``run()`` of the shipper and the consumer, or of
metering; who goes to sleep has ended their turn, so one thing happens at a time and the same step has the same number
each time. So "after a step" is "before the next one"; what only reads is no step, for a kill before it leaves the same
as one after it.
"""

import asyncio
import gc
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import asyncpg
import httpx
from redis.asyncio import Redis
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import configure_mappers

from control_plane.auth.sealing import Sealer
from control_plane.billing import metering
from control_plane.billing.stripe_client import StripeClient
from control_plane.bundles.store import BundleStore
from control_plane.context import Context
from control_plane.database import Database
from control_plane.settings import Settings
from control_plane.usage import consumer, repository
from gateway.contract.usage import SLOT_BYTES, Position
from gateway.core.data_plane import DataPlane, valid_slots
from gateway.host import shipping
from gateway.host.journal import Journal
from gateway.settings import HostSettings

NODE: Final = 0x7E57_0000_0000_0002
"""Of the gateway that runs; the prepared journal is an earlier one's."""
WHOLE: Final = 10_000
"""A step that no run reaches: it ends undisturbed."""
_RUN_SLOTS: Final = 3
"""Slots of an entry in Redis, and of a transaction: few records make several of both."""
_TURNS_MAX: Final = 12
_HANGING_S: Final = 100
_READS: Final = frozenset(
    {"BEGIN", "GET", "HGETALL", "RELEASE", "SAVEPOINT", "SELECT", "SHOW", "SMEMBERS", "XINFO STREAM", "XLEN", "XRANGE"}
)
"""Commands of Redis and of SQL that change nothing by themselves."""


@dataclass(frozen=True, slots=True)
class Order:
    part: str
    """``usage``: journal → Redis → SQL; ``meters``: SQL → Stripe."""
    folder: str
    """Holds ``journal/``, perhaps the database and, when the run is over, ``steps``."""
    redis_url: str
    database_url: str
    """As ``control_plane.database`` takes it."""
    kill_at: int
    sabotage: str = ""
    """A defect that the test must find."""


@dataclass(frozen=True, slots=True)
class Outcome:
    exit: int
    """As ``subprocess`` says it: −9 is a process that was killed."""
    steps: list[str]
    """Each that was reached, by name."""


def main() -> None:
    client = _warm_up(*sys.argv[1:])
    for line in sys.stdin:
        order = Order(**json.loads(line))
        names = Path(order.folder, "steps")
        names.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _run(order, names, client)
        _, status = os.waitpid(pid, 0)
        outcome = Outcome(os.waitstatus_to_exitcode(status), names.read_text().splitlines())
        print(json.dumps(asdict(outcome)), flush=True)


def _warm_up(stripe_url: str, stripe_key: str) -> StripeClient:
    """What is imported or made at its first use is there before the fork. Connects to nothing."""
    configure_mappers()
    Database("sqlite+aiosqlite://")
    valid_slots(bytes(SLOT_BYTES))
    client = StripeClient(stripe_key, stripe_url)
    gc.freeze()
    gc.disable()
    return client


def _run(order: Order, names: Path, client: StripeClient) -> None:
    try:
        signal.alarm(_HANGING_S)
        os.dup2(2, 1)  # the other end reads only outcomes there
        _place_hooks(_Steps(order.kill_at, names), Path(order.folder, "journal"))
        for target, name, wrong in _sabotage(order.sabotage):
            patch.object(target, name, wrong).start()
        asyncio.run(_usage(order) if order.part == "usage" else _meters(order, client))
        os._exit(0)
    finally:
        traceback.print_exc()  # only what was raised comes here
        os._exit(1)


# -- what runs ---------------------------------------------------------------------------------------------------------


async def _usage(order: Order) -> None:
    journal = Journal(Path(order.folder, "journal"), NODE, DataPlane.__new__(DataPlane), reactors=1)
    settings = HostSettings(listen_fds=(0,), reactor_cpus=(0,), zygote_path="", REDIS_URL=order.redis_url)
    database = Database(order.database_url)
    for module, name, value in (
        (shipping, "_LOOK_S", 0.0),
        (shipping, "_RUN_BYTES_MAX", _RUN_SLOTS * SLOT_BYTES),
        (consumer, "RECORDS_MAX", _RUN_SLOTS),
    ):
        patch.object(module, name, value).start()
    ships = _Actor(shipping, shipping.Shipping(settings, journal).run)
    books = _Actor(consumer, consumer.UsageConsumer(database, Redis.from_url(order.redis_url)).run)
    for _ in range(_TURNS_MAX):
        shipped = not journal.segments()
        await ships.turn()
        await books.turn()
        if shipped:
            return  # the turn after the last file has gone, too
    raise AssertionError(f"after {_TURNS_MAX} turns there is still {sorted(journal.segments())}")


async def _meters(order: Order, client: StripeClient) -> None:
    settings = Settings(data_dir=Path(order.folder), database_url=order.database_url)
    context = Context(
        settings=settings,
        database=Database(settings.effective_database_url),
        bundles=BundleStore(settings.effective_bundle_store_url),
        operator_token="",
        sealer=Sealer(bytes(32)),
        uploads=asyncio.Semaphore(1),
    )
    await _Actor(metering, metering.Metering(context, client).run).turn()


class _Actor:
    """Something that runs for ever: its module's ``asyncio.sleep`` ends its turn. Stands in for that ``asyncio``."""

    def __init__(self, module: ModuleType, run: Callable[[], Awaitable[None]]) -> None:
        self._run = run
        self._task: asyncio.Future[None] | None = None
        self._asleep, self._awake = asyncio.Event(), asyncio.Event()
        patch.object(module, "asyncio", self).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, _delay_s: float) -> None:
        self._awake.clear()
        self._asleep.set()
        await self._awake.wait()

    async def turn(self) -> None:
        self._asleep.clear()
        self._awake.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(lambda _: self._asleep.set())
        await self._asleep.wait()
        if self._task.done():
            self._task.result()
            raise AssertionError("what runs for ever has ended")


# -- the steps ---------------------------------------------------------------------------------------------------------


class _Steps:
    """Counts from 1; the process does not survive number ``kill_at``."""

    def __init__(self, kill_at: int, names: Path) -> None:
        self._kill_at = kill_at
        self._numbers = itertools.count(1)
        self._file = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reach(self, name: str) -> None:
        os.write(self._file, f"{name}\n".encode())
        if next(self._numbers) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _place_hooks(steps: _Steps, journal: Path) -> None:
    command, send = Redis.execute_command, httpx.AsyncClient.send

    async def execute_command(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments[0] not in _READS:
            steps.reach(" ".join(map(str, arguments[:2])))
        return await command(self, *arguments, **options)  # type: ignore[no-untyped-call]

    async def send_request(self: Any, request: httpx.Request, **options: Any) -> httpx.Response:
        steps.reach(f"{request.method} {request.url.path}")
        return await send(self, request, **options)

    def before_statement(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        words = statement.split()
        if words[0].upper() not in _READS:
            steps.reach(" ".join(words[: 3 if words[0] == "INSERT" else 2]))

    copy = asyncpg.Connection.copy_records_to_table

    async def copy_records(self: Any, table: str, **options: Any) -> Any:
        steps.reach(f"COPY {table}")
        return await copy(self, table, **options)

    patch.object(asyncpg.Connection, "copy_records_to_table", copy_records).start()

    patch.object(Redis, "execute_command", execute_command).start()
    patch.object(httpx.AsyncClient, "send", send_request).start()
    event.listen(Engine, "before_cursor_execute", before_statement)
    event.listen(Engine, "commit", lambda _connection: steps.reach("COMMIT"))

    def audited(name: str, arguments: Sequence[Any]) -> None:
        # Files that change; reading is no step.
        writes = name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or name in ("os.rename", "os.remove")) and str(arguments[0]).startswith(str(journal)):
            steps.reach(f"{name} {Path(arguments[0]).suffix}")

    sys.addaudithook(audited)


# -- defects -----------------------------------------------------------------------------------------------------------


def _sabotage(name: str) -> list[tuple[Any, str, Any]]:
    move, send = repository.move_watermark, StripeClient.send_meter_event

    async def move_apart(session: AsyncSession, number: int, after: Position, end: Position) -> bool:
        async with AsyncSession(session.bind) as own, own.begin():
            return await move(own, number, after, end)

    async def send_under_a_new_name(self: Any, params: Any) -> Any:
        return await send(self, params | {"identifier": f"{params['identifier']}:{os.getpid()}"})

    return {
        "": [],
        "the watermark in a transaction of its own": [(repository, "move_watermark", move_apart)],
        "each sending under a new identifier": [(StripeClient, "send_meter_event", send_under_a_new_name)],
    }[name]


if __name__ == "__main__":
    main()
