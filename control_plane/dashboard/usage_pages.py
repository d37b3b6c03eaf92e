"""Usage: the period's quotas and spend, charts of the last day, week or month, functions and versions, the export."""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import BaseModel, Field, TypeAdapter, field_validator

from control_plane.alerts import messages
from control_plane.alerts import repository as alert_repository
from control_plane.alerts import service as alerts
from control_plane.alerts.destination import URL_CHARACTERS_MAX
from control_plane.alerts.rules import THRESHOLDS_MAX, Percent
from control_plane.alerts.schemas import AlertSettingsSet
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import charts, pages
from control_plane.dashboard.charts import Series
from control_plane.dashboard.figures import BYTES, SECONDS
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.models import now
from control_plane.pagination import PageRequest
from control_plane.problems import Problem
from control_plane.usage import export, service
from control_plane.usage.history import DAY, floor_day, floor_hour
from control_plane.usage.interval import Interval
from control_plane.usage.shape import OK
from control_plane.usage.views import Group, Point, Quota, Step
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/usage")
Reader = Annotated[Visitor, Depends(see("usage.read"))]
Post = Annotated[Posted, Depends(post("billing.write"))]
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

TOLD_COUNT: Final = 5
"""Alerts that the page lists."""


def _percents(text: Any) -> Any:
    """``80, 100`` → its numbers"""
    try:
        return [int(part.strip().removesuffix("%")) for part in str(text).split(",") if part.strip()]
    except ValueError:
        raise ValueError("write percentages with commas between them, like 80, 100") from None


Percents = Annotated[list[Percent], Field(max_length=THRESHOLDS_MAX)]


class AlertForm(BaseModel):
    quota_percents: str = ""
    spend_percents: str = ""
    error_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    emails: Literal["on"] | None = None
    webhook_url: Annotated[str, Field(max_length=URL_CHARACTERS_MAX)] | None = None

    @field_validator("quota_percents", "spend_percents")
    @classmethod
    def _readable(cls, text: str) -> str:
        return ", ".join(str(percent) for percent in TypeAdapter(Percents).validate_python(_percents(text)))

    def wanted(self) -> AlertSettingsSet:
        return AlertSettingsSet(
            quota_percents=_percents(self.quota_percents),
            spend_percents=_percents(self.spend_percents),
            error_percent=self.error_percent,
            emails=self.emails is not None,
            webhook_url=self.webhook_url,
        )


@router.get("")
async def usage_page(
    request: Request,
    context: ContextDependency,
    visitor: Reader,
    shown: RangeQuery = "day",
    function: FunctionQuery = "",
) -> Response:
    return await _page(request, context, visitor, shown, function)


@router.post("/alerts")
async def set_alerts(request: Request, context: ContextDependency, posted: Post) -> Response:
    """A new webhook's secret is in this answer and nowhere else."""
    form, errors = posted.parse(AlertForm)
    if form is not None:
        try:
            async with context.writing() as session:
                secret = await alerts.set_alerts(context, session, posted.who.tenant, form.wanted())
        except Problem as problem:
            errors = pages.errors_of(problem) or {"": problem.detail}
        else:
            if secret is None:
                return await go(context, posted.who, "/usage#alerts", "The alerts are set.")
            return pages.render(
                request, context, posted.who, "usage/webhook.html", section="usage", secret=secret, url=form.webhook_url
            )
    return await _page(request, context, posted.who, "day", "", values=posted.values(), errors=errors, status=422)


@router.post("/alerts/test")
async def test_webhook(context: ContextDependency, posted: Post) -> Response:
    try:
        async with context.writing() as session:
            await alerts.send_test(context, session, posted.who.tenant)
    except Problem as problem:
        return await go(context, posted.who, "/usage#alerts", problem.detail, "bad")
    return await go(context, posted.who, "/usage#alerts", "A test event is on its way to the webhook.")


async def _page(
    request: Request,
    context: Context,
    visitor: Visitor,
    shown: Range,
    function: str,
    *,
    values: dict[str, Any] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
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
        held = await alerts.alert_settings(session, tenant_id)
        told = await alert_repository.list_alerts(session, tenant_id, PageRequest(limit=TOLD_COUNT, after=None))
        newest = await alert_repository.newest_delivery(session, tenant_id)
        ever = bool(total.calls) or bool((await service.totals(session, tenant_id, now() - 30 * DAY, now())).calls)
    return pages.render(
        request, context, visitor, "usage/usage.html", section="usage", status=status, errors=errors or {},
        values=values or _values(held), held=held, newest=newest,
        told=[(alert, messages.title(alert.subject)) for alert in told.items],
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


def _values(held: alerts.AlertSettings) -> dict[str, Any]:
    """Of the form as it is now."""
    thresholds = held.thresholds
    return {
        "quota_percents": ", ".join(str(percent) for percent in thresholds.quota_percents),
        "spend_percents": ", ".join(str(percent) for percent in thresholds.spend_percents),
        "error_percent": "" if thresholds.error_percent is None else thresholds.error_percent,
        "emails": "on" if held.emails else "",
        "webhook_url": held.webhook_url or "",
    }


def _interval(shown: Range) -> Interval:
    """Whole hours or days, with the one that runs."""
    _, step, count = RANGES[shown]
    at = now()
    if step == "hour":
        return Interval(floor_hour(at) - timedelta(hours=count - 1), at)
    return Interval(floor_day(at) - (count - 1) * DAY, at)
