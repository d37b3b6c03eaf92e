"""Usage as JSON. Units are in the names; ``…_p50_…`` and ``…_p99_…`` are percentiles, right to 6.25 %."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from control_plane.models import UsageRecordRow
from control_plane.tiers.catalog import Meter
from control_plane.usage.views import Group, HourRow, PeriodUsage, Point, Usage, WhatIf


class UsageOut(BaseModel):
    calls: int
    """Admitted, billed or not."""
    errors: int
    """Of them, those not answered 2xx or 3xx."""
    cold_starts: int
    invocations: int
    """Billed; exact, as the sums of CPU and memory are."""
    cpu_us: int
    mib_us: int
    """Peak memory in MiB × wall-clock time in µs."""
    outcomes: dict[str, int]
    wall_p50_us: int | None
    wall_p99_us: int | None
    cpu_p50_us: int | None
    cpu_p99_us: int | None
    queue_p50_us: int | None
    queue_p99_us: int | None
    memory_p50_bytes: int | None
    memory_p99_bytes: int | None


def numbers_of(usage: Usage) -> dict[str, Any]:
    """Also for the rows of CSV."""
    return {
        "calls": usage.calls,
        "errors": usage.errors,
        "cold_starts": usage.cold,
        "invocations": usage.invocations,
        "cpu_us": usage.cpu_us_sum,
        "mib_us": usage.mib_us_sum,
        "wall_p50_us": usage.wall_us.quantile(0.5),
        "wall_p99_us": usage.wall_us.quantile(0.99),
        "cpu_p50_us": usage.cpu_us.quantile(0.5),
        "cpu_p99_us": usage.cpu_us.quantile(0.99),
        "queue_p50_us": usage.queue_us.quantile(0.5),
        "queue_p99_us": usage.queue_us.quantile(0.99),
        "memory_p50_bytes": usage.memory_bytes.quantile(0.5),
        "memory_p99_bytes": usage.memory_bytes.quantile(0.99),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return numbers_of(usage) | {"outcomes": dict(sorted(usage.outcomes.items()))}


class QuotaOut(BaseModel):
    meter: Meter
    """``invocations``, ``cpu-ms`` (milliseconds of CPU) or ``mib-s`` (MiB × seconds); the numbers are in it."""
    used: int
    included: int
    remaining: int
    used_percent: float
    stops: bool
    """Whether calls are refused with 402 once it is used up; else more is billed."""
    overage_minor: int


class FunctionSpendOut(BaseModel):
    function: str
    spent_minor: int
    cap_minor: int
    cap_action: str


class SpendOut(BaseModel):
    currency: str
    price_minor: int
    overage_minor: int
    cap_minor: int | None
    cap_action: str | None
    functions: list[FunctionSpendOut]


class UsageSummary(BaseModel):
    """The period that runs now."""

    period_start: datetime
    period_end: datetime
    """When quotas begin anew."""
    tier: str
    title: str
    quotas: list[QuotaOut]
    spend: SpendOut
    totals: UsageOut

    @classmethod
    def of(cls, period: PeriodUsage, totals: Usage) -> "UsageSummary":
        return cls.model_validate(
            {
                "period_start": period.start,
                "period_end": period.end,
                "tier": period.tier,
                "title": period.title,
                "quotas": [
                    {
                        "meter": quota.meter,
                        "used": quota.used,
                        "included": quota.included,
                        "remaining": quota.remaining,
                        "used_percent": round(quota.share * 100, 2),
                        "stops": quota.stops,
                        "overage_minor": quota.overage_minor,
                    }
                    for quota in period.quotas
                ],
                "spend": {
                    "currency": period.spend.currency,
                    "price_minor": period.spend.price_minor,
                    "overage_minor": period.spend.overage_minor,
                    "cap_minor": period.spend.cap_minor,
                    "cap_action": period.spend.cap_action,
                    "functions": [
                        {
                            "function": each.function,
                            "spent_minor": each.spent_minor,
                            "cap_minor": each.cap_minor,
                            "cap_action": each.cap_action,
                        }
                        for each in period.spend.functions
                    ],
                },
                "totals": _usage(totals),
            }
        )


class PointOut(UsageOut):
    start: datetime

    @classmethod
    def of(cls, point: Point) -> "PointOut":
        return cls.model_validate(_usage(point.usage) | {"start": point.start})


class UsageSeries(BaseModel):
    items: list[PointOut]


class GroupOut(UsageOut):
    function: str
    version: str | None
    """None: all of them."""

    @classmethod
    def of(cls, group: Group) -> "GroupOut":
        return cls.model_validate(
            _usage(group.usage) | {"function": group.function, "version": group.version_id or None}
        )


class UsageGroups(BaseModel):
    items: list[GroupOut]


class HourOut(UsageOut):
    hour: datetime
    function: str
    version: str

    @classmethod
    def of(cls, row: HourRow) -> "HourOut":
        return cls.model_validate(
            _usage(row.usage) | {"hour": row.hour, "function": row.function, "version": row.version_id}
        )


class HourPage(BaseModel):
    items: list[HourOut]
    next_cursor: str | None


class InvocationOut(BaseModel):
    id: str
    """As in the header ``Tailcut-Request-Id`` of the answer."""
    function: str
    version: str
    arrived_at: datetime
    outcome: str
    status: int
    """Of the answer; 0: there was none."""
    billed: bool
    cold_start: bool
    reserved_cpu: bool
    queue_us: int
    start_us: int
    wall_us: int
    cpu_us: int
    memory_bytes: int
    mib_us: int
    request_bytes: int
    response_bytes: int
    log_bytes: int

    @classmethod
    def of(cls, row: UsageRecordRow) -> "InvocationOut":
        return cls(
            id=row.invocation_id,
            function=row.function,
            version=row.version_id,
            arrived_at=row.arrived_at,
            outcome=row.outcome,
            status=row.status,
            billed=row.billed,
            cold_start=row.cold,
            reserved_cpu=row.deadline,
            queue_us=row.queue_us,
            start_us=row.start_us,
            wall_us=row.wall_us,
            cpu_us=row.cpu_us,
            memory_bytes=row.memory_bytes,
            mib_us=row.mib_us,
            request_bytes=row.request_bytes,
            response_bytes=row.response_bytes,
            log_bytes=row.log_bytes,
        )


class InvocationPage(BaseModel):
    items: list[InvocationOut]
    next_cursor: str | None


class LimitFailuresOut(BaseModel):
    limit: str
    calls: int
    """Most likely; surely between the other two."""
    calls_min: int
    calls_max: int
    allowed: int
    worst: int


class WhatIfOut(BaseModel):
    tier: str
    calls: int
    failed: int
    failed_percent: float
    limits: list[LimitFailuresOut]
    overage_minor: int

    @classmethod
    def of(cls, tier: str, found: WhatIf) -> "WhatIfOut":
        return cls(
            tier=tier,
            calls=found.calls,
            failed=found.failed,
            failed_percent=round(found.share * 100, 3),
            limits=[
                LimitFailuresOut(
                    limit=each.limit,
                    calls=each.calls,
                    calls_min=each.calls_min,
                    calls_max=each.calls_max,
                    allowed=each.allowed,
                    worst=each.worst,
                )
                for each in found.limits
            ],
            overage_minor=found.overage_minor,
        )


class WhatIfList(BaseModel):
    days: int
    items: list[WhatIfOut]
