"""Records are booked once, on SQLite and PostgreSQL; dead letters; how long records are kept."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import func, select, text

from control_plane.database import Database
from control_plane.migrate import alembic_config
from control_plane.models import UsageHourly, UsageRecordRow, now
from control_plane.settings import Settings
from control_plane.tenants import service as tenants
from control_plane.tenants.schemas import TenantCreate
from control_plane.tiers.catalog import load_catalog
from control_plane.tiers.service import sync_catalog
from control_plane.usage import booking, hourly, repository
from control_plane.usage.booking import Owner
from control_plane.usage.retention import Retention
from gateway.contract.usage import HEADER_BYTES, SLOT_BYTES, START, Position
from tests.control_plane.usage_feed import Call
from tests.support.postgres import Postgres

VERSION = "ver_booked"
OWNER = Owner("tnt_booked", "hello", VERSION)
OWNERS = {VERSION.encode().ljust(32, b"\0"): OWNER}
BEGIN = Position(1, HEADER_BYTES)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        found = f"sqlite+aiosqlite:///{tmp_path / 'database.sqlite'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        found = server.new_database().replace("postgresql://", "postgresql+asyncpg://")
    command.upgrade(alembic_config(found), "head")
    return found


def with_database[Value](url: str, act: Callable[[Database], Awaitable[Value]]) -> Value:
    async def run() -> Value:
        database = Database(url)
        try:
            return await act(database)
        finally:
            await database.close()

    return asyncio.run(run())


def run_of(calls: list[Call]) -> bytes:
    return b"".join(call.slot() for call in calls)


def test_what_is_there_already_is_not_booked_again(url: str) -> None:
    """The watermark was lost: the key of the records is the second lock."""
    calls = [*Call(VERSION).many(700), *Call(VERSION, outcome="internal", status=500).many(3)]

    async def book(database: Database, part: list[Call]) -> int:
        async with database.writing() as session:
            await repository.add_streams(session, ["s:00"])
            number = (await repository.streams(session, ["s:00"]))["s:00"].number
            rows = booking.book(number, BEGIN, run_of(part), OWNERS).rows
            inserted = await repository.insert_records(session, rows)
            await hourly.add(session, booking.hours_of(inserted))
        return len(inserted)

    async def act(database: Database) -> tuple[list[int], int, tuple[int, ...]]:
        counts = [await book(database, part) for part in (calls[:600], calls, calls)]
        async with database.reading() as session:
            rows = await session.scalar(select(func.count()).select_from(UsageRecordRow)) or 0
            sums = select(func.sum(UsageHourly.invocations), func.sum(UsageHourly.cpu_us), func.sum(UsageHourly.mib_us))
            return counts, rows, tuple(int(value) for value in (await session.execute(sums)).one())

    counts, rows, sums = with_database(url, act)
    assert counts == [600, 103, 0]
    assert rows == 703
    assert sums == (700, 700 * 5_000, 700 * 20 * 10_000)


def test_the_watermark_moves_only_from_where_it_is(url: str) -> None:
    end = Position(1, HEADER_BYTES + SLOT_BYTES)

    async def act(database: Database) -> tuple[list[bool], Position]:
        async with database.writing() as session:
            await repository.add_streams(session, ["s:00"])
        moved = []
        for after, to in ((START, end), (START, end), (end, Position(2, 5_000))):
            async with database.writing() as session:
                number = (await repository.streams(session, ["s:00"]))["s:00"].number
                moved.append(await repository.move_watermark(session, number, after, to))
        async with database.reading() as session:
            return moved, (await repository.streams(session, ["s:00"]))["s:00"].booked

    assert with_database(url, act) == ([True, False, True], Position(2, 5_000))


def test_records_go_with_the_tiers_retention_and_hours_stay(url: str) -> None:
    async def act(database: Database) -> tuple[int, list[int], int]:
        async with database.writing() as session:
            await sync_catalog(session, load_catalog(Settings().tier_catalog))
        async with database.writing() as session:
            tenant_id = (await tenants.create_tenant(session, TenantCreate(name="kept"))).id
        owners = {VERSION.encode().ljust(32, b"\0"): Owner(tenant_id, "hello", VERSION)}
        ages = [timedelta(days=days, minutes=5) for days in (0, 2, 3, 30)]  # Free keeps three days
        calls = [call for age in ages for call in Call(VERSION, arrived_at=now() - age).many(5)]
        async with database.writing() as session:
            inserted = await repository.insert_records(session, booking.book(1, BEGIN, run_of(calls), owners).rows)
            await hourly.add(session, booking.hours_of(inserted))
        deleted = await Retention(database).round(now())
        async with database.reading() as session:
            left = (await session.scalars(select(UsageRecordRow.arrived_at))).all()
            billed = await session.scalar(select(func.sum(UsageHourly.invocations)))
        async with database.writing() as session:
            await session.execute(text("UPDATE tenants SET status = 'deleted'"))
        after_its_end = await Retention(database).round(now())
        return deleted, [len(left), after_its_end], int(billed or 0)

    assert with_database(url, act) == (10, [10, 10], 20)


def test_dead_letters_are_listed_booked_after_all_and_dropped(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'database.sqlite'}"
    command.upgrade(alembic_config(url), "head")
    lost, wrong = Call("ver_unknown_yet"), bytearray(Call(VERSION).slot())
    wrong[4:8] = b"\xff" * 4

    async def bury(database: Database) -> None:
        async with database.writing() as session:
            await repository.add_streams(session, ["s:00"])
            dead = booking.book(1, BEGIN, lost.slot() + bytes(wrong), OWNERS).dead
            assert [one.place.offset for one in dead] == [HEADER_BYTES, HEADER_BYTES + SLOT_BYTES]
            await repository.insert_dead(session, "s:00", dead)

    async def know(database: Database) -> None:
        async with database.writing() as session:
            await repository.note_version(session, "ver_unknown_yet", "tnt_late", "late")

    async def billed(database: Database) -> int:
        async with database.reading() as session:
            return int(await session.scalar(select(func.sum(UsageHourly.invocations))) or 0)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command_line = [sys.executable, "-m", "gateway.supervisor", "usage-dead-letters", *arguments]
        env = os.environ | {"DATABASE_URL": url, "TAILCUT_DATA_DIR": str(tmp_path)}
        return subprocess.run(command_line, env=env, capture_output=True, text=True, timeout=120, check=False)

    with_database(url, bury)
    listed = run("list", "--json")
    assert listed.returncode == 3, listed.stderr
    letters = json.loads(listed.stdout)
    assert [letter["offset"] for letter in letters] == [HEADER_BYTES, HEADER_BYTES + SLOT_BYTES]
    assert "ver_unknown_yet" in letters[0]["reason"]
    assert "checksum" in letters[1]["reason"]
    with_database(url, know)
    retried = run("retry")
    assert (retried.returncode, retried.stdout) == (3, "1 booked, 1 stay\n"), retried.stderr
    assert with_database(url, billed) == 1
    assert run("drop").returncode == 2
    assert run("drop", "s:00", "1", str(HEADER_BYTES + SLOT_BYTES)).stdout == "1 dropped\n"
    assert run("list").stdout == "0 dead letters\n"
    assert with_database(url, billed) == 1
