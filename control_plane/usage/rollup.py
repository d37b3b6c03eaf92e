"""Adds booked records to the shapes of their hours and days, and to the tenant's minutes.

Called by ``consumer`` in the transaction that inserts the records, with exactly those that were new: so shapes and
records say the same, whatever dies. The cost is one merge per row that a run touches, not one per record: a run of
thousands of records of one function is folded in memory first. Rows are locked in the order of their keys, after those
of ``hourly``: no two consumers wait for each other.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import UsageMinutes, UsageShape
from control_plane.usage import minutes, shape
from control_plane.usage.booking import Row

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US: Final = 60_000_000
_HOUR_US: Final = 60 * _MINUTE_US
_ROWS_MAX: Final = 200
"""Of one statement."""


class Key(NamedTuple):
    tenant_id: str
    span: str
    start: datetime
    function: str
    version_id: str


async def add(session: AsyncSession, rows: Sequence[Row]) -> None:
    """``rows``: of ``usage_records``, each for the first time."""
    shapes, of_minutes = fold(rows)
    keys = sorted(shapes)
    for at in range(0, len(keys), _ROWS_MAX):
        await _merge_shapes(session, {key: shapes[key] for key in keys[at : at + _ROWS_MAX]})
    hours = sorted(of_minutes)
    for at in range(0, len(hours), _ROWS_MAX):
        await _merge_minutes(session, {hour: of_minutes[hour] for hour in hours[at : at + _ROWS_MAX]})


def fold(rows: Sequence[Row]) -> tuple[dict[Key, shape.Shape], dict[tuple[str, datetime], minutes.Minutes]]:
    """→ what the rows add to each hour and day, and to each hour's minutes."""
    by_hour: defaultdict[tuple[str, str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        by_hour[row.tenant_id, row.function, row.version_id, row.arrived_unix_us // _HOUR_US].append(row)
    of_minutes: defaultdict[tuple[str, datetime], minutes.Minutes] = defaultdict(minutes.Minutes)
    shapes: defaultdict[Key, shape.Shape] = defaultdict(shape.Shape)
    for (tenant_id, function, version_id, number), each in by_hour.items():
        hour = _EPOCH + timedelta(hours=number)
        shapes[Key(tenant_id, "hour", hour, function, version_id)] = one = _shape_of(each)
        shapes[Key(tenant_id, "day", hour.replace(hour=0), function, version_id)].merge(one)
        _add_minutes(of_minutes[tenant_id, hour], each)
    return shapes, of_minutes


def _add_minutes(into: minutes.Minutes, rows: Sequence[Row]) -> None:
    for row in rows:
        into.add(
            row.arrived_unix_us // _MINUTE_US % minutes.MINUTES,
            error=row.outcome != shape.OK or not 200 <= row.status < 400,
            busy_us=row.queue_us + row.wall_us,
            cpu_us=row.cpu_us,
            mib_us=row.mib_us,
        )


def _shape_of(rows: Sequence[Row]) -> shape.Shape:
    """Column by column: ``Counter`` counts a whole column in C, and a bucket is looked for once for each value."""
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    made = shape.Shape(cold=sum(columns["cold"]))
    for (outcome, status), count in Counter(zip(columns["outcome"], columns["status"], strict=True)).items():
        made.outcomes[shape.outcome_class(outcome, status)] += count
    for name, histogram in zip(shape.NAMES, made.histograms, strict=True):
        for value, count in Counter(columns[name]).items():
            histogram.buckets[shape.bucket_of(value)] += count
    return made


async def _merge_shapes(session: AsyncSession, added: dict[Key, shape.Shape]) -> None:
    columns = [getattr(UsageShape, name) for name in Key._fields]
    empty = [key._asdict() | {"calls": 0, "errors": 0, "cold": 0, "shape": shape.Shape().encode()} for key in added]
    await session.execute(insert_into(session, UsageShape).values(empty).on_conflict_do_nothing())
    held = (
        select(*columns, UsageShape.shape)
        .where(tuple_(*columns).in_([tuple(key) for key in added]))
        .order_by(*columns)
        .with_for_update()
    )
    changed = []
    rows: Sequence[Any] = (await session.execute(held)).all()
    for tenant_id, span, start, function, version_id, data in rows:
        key, total = Key(tenant_id, span, start, function, version_id), shape.decode(data)
        total.merge(added[key])
        changed.append(
            key._asdict() | {"calls": total.calls, "errors": total.errors, "cold": total.cold, "shape": total.encode()}
        )
    insert = insert_into(session, UsageShape).values(changed)
    new = {name: insert.excluded[name] for name in ("calls", "errors", "cold", "shape")}
    await session.execute(insert.on_conflict_do_update(index_elements=columns, set_=new))


async def _merge_minutes(session: AsyncSession, added: dict[tuple[str, datetime], minutes.Minutes]) -> None:
    columns = [UsageMinutes.tenant_id, UsageMinutes.hour]
    nothing = minutes.Minutes().encode()
    empty = [{"tenant_id": tenant_id, "hour": hour, "minutes": nothing} for tenant_id, hour in added]
    await session.execute(insert_into(session, UsageMinutes).values(empty).on_conflict_do_nothing())
    held = (
        select(*columns, UsageMinutes.minutes)
        .where(tuple_(*columns).in_(list(added)))
        .order_by(*columns)
        .with_for_update()
    )
    changed = []
    rows: Sequence[Any] = (await session.execute(held)).all()
    for tenant_id, hour, data in rows:
        total = minutes.decode(data)
        total.merge(added[tenant_id, hour])
        changed.append({"tenant_id": tenant_id, "hour": hour, "minutes": total.encode()})
    insert = insert_into(session, UsageMinutes).values(changed)
    await session.execute(
        insert.on_conflict_do_update(index_elements=columns, set_={"minutes": insert.excluded["minutes"]})
    )
