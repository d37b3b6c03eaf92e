"""Adds booked records to the shapes of their hours and days, and to the tenant's minutes.

Called by ``consumer`` in the transaction that inserts the records, with exactly those that were new: so shapes and
records say the same, whatever dies. The cost is one merge per row that a run touches, not one per record: a run of
thousands of records of one function is folded in memory first. Rows are locked in the order of their keys, after those
of ``hourly``: no two consumers wait for each other.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import UsageMinutes, UsageShape
from control_plane.usage import minutes, shape

_ROWS_MAX: Final = 200
"""Of one statement."""


class Key(NamedTuple):
    tenant_id: str
    span: str
    start: datetime
    function: str
    version_id: str


async def add(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """``rows``: of ``usage_records``, each for the first time."""
    shapes, of_minutes = fold(rows)
    keys = sorted(shapes)
    for at in range(0, len(keys), _ROWS_MAX):
        await _merge_shapes(session, {key: shapes[key] for key in keys[at : at + _ROWS_MAX]})
    hours = sorted(of_minutes)
    for at in range(0, len(hours), _ROWS_MAX):
        await _merge_minutes(session, {hour: of_minutes[hour] for hour in hours[at : at + _ROWS_MAX]})


def fold(
    rows: Sequence[dict[str, Any]],
) -> tuple[dict[Key, shape.Shape], dict[tuple[str, datetime], minutes.Minutes]]:
    """→ what the rows add to each hour and day, and to each hour's minutes."""
    by_hour: defaultdict[Key, list[dict[str, Any]]] = defaultdict(list)
    of_minutes: defaultdict[tuple[str, datetime], minutes.Minutes] = defaultdict(minutes.Minutes)
    for row in rows:
        arrived: datetime = row["arrived_at"]
        hour = arrived.replace(minute=0, second=0, microsecond=0)
        by_hour[Key(row["tenant_id"], "hour", hour, row["function"], row["version_id"])].append(row)
        of_minutes[row["tenant_id"], hour].add(
            arrived.minute,
            error=shape.outcome_class(row["outcome"], row["status"]) != shape.OK,
            busy_us=row["queue_us"] + row["wall_us"],
        )
    shapes: defaultdict[Key, shape.Shape] = defaultdict(shape.Shape)
    for key, each in by_hour.items():
        shapes[key] = one = _shape_of(each)
        shapes[key._replace(span="day", start=key.start.replace(hour=0))].merge(one)
    return shapes, of_minutes


def _shape_of(rows: Sequence[dict[str, Any]]) -> shape.Shape:
    """Column by column: ``Counter.update`` counts a whole column in C."""
    made = shape.Shape(cold=sum(row["cold"] for row in rows))
    made.outcomes.update(shape.outcome_class(row["outcome"], row["status"]) for row in rows)
    for name, histogram in zip(shape.NAMES, made.histograms, strict=True):
        histogram.buckets.update(shape.bucket_of(row[name]) for row in rows)
    return made


async def _merge_shapes(session: AsyncSession, added: dict[Key, shape.Shape]) -> None:
    columns = [getattr(UsageShape, name) for name in Key._fields]
    empty = [key._asdict() | {"calls": 0, "errors": 0, "cold": 0, "shape": shape.Shape().encode()} for key in added]
    await session.execute(_insert(session, UsageShape).values(empty).on_conflict_do_nothing())
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
    insert = _insert(session, UsageShape).values(changed)
    new = {name: insert.excluded[name] for name in ("calls", "errors", "cold", "shape")}
    await session.execute(insert.on_conflict_do_update(index_elements=columns, set_=new))


async def _merge_minutes(session: AsyncSession, added: dict[tuple[str, datetime], minutes.Minutes]) -> None:
    columns = [UsageMinutes.tenant_id, UsageMinutes.hour]
    nothing = minutes.Minutes().encode()
    empty = [{"tenant_id": tenant_id, "hour": hour, "minutes": nothing} for tenant_id, hour in added]
    await session.execute(_insert(session, UsageMinutes).values(empty).on_conflict_do_nothing())
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
    insert = _insert(session, UsageMinutes).values(changed)
    await session.execute(
        insert.on_conflict_do_update(index_elements=columns, set_={"minutes": insert.excluded["minutes"]})
    )


def _insert(session: AsyncSession, model: Any) -> Any:
    """The dialect's own INSERT: ON CONFLICT is not in the SQL that both share."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite if is_sqlite else postgresql).insert(model)
