"""Usage: the period's quotas and spend, charts of the last day, week or month, functions and versions, the export."""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from control_plane.context import ContextDependency
from control_plane.dashboard import charts, pages
from control_plane.dashboard.charts import Series
from control_plane.dashboard.figures import BYTES, SECONDS
from control_plane.dashboard.visitor import Visitor, see
from control_plane.models import now
from control_plane.usage import export, service
from control_plane.usage.history import DAY, floor_day, floor_hour
from control_plane.usage.interval import Interval
from control_plane.usage.shape import OK
from control_plane.usage.views import Group, Point, Quota, Step
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/usage")
Reader = Annotated[Visitor, Depends(see("usage.read"))]
Range = Literal["day", "week", "month"]
RangeQuery = Annotated[Range, Query(alias="range")]
FunctionQuery = Annotated[str, Query(pattern=f"{NAME_PATTERN}|^$", max_length=63)]

RANGES: Final[dict[Range, tuple[str, Step, int]]] = {
    "day": ("24 hours", "hour", 24),
    "week": ("7 days", "hour", 168),
    "month": ("30 days", "day", 30),
}
"""What it is called, its step, and how many of them"""
OUTCOMES: Final = {
    "ok": "Answered",
    "error_status": "The function itself answered 4xx or 5xx",
    "function_error": "Raised an exception",
    "invalid_arguments": "Arguments that do not fit",
    "crashed": "The worker died",
    "timeout": "Over the timeout",
    "cpu_limit": "Over the CPU limit",
    "memory_limit": "Over the memory limit",
    "output_limit": "Over the output limit",
    "refused_queue": "Waited too long for a worker",
    "refused_not_ready": "No worker could be started",
    "cancelled": "The caller went away",
    "internal": "Our failure, not billed",
    "platform_aborted": "The gateway died, not billed",
}
METERS: Final = {
    "invocations": ("Invocations", "", 1),
    "cpu-ms": ("CPU time", "CPU-seconds", 1000),
    "mib-s": ("Memory × time", "GiB-seconds", 1024),
}
"""Meter → what people call it, its unit for them, the meter's units in one of those"""


@router.get("")
async def usage_page(
    request: Request,
    context: ContextDependency,
    visitor: Reader,
    shown: RangeQuery = "day",
    function: FunctionQuery = "",
) -> Response:
    _, step, _ = RANGES[shown]
    interval = _interval(shown)
    tenant_id, only = visitor.tenant_id, function or None
    async with context.reading() as session:
        period = await service.period(session, tenant_id)
        points = await service.series(session, tenant_id, interval.since, interval.until, step, only)
        if only:
            groups = await service.by_version(session, tenant_id, interval.since, interval.until, only)
        else:
            groups = await service.by_function(session, tenant_id, interval.since, interval.until)
        total = await service.totals(session, tenant_id, interval.since, interval.until, only)
        ever = bool(total.calls) or bool((await service.totals(session, tenant_id, now() - 30 * DAY, now())).calls)
    return pages.render(
        request, context, visitor, "usage/usage.html", section="usage",
        period=period, quotas=[quota_of(quota) for quota in period.quotas], spend_bar=charts.bar,
        shown=shown, ranges=RANGES, function=function, ever=ever, total=total,
        figures=draw(points, step) if total.calls else [], rows=[_row(group, total.calls) for group in groups],
        outcomes=[
            (OUTCOMES.get(name, name), count, charts.bar(OUTCOMES.get(name, name), count / total.errors, tone="bad"))
            for name, count in total.outcomes.most_common() if name != OK
        ],
    )  # fmt: skip


@router.get("/export.csv")
async def export_csv(
    context: ContextDependency,
    visitor: Reader,
    shown: RangeQuery = "month",
    rows: Literal["hours", "invocations"] = "hours",
    function: FunctionQuery = "",
) -> Response:
    interval = _interval(shown)
    return export.response(export.lines(context, visitor.tenant_id, interval, rows, function or None), interval, rows)


def quota_of(quota: Quota) -> dict[str, Any]:
    """For cards of this page and the overview."""
    title, unit, factor = METERS[quota.meter]
    return {
        "title": title,
        "unit": unit,
        "used": quota.used / factor,
        "included": quota.included / factor,
        "remaining": quota.remaining / factor,
        "share": quota.share,
        "stops": quota.stops,
        "overage_minor": quota.overage_minor,
        "bar": charts.bar(f"{title} used", quota.share),
    }


def draw(points: list[Point], step: Step) -> list[Markup]:
    """The four charts of a time."""
    starts = [point.start for point in points]
    usages = [point.usage for point in points]
    return [
        charts.columns(
            "Calls", starts,
            [
                Series("answered", [usage.calls - usage.errors for usage in usages]),
                Series("errors", [usage.errors for usage in usages], "bad"),
            ],
            step=step,
        ),
        charts.lines(
            "Duration of a call", starts,
            [
                Series("p99", [usage.wall_us.quantile(0.99) for usage in usages], "warn"),
                Series("p50", [usage.wall_us.quantile(0.5) for usage in usages]),
            ],
            step=step, unit=SECONDS,
        ),
        charts.columns(
            "CPU time", starts, [Series("CPU", [usage.cpu_us_sum for usage in usages])], step=step, unit=SECONDS
        ),
        charts.lines(
            "Peak memory of a call", starts,
            [
                Series("p99", [usage.memory_bytes.quantile(0.99) for usage in usages], "warn"),
                Series("p50", [usage.memory_bytes.quantile(0.5) for usage in usages]),
            ],
            step=step, unit=BYTES,
        ),
    ]  # fmt: skip


def _row(group: Group, calls: int) -> dict[str, Any]:
    usage = group.usage
    return {
        "function": group.function,
        "version": group.version_id,
        "usage": usage,
        "p50": usage.wall_us.quantile(0.5),
        "p99": usage.wall_us.quantile(0.99),
        "memory": usage.memory_bytes.quantile(0.99),
        "gib_s": usage.mib_us_sum / 1024 / 1_000_000,
        "share": charts.bar(f"{group.function}'s part of the calls", usage.calls / calls if calls else 0, tone="main"),
    }


def _interval(shown: Range) -> Interval:
    """Whole hours or days, with the one that runs."""
    _, step, count = RANGES[shown]
    at = now()
    if step == "hour":
        return Interval(floor_hour(at) - timedelta(hours=count - 1), at)
    return Interval(floor_day(at) - (count - 1) * DAY, at)
