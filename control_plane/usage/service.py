"""Questions about a tenant's usage, answered from roll-ups. Called by endpoints, the dashboard, billing and alerts.

Times are UTC; an interval holds the whole hours that begin in it. What always holds: sums are those that are billed,
exact; percentiles come from histograms (``shape.ERROR_MAX``); no answer reads single records but ``invocations``.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository as billing
from control_plane.models import UsageRecordRow, now
from control_plane.pagination import PageRequest, bad_cursor, encode_cursor
from control_plane.tiers import repository as tier_repository
from control_plane.tiers import service as tiers
from control_plane.tiers.catalog import METERS, Tier
from control_plane.tiers.periods import period_of
from control_plane.usage import history
from control_plane.usage.history import DAY, HOUR, floor_day, floor_hour
from control_plane.usage.interval import TIMES_FROM, TIMES_TO, Interval
from control_plane.usage.shape import Shape
from control_plane.usage.views import (
    FunctionSpend,
    Group,
    HourRow,
    Minute,
    PeriodUsage,
    Point,
    Quota,
    Spend,
    Step,
    Usage,
    WhatIf,
)
from control_plane.usage.what_if import Hour, in_meters, sums
from control_plane.usage.what_if import what_if as judge

WHAT_IF_DAYS: Final = 30
HOURS_MAX: Final = timedelta(days=32)
"""Of one question by the hour, and of one that lists single invocations as CSV."""
DAYS_MAX: Final = timedelta(days=400)


async def totals(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime, function: str | None = None
) -> Usage:
    groups = await _grouped(session, tenant_id, since, until, function, by_version=False)
    total = Usage()
    for usage in groups.values():
        total.add_shape(usage.shape)
        total.add_sums(usage.invocations, usage.cpu_us_sum, usage.mib_us_sum)
    return total


async def by_function(session: AsyncSession, tenant_id: str, since: datetime, until: datetime) -> list[Group]:
    """Most calls first."""
    groups = await _grouped(session, tenant_id, since, until, None, by_version=False)
    return _sorted(groups)


async def by_version(
    session: AsyncSession, tenant_id: str, since: datetime, until: datetime, function: str
) -> list[Group]:
    groups = await _grouped(session, tenant_id, since, until, function, by_version=True)
    return _sorted(groups)


async def series(
    session: AsyncSession,
    tenant_id: str,
    since: datetime,
    until: datetime,
    step: Step,
    function: str | None = None,
) -> list[Point]:
    """One point for each hour or day from the one that ``since`` lies in, also for those without a call."""
    length = HOUR if step == "hour" else DAY
    floor = floor_hour if step == "hour" else floor_day
    start = floor(since)
    points: dict[datetime, Usage] = {}
    while start < until:
        points[start] = Usage()
        start += length
    since = floor(since)
    async for each in history.shapes_by(session, tenant_id, step, since, until, function):
        points[each.start].add_shape(each.shape)
    for row in await history.sums(session, tenant_id, since, until, function):
        points[floor(row.hour)].add_sums(row.invocations, row.cpu_us, row.mib_us)
    return [Point(at, usage) for at, usage in points.items()]


async def minutes(session: AsyncSession, tenant_id: str, since: datetime, until: datetime) -> list[Minute]:
    """Without gaps; of the whole tenant. Kept for ``pruning.HOURS_KEPT``."""
    since = since.replace(second=0, microsecond=0)
    held = await history.minutes_of(session, tenant_id, floor_hour(since), until)
    found = []
    at = since
    while at < until:
        hour = held.get(at.replace(minute=0))
        minute = at.minute
        found.append(
            Minute(
                at,
                hour.calls[minute],
                hour.errors[minute],
                hour.busy_us[minute],
                hour.cpu_us[minute],
                hour.mib_us[minute],
            )
            if hour
            else Minute(at)
        )
        at += timedelta(minutes=1)
    return found


async def period(session: AsyncSession, tenant_id: str) -> PeriodUsage:
    """The period that runs now: quotas and spend."""
    subscription = await tiers.require_subscription(session, tenant_id)
    held = await tiers.entitlements_of(session, tenant_id)
    version = await tier_repository.get_tier_version(session, subscription.tier_version_id)
    if version is None:
        raise AssertionError(f"{subscription.tier_version_id} has a foreign key on it")
    span = period_of(subscription, now())
    # Hours belong to one period: a paid month that begins in the middle of an hour counts that hour as its own.
    of_functions = await history.sums_of_functions(session, tenant_id, floor_hour(span.start), span.end)
    used = in_meters(*(sum(row[meter] for row in of_functions.values()) for meter in range(3)))
    micros_over = {
        meter: max(0, used[meter] - held.month.included(meter)) * held.overage.per_million(meter) if held.overage else 0
        for meter in METERS
    }
    caps = {cap.function: cap for cap in await billing.list_spend_caps(session, tenant_id)}
    functions = []
    for name, cap in sorted(caps.items()):
        if name and held.overage is not None:
            units = in_meters(*of_functions.get(name, (0, 0, 0)))
            spent = sum(units[meter] * held.overage.per_million(meter) for meter in METERS) // 1_000_000
            functions.append(FunctionSpend(name, spent, cap.amount_minor, cap.action))
    of_all = caps.get("") if held.overage is not None else None
    return PeriodUsage(
        start=span.start,
        end=span.end,
        tier=held.tier,
        title=held.title,
        quotas=[
            Quota(
                meter=meter,
                used=used[meter],
                included=held.month.included(meter),
                stops=held.overage is None,
                overage_minor=micros_over[meter] // 1_000_000,
            )
            for meter in METERS
        ],
        spend=Spend(
            currency=version.currency,
            price_minor=int(version.document["price_minor"]),
            overage_minor=sum(micros_over.values()) // 1_000_000,
            cap_minor=of_all.amount_minor if of_all else None,
            cap_action=of_all.action if of_all else None,
            functions=functions,
        ),
    )


async def what_if(
    session: AsyncSession, tenant_id: str, others: Sequence[Tier], days: int = WHAT_IF_DAYS
) -> dict[str, WhatIf]:
    """Tier → how the calls of the last ``days`` days (with today) would have fared on it. Read once for all."""
    until = now()
    since = floor_day(until) - (days - 1) * DAY
    total = Shape()
    async for each in history.shapes_by(session, tenant_id, "day", since, until):
        total.merge(each.shape)
    by_hour: defaultdict[datetime, list[Hour]] = defaultdict(list)
    for row in await history.sums(session, tenant_id, since, until):
        by_hour[row.hour].append(Hour(row.hour, row.invocations, row.cpu_us, row.mib_us))
    hours = [Hour(start, *sums(by_hour[start])) for start in sorted(by_hour)]
    of_minutes = [
        Minute(start, held.calls[minute], held.errors[minute], held.busy_us[minute])
        for start, held in sorted((await history.minutes_of(session, tenant_id, since, until)).items())
        for minute in range(60)
    ]
    return {tier.name: judge(tier, since, until, total, hours, of_minutes) for tier in others}


async def hour_rows(
    session: AsyncSession, tenant_id: str, interval: Interval, function: str | None = None
) -> AsyncIterator[HourRow]:
    """By hour, function and version, a day at a time: as much of it is in memory as a day has."""
    since = floor_hour(interval.since)
    while since < interval.until:
        until = min(floor_day(since) + DAY, interval.until)
        rows: defaultdict[tuple[datetime, str, str], Usage] = defaultdict(Usage)
        async for each in history.shapes_by(session, tenant_id, "hour", since, until, function):
            rows[each.start, each.function, each.version_id].add_shape(each.shape)
        for row in await history.sums(session, tenant_id, since, until, function):
            usage = rows[row.hour, row.function, row.version_id]
            usage.add_sums(row.invocations, row.cpu_us, row.mib_us)
            if not usage.calls:  # of an hour whose shape is not kept any more
                usage.calls, usage.errors = row.invocations, row.errors
        for key in sorted(rows):
            yield HourRow(*key, rows[key])
        since = until


async def hour_page(
    session: AsyncSession, tenant_id: str, interval: Interval, page: PageRequest, function: str | None
) -> tuple[list[HourRow], str | None]:
    """→ rows and the next cursor."""
    after: tuple[datetime, str, str] | None = None
    if page.after is not None:
        at, name, version_id = _cursor_parts(page.after, 3)
        after = (_cursor_time(at), name, version_id)
        interval = Interval(max(interval.since, after[0]), interval.until)
    found: list[HourRow] = []
    async for row in hour_rows(session, tenant_id, interval, function):
        if after is None or (row.hour, row.function, row.version_id) > after:
            found.append(row)
        if len(found) > page.limit:
            last = found[page.limit - 1]
            return found[: page.limit], encode_cursor(f"{last.hour.isoformat()} {last.function} {last.version_id}")
    return found, None


async def invocation_page(
    session: AsyncSession,
    tenant_id: str,
    interval: Interval,
    page: PageRequest,
    *,
    function: str | None = None,
    outcome: str | None = None,
    errors_only: bool = False,
    invocation_id: str | None = None,
) -> tuple[Sequence[UsageRecordRow], str | None]:
    """Single ones, the newest first → rows and the next cursor."""
    before = None
    if page.after is not None:
        at, last_id = _cursor_parts(page.after, 2)
        before = (_cursor_time(at), last_id)
    rows = await history.list_invocations(
        session, tenant_id, interval.since, interval.until, function=function, outcome=outcome,
        errors_only=errors_only, invocation_id=invocation_id, before=before, count=page.limit + 1,
    )  # fmt: skip
    if len(rows) <= page.limit:
        return rows, None
    last = rows[page.limit - 1]
    return rows[: page.limit], encode_cursor(f"{last.arrived_at.isoformat()} {last.invocation_id}")


def _cursor_parts(text: str, count: int) -> list[str]:
    parts = text.split(" ")
    if len(parts) != count:
        raise bad_cursor()
    return parts


def _cursor_time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise bad_cursor() from None
    if at.tzinfo is None or not TIMES_FROM <= at <= TIMES_TO:
        raise bad_cursor()
    return at


async def _grouped(
    session: AsyncSession,
    tenant_id: str,
    since: datetime,
    until: datetime,
    function: str | None,
    *,
    by_version: bool,
) -> dict[tuple[str, str], Usage]:
    since = floor_hour(since)
    groups: defaultdict[tuple[str, str], Usage] = defaultdict(Usage)
    async for each in history.shapes(session, tenant_id, since, until, function):
        groups[each.function, each.version_id if by_version else ""].add_shape(each.shape)
    for row in await history.sums(session, tenant_id, since, until, function):
        groups[row.function, row.version_id if by_version else ""].add_sums(row.invocations, row.cpu_us, row.mib_us)
    return dict(groups)


def _sorted(groups: dict[tuple[str, str], Usage]) -> list[Group]:
    found = [Group(function, version_id, usage) for (function, version_id), usage in groups.items()]
    return sorted(found, key=lambda group: (-group.usage.calls, group.function, group.version_id))
