"""Queries of usage records, watermarks and the ledger of versions. Called by ``consumer`` and its neighbours."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from asyncpg.exceptions import UniqueViolationError  # type: ignore[import-untyped]
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import UsageDeadLetter, UsageRecordRow, UsageStream, UsageVersion, now
from control_plane.usage.booking import Dead, Owner, Row
from gateway.contract.usage import START, Position

_ROWS_MAX: Final = 500
"""Of one INSERT with VALUES: SQLite and PostgreSQL bound the parameters of a statement."""
_COLUMNS: Final = tuple("arrived_at" if name == "arrived_unix_us" else name for name in Row._fields)
_ARRIVED: Final = Row._fields.index("arrived_unix_us")
_INSERT: Final = f"INSERT INTO usage_records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names


class Stream(NamedTuple):
    """A journal's stream as SQL knows it."""

    number: int
    booked: Position


async def streams(session: AsyncSession, names: Collection[str]) -> dict[str, Stream]:
    query = select(UsageStream).where(UsageStream.stream.in_(names))
    rows = (await session.scalars(query)).all()
    return {row.stream: Stream(row.number, Position(row.segment, row.offset)) for row in rows}


async def add_streams(session: AsyncSession, names: Collection[str]) -> None:
    rows = [{"stream": name, "segment": START.number, "offset": START.offset, "updated_at": now()} for name in names]
    await session.execute(insert_into(session, UsageStream).values(rows).on_conflict_do_nothing())


async def move_watermark(session: AsyncSession, number: int, after: Position, end: Position) -> bool:
    """False: it is not at ``after`` any more. The row stays locked until the transaction ends."""
    query = (
        update(UsageStream)
        .where(UsageStream.number == number, UsageStream.segment == after.number, UsageStream.offset == after.offset)
        .values(segment=end.number, offset=end.offset, updated_at=now())
        .returning(UsageStream.number)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def insert_records(session: AsyncSession, rows: Sequence[Row]) -> Sequence[Row]:
    """→ those that were not there yet. The watermark keeps repetitions away; the key is the second lock."""
    if not rows:
        return rows
    try:
        async with session.begin_nested():
            await _insert_new(session, rows)
    except (IntegrityError, UniqueViolationError):
        return await _insert_missing(session, rows)
    return rows


async def delete_records(session: AsyncSession, tenant_id: str, before: datetime, count_max: int) -> int:
    """→ how many went."""
    old = (
        select(UsageRecordRow.id)
        .where(UsageRecordRow.tenant_id == tenant_id, UsageRecordRow.arrived_at < before)
        .order_by(UsageRecordRow.arrived_at)
        .limit(count_max)
    )
    query = delete(UsageRecordRow).where(UsageRecordRow.id.in_(old)).execution_options(synchronize_session=False)
    return (await session.execute(query)).rowcount  # type: ignore[attr-defined,no-any-return]


async def insert_dead(session: AsyncSession, stream: str, dead: Sequence[Dead]) -> None:
    at = now()
    rows = [
        {
            "stream": stream,
            "segment": one.place.number,
            "offset": one.place.offset,
            "slot": one.slot,
            "reason": one.reason[:200],
            "noted_at": at,
        }
        for one in dead
    ]
    for start in range(0, len(rows), _ROWS_MAX):
        part = rows[start : start + _ROWS_MAX]
        await session.execute(insert_into(session, UsageDeadLetter).values(part).on_conflict_do_nothing())


async def dead_letters(session: AsyncSession, count_max: int, stream: str | None = None) -> Sequence[UsageDeadLetter]:
    """The oldest first."""
    query = select(UsageDeadLetter).order_by(UsageDeadLetter.noted_at, UsageDeadLetter.stream, UsageDeadLetter.segment)
    if stream is not None:
        query = query.where(UsageDeadLetter.stream == stream)
    return (await session.scalars(query.order_by(UsageDeadLetter.offset).limit(count_max))).all()


async def dead_letters_count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(UsageDeadLetter)) or 0


async def delete_dead_letter(session: AsyncSession, stream: str, place: Position) -> bool:
    """False: it is not there any more."""
    query = (
        delete(UsageDeadLetter)
        .where(
            UsageDeadLetter.stream == stream,
            UsageDeadLetter.segment == place.number,
            UsageDeadLetter.offset == place.offset,
        )
        .returning(UsageDeadLetter.offset)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def owners(session: AsyncSession, version_ids: Collection[str]) -> dict[str, Owner]:
    rows = (await session.scalars(select(UsageVersion).where(UsageVersion.version_id.in_(version_ids)))).all()
    return {row.version_id: Owner(row.tenant_id, row.function, row.version_id) for row in rows}


async def note_version(session: AsyncSession, version_id: str, tenant_id: str, function: str) -> None:
    """At a deploy, in its transaction: from now on usage of the version has an owner, also after it was deleted."""
    row = {"version_id": version_id, "tenant_id": tenant_id, "function": function}
    await session.execute(insert_into(session, UsageVersion).values(row).on_conflict_do_nothing())


async def _insert_new(session: AsyncSession, rows: Sequence[Row]) -> None:
    """The cheapest way each database has. Raises IntegrityError or UniqueViolationError if one is there already."""
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(_INSERT, list(_with_texts(rows)))
        return
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - the pool gave a live one
    await driver.copy_records_to_table("usage_records", records=_with_times(rows), columns=_COLUMNS)


async def _insert_missing(session: AsyncSession, rows: Sequence[Row]) -> list[Row]:
    inserted: list[Row] = []
    for at in range(0, len(rows), _ROWS_MAX):
        part = rows[at : at + _ROWS_MAX]
        values = [dict(zip(_COLUMNS, row, strict=True)) for row in _with_times(part)]
        query = (
            insert_into(session, UsageRecordRow).values(values).on_conflict_do_nothing().returning(UsageRecordRow.id)
        )
        kept = set((await session.scalars(query)).all())
        inserted += [row for row in part if row.id in kept]
    return inserted


def _with_texts(rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    """Times as SQLAlchemy writes them into SQLite. A text is made once for each second."""
    second, prefix = -1, ""
    for row in rows:
        this, us = divmod(row.arrived_unix_us, 1_000_000)
        if this != second:
            second, prefix = this, datetime.fromtimestamp(this, UTC).strftime("%Y-%m-%d %H:%M:%S.")
        yield (*row[:_ARRIVED], f"{prefix}{us:06d}", *row[_ARRIVED + 1 :])


def _with_times(rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    second, base = -1, datetime.fromtimestamp(0, UTC)
    for row in rows:
        this, us = divmod(row.arrived_unix_us, 1_000_000)
        if this != second:
            second, base = this, datetime.fromtimestamp(this, UTC)
        yield (*row[:_ARRIVED], base.replace(microsecond=us), *row[_ARRIVED + 1 :])
