"""The page after the sign-in: how it goes now and over time, what is left of quotas, what failed, what changed last.

Each part is for whoever may see it; a new tenant gets the first steps instead. The page loads its middle again every
few seconds (htmx), in place, and works without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository as auth
from control_plane.context import ContextDependency
from control_plane.dashboard import charts, pages
from control_plane.dashboard.charts import Series
from control_plane.dashboard.figures import MEAN, MEMORY, PERCENT
from control_plane.dashboard.usage_pages import OUTCOMES, draw, quota_of
from control_plane.dashboard.visitor import SignedInVisitor, Visitor
from control_plane.functions import repository
from control_plane.functions.schemas import VersionOut
from control_plane.models import UsageRecordRow, now
from control_plane.pagination import PageRequest
from control_plane.tiers import views
from control_plane.usage import service as usage
from control_plane.usage.history import DAY, floor_day, floor_hour
from control_plane.usage.interval import Interval
from control_plane.usage.views import Minute, Usage

router = APIRouter()
Range = Literal["hour", "day", "month"]
RANGES: Final[dict[Range, str]] = {"hour": "Last hour", "day": "24 hours", "month": "30 days"}
CHANGES_MAX: Final = 6
FAILURES_MAX: Final = 6
FAILURES_READ: Final = 50
"""The newest; those that are alike are shown once, with their number."""
REFRESH_S: Final = 10
_HOUR: Final = timedelta(hours=1)
_MINUTE_US: Final = 60_000_000
_MIB_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class AtOnce:
    """What runs now: the mean of this minute and the one before."""

    cpus: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What a new tenant has done already."""

    key: bool
    deployed: bool
    called: bool


@router.get("/")
async def overview_page(
    request: Request,
    context: ContextDependency,
    visitor: SignedInVisitor,
    shown: Annotated[Range, Query(alias="range")] = "hour",
) -> Response:
    values: dict[str, Any] = {
        "changes": [], "broken": [], "steps": None, "period": None, "quotas": [], "total": None, "figures": [],
        "failures": [], "at_once": None, "held": None,
    }  # fmt: skip
    async with context.reading() as session:
        if visitor.may("usage.read"):
            values |= await _usage(session, visitor, shown)
        if visitor.may("functions.read"):
            values |= await _functions(session, visitor)
        if visitor.may("billing.read"):
            values["held"] = await views.subscription_out(session, context.settings, visitor.tenant_id)
    is_moving = any(version.status == "preparing" for version in values["changes"])
    return pages.render(
        request, context, visitor, "overview/overview.html", section="overview", shown=shown, ranges=RANGES,
        outcomes=OUTCOMES, spend_bar=charts.bar, refresh_s=1 if is_moving else REFRESH_S, **values,
    )  # fmt: skip


async def _functions(session: AsyncSession, visitor: Visitor) -> dict[str, Any]:
    tenant_id = visitor.tenant_id
    changes = await repository.newest_versions(session, tenant_id, CHANGES_MAX)
    broken = await repository.failed_functions(session, tenant_id, CHANGES_MAX)
    ever = await usage.totals(session, tenant_id, now() - 30 * DAY, now()) if changes else Usage()
    steps = FirstSteps(
        key=await auth.count_live_keys(session, tenant_id) > 0, deployed=bool(changes), called=ever.calls > 0
    )
    return {
        "changes": [VersionOut.of(version, function.name, []) for version, function in changes],
        "broken": [VersionOut.of(version, function.name, []) for version, function in broken],
        "steps": None if steps.called else steps,
    }


async def _usage(session: AsyncSession, visitor: Visitor, shown: Range) -> dict[str, Any]:
    tenant_id, until = visitor.tenant_id, now()
    since = _since(shown, until)
    period = await usage.period(session, tenant_id)
    total = await usage.totals(session, tenant_id, since, until)
    failures, _ = await usage.invocation_page(
        session, tenant_id, Interval(until - DAY, until), PageRequest(limit=FAILURES_READ, after=None), errors_only=True
    )
    minutes = await usage.minutes(session, tenant_id, until - _HOUR + timedelta(minutes=1), until)
    figures: list[Markup] = []
    if total.calls and shown == "hour":
        figures = _of_the_hour(minutes)
    elif total.calls:
        step: Literal["hour", "day"] = "hour" if shown == "day" else "day"
        figures = draw(await usage.series(session, tenant_id, since, until, step), step)
    return {
        "period": period,
        "quotas": [quota_of(quota) for quota in period.quotas],
        "total": total,
        "figures": figures,
        "at_once": _at_once(minutes, until),
        "failures": _alike(failures) if visitor.may("functions.read") else [],
    }


def _alike(failures: Sequence[UsageRecordRow]) -> list[tuple[UsageRecordRow, int]]:
    """The newest of each kind, and how many there are of it among them."""
    found: dict[tuple[str, str, int], tuple[UsageRecordRow, int]] = {}
    for call in failures:
        kind = (call.function, call.outcome, call.status)
        first, count = found.get(kind, (call, 0))
        found[kind] = (first, count + 1)
    return list(found.values())[:FAILURES_MAX]


def _at_once(minutes: Sequence[Minute], until: datetime) -> AtOnce:
    of_now = minutes[-2:]
    elapsed_us = max((until - of_now[0].start) / timedelta(microseconds=1), 1.0)
    return AtOnce(
        cpus=sum(minute.cpu_us for minute in of_now) / elapsed_us,
        memory_bytes=sum(minute.mib_us for minute in of_now) / elapsed_us * _MIB_BYTES,
    )


def _of_the_hour(minutes: Sequence[Minute]) -> list[Markup]:
    starts = [minute.start for minute in minutes]
    return [
        charts.columns(
            "Calls", starts,
            [
                Series("answered", [minute.calls - minute.errors for minute in minutes]),
                Series("errors", [minute.errors for minute in minutes], "bad"),
            ],
            step="minute",
        ),
        charts.lines(
            "Running at once", starts, [Series("mean", [minute.busy_us / _MINUTE_US for minute in minutes])],
            step="minute", unit=MEAN,
        ),
        charts.columns(
            "CPU in use", starts, [Series("of one CPU", [minute.cpu_us / _MINUTE_US for minute in minutes])],
            step="minute", unit=PERCENT,
        ),
        charts.columns(
            "Memory in use", starts,
            [Series("mean", [minute.mib_us / _MINUTE_US * _MIB_BYTES for minute in minutes])],
            step="minute", unit=MEMORY,
        ),
    ]  # fmt: skip


def _since(shown: Range, until: datetime) -> datetime:
    """Whole hours or days, with the one that runs; percentiles are kept by the hour."""
    match shown:
        case "hour":
            return floor_hour(until - _HOUR)
        case "day":
            return floor_hour(until) - 23 * _HOUR
        case "month":
            return floor_day(until) - 29 * DAY
