"""Queries of booked usage, each of one tenant. Called by ``service``, ``export`` and ``alerts``."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import UsageHourly, UsageMinutes, UsageRecordRow, UsageShape
from control_plane.usage import minutes, shape
from control_plane.usage.shape import OK, Shape

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_BREATH_ROWS: Final = 100
"""Decoded between two looks at other requests: some 60 µs each."""


class Sums(NamedTuple):
    function: str
    version_id: str
    hour: datetime
    invocations: int
    errors: int
    cpu_us: int
    mib_us: int


class Shaped(NamedTuple):
    start: datetime
    function: str
    version_id: str
    shape: Shape


def floor_hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def floor_day(at: datetime) -> datetime:
    return floor_hour(at).replace(hour=0)


async def sums(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime, function: str | None = None
) -> list[Sums]:
    """Of whole hours that begin in [since, until), by version and hour; all revisions of an hour together."""
    columns = (UsageHourly.function, UsageHourly.version_id, UsageHourly.hour)
    query = (
        select(
            *columns,
            func.sum(UsageHourly.invocations),
            func.sum(UsageHourly.errors),
            func.sum(UsageHourly.cpu_us),
            func.sum(UsageHourly.mib_us),
        )
        .where(UsageHourly.tenant_id == tenant_id, UsageHourly.hour >= since, UsageHourly.hour < until)
        .group_by(*columns)
        .order_by(UsageHourly.hour, UsageHourly.function, UsageHourly.version_id)
    )
    if function is not None:
        query = query.where(UsageHourly.function == function)
    rows = (await session.execute(query)).all()
    return [Sums(row[0], row[1], row[2], *(int(value) for value in row[3:])) for row in rows]


async def sums_of_functions(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime
) -> dict[str, tuple[int, int, int]]:
    """Function → billed invocations, CPU µs, MiB·µs. Added up in SQL."""
    query = (
        select(
            UsageHourly.function,
            func.sum(UsageHourly.invocations),
            func.sum(UsageHourly.cpu_us),
            func.sum(UsageHourly.mib_us),
        )
        .where(UsageHourly.tenant_id == tenant_id, UsageHourly.hour >= since, UsageHourly.hour < until)
        .group_by(UsageHourly.function)
    )
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in (await session.execute(query)).all()}


async def shapes(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime, function: str | None = None
) -> AsyncIterator[Shaped]:
    """Of the hours that begin in [since, until): whole days as days, what is left at both ends as hours."""
    first_day = floor_day(since + DAY - timedelta(microseconds=1))
    last_day = floor_day(until)
    if first_day < last_day:
        spans = or_(
            and_(UsageShape.span == "day", UsageShape.start >= first_day, UsageShape.start < last_day),
            and_(UsageShape.span == "hour", UsageShape.start >= since, UsageShape.start < first_day),
            and_(UsageShape.span == "hour", UsageShape.start >= last_day, UsageShape.start < until),
        )
    else:
        spans = and_(UsageShape.span == "hour", UsageShape.start >= since, UsageShape.start < until)
    query = select(UsageShape.start, UsageShape.function, UsageShape.version_id, UsageShape.shape).where(
        UsageShape.tenant_id == tenant_id, spans
    )
    async for each in _decoded(session, query, function):
        yield each


async def shapes_by(
    session: AsyncSession, tenant_id: str, span: str, since: datetime, until: datetime, function: str | None = None
) -> AsyncIterator[Shaped]:
    """All of one span, ``hour`` or ``day``."""
    query = select(UsageShape.start, UsageShape.function, UsageShape.version_id, UsageShape.shape).where(
        UsageShape.tenant_id == tenant_id, UsageShape.span == span, UsageShape.start >= since, UsageShape.start < until
    )
    async for each in _decoded(session, query, function):
        yield each


async def _decoded(
    session: AsyncSession, query: Select[datetime, str, str, bytes], function: str | None
) -> AsyncIterator[Shaped]:
    if function is not None:
        query = query.where(UsageShape.function == function)
    for number, row in enumerate((await session.execute(query)).all(), 1):
        if number % _BREATH_ROWS == 0:
            await asyncio.sleep(0)
        yield Shaped(row[0], row[1], row[2], shape.decode(row[3]))


async def error_counts(session: AsyncSession, tenant_id: str, day: datetime) -> tuple[int, int]:
    """→ calls and errors of a day."""
    query = select(func.coalesce(func.sum(UsageShape.calls), 0), func.coalesce(func.sum(UsageShape.errors), 0)).where(
        UsageShape.tenant_id == tenant_id, UsageShape.span == "day", UsageShape.start == day
    )
    row = (await session.execute(query)).one()
    return int(row[0]), int(row[1])


async def minutes_of(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime
) -> dict[datetime, minutes.Minutes]:
    """Hour → its minutes; hours without a call are left out."""
    query = select(UsageMinutes.hour, UsageMinutes.minutes).where(
        UsageMinutes.tenant_id == tenant_id, UsageMinutes.hour >= since, UsageMinutes.hour < until
    )
    return {row[0]: minutes.decode(row[1]) for row in (await session.execute(query)).all()}


async def list_invocations(
    session: AsyncSession,
    tenant_id: str,
    since: datetime,
    until: datetime,
    *,
    function: str | None = None,
    outcome: str | None = None,
    errors_only: bool = False,
    invocation_id: str | None = None,
    before: tuple[datetime, str] | None = None,
    count: int,
) -> Sequence[UsageRecordRow]:
    """Single ones, the newest first, those before ``before`` (arrival and id of the last one seen)."""
    query = select(UsageRecordRow).where(UsageRecordRow.tenant_id == tenant_id)
    if invocation_id is not None:
        query = query.where(UsageRecordRow.invocation_id == invocation_id)
    else:
        query = query.where(UsageRecordRow.arrived_at >= since, UsageRecordRow.arrived_at < until)
    if function is not None:
        query = query.where(UsageRecordRow.function == function)
    answered_well = and_(UsageRecordRow.status >= 200, UsageRecordRow.status < 400)
    if outcome == shape.ERROR_STATUS:
        query = query.where(UsageRecordRow.outcome == OK, ~answered_well)
    elif outcome == OK:
        query = query.where(UsageRecordRow.outcome == OK, answered_well)
    elif outcome is not None:
        query = query.where(UsageRecordRow.outcome == outcome)
    if errors_only:
        query = query.where(~and_(UsageRecordRow.outcome == OK, answered_well))
    if before is not None:
        at, last_id = before
        query = query.where(
            or_(
                UsageRecordRow.arrived_at < at,
                and_(UsageRecordRow.arrived_at == at, UsageRecordRow.invocation_id < last_id),
            )
        )
    order = (UsageRecordRow.arrived_at.desc(), UsageRecordRow.invocation_id.desc())
    return (await session.scalars(query.order_by(*order).limit(count))).all()
