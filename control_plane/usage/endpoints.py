"""/v1/usage: what a tenant has used."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from control_plane.auth.principal import UsageReader
from control_plane.context import ContextDependency
from control_plane.models import now
from control_plane.pagination import PageDependency
from control_plane.problems import Problem
from control_plane.tiers import service as tiers
from control_plane.usage import export, service
from control_plane.usage.interval import Interval, interval_of
from control_plane.usage.schemas import (
    GroupOut,
    HourOut,
    HourPage,
    InvocationOut,
    InvocationPage,
    PointOut,
    UsageGroups,
    UsageSeries,
    UsageSummary,
    WhatIfList,
    WhatIfOut,
)
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/v1/usage", tags=["usage"])

FunctionFilter = Annotated[str | None, Query(pattern=NAME_PATTERN, max_length=63, description="Only of this function")]
OutcomeFilter = Annotated[str | None, Query(pattern="^[a-z_]{1,32}$", description="Only with this outcome")]
IdFilter = Annotated[
    str | None, Query(pattern="^[0-9a-f]{32}$", description="The one with this `Tailcut-Request-Id`, of any time")
]
_CSV: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


def _interval(
    since: Annotated[AwareDatetime | None, Query(description="Its hour is the first; absent: a day ago")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Absent: now")] = None,
) -> Interval:
    return interval_of(since, until)


IntervalDependency = Annotated[Interval, Depends(_interval)]


@router.get("")
async def summary(context: ContextDependency, caller: UsageReader) -> UsageSummary:
    """The period that runs now: quotas, spend, and what the calls were like."""
    async with context.reading() as session:
        period = await service.period(session, caller.tenant_id)
        totals = await service.totals(session, caller.tenant_id, period.start, now())
    return UsageSummary.of(period, totals)


@router.get("/series")
async def series(
    context: ContextDependency,
    caller: UsageReader,
    interval: IntervalDependency,
    step: Literal["hour", "day"] = "hour",
    function: FunctionFilter = None,
) -> UsageSeries:
    """One item for each hour or day (UTC), also for those without a call. Hours are kept for 40 days, days for good."""
    interval.require(service.HOURS_MAX if step == "hour" else service.DAYS_MAX, f"with step={step}")
    async with context.reading() as session:
        points = await service.series(session, caller.tenant_id, interval.since, interval.until, step, function)
    return UsageSeries(items=[PointOut.of(point) for point in points])


@router.get("/groups")
async def groups(
    context: ContextDependency,
    caller: UsageReader,
    interval: IntervalDependency,
    by: Literal["function", "version"] = "function",
    function: FunctionFilter = None,
) -> UsageGroups:
    """By function, or by the versions of one function; the most called first."""
    interval.require(service.DAYS_MAX)
    async with context.reading() as session:
        if by == "function":
            found = await service.by_function(session, caller.tenant_id, interval.since, interval.until)
            found = [group for group in found if function in (None, group.function)]
        elif function is None:
            raise Problem("invalid-request", "by=version needs the function; pass function=NAME.")
        else:
            found = await service.by_version(session, caller.tenant_id, interval.since, interval.until, function)
    return UsageGroups(items=[GroupOut.of(group) for group in found])


@router.get("/hours")
async def hours(
    context: ContextDependency,
    caller: UsageReader,
    interval: IntervalDependency,
    page: PageDependency,
    function: FunctionFilter = None,
) -> HourPage:
    """By version and hour, the oldest first: what invoices are made of. Percentiles of hours are kept for 40 days."""
    interval.require(service.DAYS_MAX)
    async with context.reading() as session:
        rows, cursor = await service.hour_page(session, caller.tenant_id, interval, page, function)
    return HourPage(items=[HourOut.of(row) for row in rows], next_cursor=cursor)


@router.get("/invocations")
async def invocations(
    context: ContextDependency,
    caller: UsageReader,
    interval: IntervalDependency,
    page: PageDependency,
    function: FunctionFilter = None,
    outcome: OutcomeFilter = None,
    errors_only: bool = False,
    id: IdFilter = None,  # noqa: A002 - the parameter's name in the URL
) -> InvocationPage:
    """Single ones, the newest first, as long as they are kept. `error_status` are answers of functions themselves that
    are not 2xx or 3xx."""
    async with context.reading() as session:
        rows, cursor = await service.invocation_page(
            session, caller.tenant_id, interval, page,
            function=function, outcome=outcome, errors_only=errors_only, invocation_id=id,
        )  # fmt: skip
    return InvocationPage(items=[InvocationOut.of(row) for row in rows], next_cursor=cursor)


@router.get("/export", response_class=StreamingResponse, responses=_CSV)
async def export_csv(
    context: ContextDependency,
    caller: UsageReader,
    interval: IntervalDependency,
    rows: Literal["hours", "invocations"] = "hours",
    function: FunctionFilter = None,
) -> StreamingResponse:
    """The same as CSV (RFC 4180), streamed: `hours` or single `invocations`."""
    interval.require(service.DAYS_MAX if rows == "hours" else service.HOURS_MAX, f"for {rows}")
    lines: AsyncIterator[str] = export.lines(context, caller.tenant_id, interval, rows, function)
    return export.response(lines, interval, rows)


@router.get("/what-if")
async def what_if(context: ContextDependency, caller: UsageReader) -> WhatIfList:
    """How the calls of the last 30 days would have fared on each tier that can be bought. An estimate from what calls
    really used; calls that were refused at admission are not in it."""
    async with context.reading() as session:
        found = await service.what_if(session, caller.tenant_id, await tiers.sold_tiers(session))
    return WhatIfList(days=service.WHAT_IF_DAYS, items=[WhatIfOut.of(tier, each) for tier, each in found.items()])
