"""How a tenant's calls of the last weeks would have fared on another tier. Pure.

Called by ``service.what_if`` with what was read once for all tiers. Limits of one invocation are compared with the
histograms of what calls really used, so the answer is an estimate with bounds. A call that ended at its limit may have
wanted more than it was seen to use: on a larger tier nobody knows, and it is not counted there. Quotas are walked
hour by hour as if the time were one month; rate and concurrency minute by minute, which finds the least that would have
been refused (within a minute calls may have come closer together).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.tiers.catalog import METERS, MIB_PER_GIB, Tier
from control_plane.usage.shape import Above, Shape
from control_plane.usage.views import LimitFailures, Minute, WhatIf

_PER_CALL = (
    # The tier's limit, our histogram, its units in one of the limit's, and the outcome of a call that met it
    ("timeout_ms", "wall_us", 1000, "timeout"),
    ("cpu_ms", "cpu_us", 1000, "cpu_limit"),
    ("memory_bytes", "memory_bytes", 1, "memory_limit"),
    ("request_bytes_max", "request_bytes", 1, ""),
    ("output_bytes_max", "response_bytes", 1, "output_limit"),
)
_OF_METER = {"invocations": "invocations", "cpu-ms": "cpu_seconds", "mib-s": "gib_seconds"}
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Hour:
    """Exact sums of the billed ones."""

    start: datetime
    invocations: int
    cpu_us: int
    mib_us: int


def what_if(
    tier: Tier, since: datetime, until: datetime, shape: Shape, hours: Sequence[Hour], minutes: Sequence[Minute]
) -> WhatIf:
    calls = shape.calls
    per_call = [found for found in (_per_call(tier, shape, *each) for each in _PER_CALL) if found.calls_max]
    quotas, share_refused = _quotas(tier, hours)
    crowding = [found for found in (_rate(tier, minutes), _concurrency(tier, minutes)) if found.calls]
    # What a quota refuses has not run, so it cannot exceed another limit as well.
    passed = 1 - share_refused
    for group in (per_call, crowding):
        passed *= 1 - (max(each.calls for each in group) / calls if group and calls else 0)
    return WhatIf(
        since=since,
        until=until,
        calls=calls,
        failed=min(calls, round(calls * (1 - passed))),
        limits=sorted((each for each in (*per_call, *quotas, *crowding) if each.calls), key=lambda each: -each.calls),
        overage_minor=overage_minor(tier, *sums(hours)),
    )


def sums(hours: Sequence[Hour]) -> tuple[int, int, int]:
    """Invocations, CPU µs, MiB·µs"""
    return (
        sum(hour.invocations for hour in hours),
        sum(hour.cpu_us for hour in hours),
        sum(hour.mib_us for hour in hours),
    )


def in_meters(invocations: int, cpu_us: int, mib_us: int) -> dict[str, int]:
    """In the units of the tier's meters."""
    return {"invocations": invocations, "cpu-ms": cpu_us // 1000, "mib-s": mib_us // 1_000_000}


def overage_minor(tier: Tier, invocations: int, cpu_us: int, mib_us: int) -> int:
    """What is above the included, in minor units, rounded down."""
    if tier.overage is None:
        return 0
    used = in_meters(invocations, cpu_us, mib_us)
    micros = sum(max(0, used[meter] - tier.month.included(meter)) * tier.overage.per_million(meter) for meter in METERS)
    return micros // 1_000_000


def _per_call(tier: Tier, shape: Shape, limit: str, name: str, factor: int, outcome: str) -> LimitFailures:
    allowed: int = getattr(tier.invocation, limit)
    histogram = shape[name]
    above: Above = histogram.above(allowed * factor)
    # Those that were stopped at a limit lie just above it, in the bucket that is shared with those just below.
    calls = max(above.calls, min(above.most, shape.outcomes[outcome] if outcome else 0))
    worst = (histogram.quantile(1) or 0) // factor
    return LimitFailures(limit, calls, above.least, above.most, allowed, worst)


def _quotas(tier: Tier, hours: Sequence[Hour]) -> tuple[list[LimitFailures], float]:
    """→ the quota that ends first, and the share of all invocations that come after it."""
    total = sums(hours)
    if tier.overage is not None or not total[0]:
        return [], 0.0
    included = (
        tier.month.invocations,
        tier.month.cpu_seconds * 1_000_000,
        tier.month.gib_seconds * MIB_PER_GIB * 1_000_000,
    )
    spent = [0, 0, 0]
    for at, hour in enumerate(hours):
        adds = (hour.invocations, hour.cpu_us, hour.mib_us)
        # The part of the hour's calls that each meter still admits.
        parts = [
            1.0 if used + add <= bound else (bound - used) / add
            for used, add, bound in zip(spent, adds, included, strict=True)
        ]
        first = min(range(3), key=lambda meter: parts[meter])
        if parts[first] < 1:
            after = sum(each.invocations for each in hours[at + 1 :])
            least = after
            refused = after + round(hour.invocations * (1 - parts[first]))
            meter = METERS[first]
            name = _OF_METER[meter]
            used = in_meters(*total)[meter] // {"invocations": 1, "cpu-ms": 1000, "mib-s": MIB_PER_GIB}[meter]
            found = LimitFailures(name, refused, least, after + hour.invocations, getattr(tier.month, name), used)
            return [found], refused / total[0]
        spent = [used + add for used, add in zip(spent, adds, strict=True)]
    return [], 0.0


def _rate(tier: Tier, minutes: Sequence[Minute]) -> LimitFailures:
    """A token bucket, refilled by the minute."""
    rate, burst = tier.admission.rate_per_s, tier.admission.burst
    tokens, refused, most, worst = float(burst), 0, 0, 0
    for minute in minutes:
        available = tokens + rate * 60
        refused += max(0, round(minute.calls - available))
        tokens = min(burst, max(0.0, available - minute.calls))
        most += max(0, minute.calls - burst)
        worst = max(worst, -(-minute.calls // 60))
    return LimitFailures("rate_per_s", refused, refused, most, rate, worst)


def _concurrency(tier: Tier, minutes: Sequence[Minute]) -> LimitFailures:
    """Little's law: busy time over time is how many ran at once, on average."""
    bound = tier.admission.concurrency_max
    refused = most = worst = 0
    for minute in minutes:
        at_once = minute.busy_us / _MINUTE_US
        if at_once > bound:
            refused += round(minute.calls * (1 - bound / at_once))
        most += max(0, minute.calls - bound)
        worst = max(worst, round(at_once))
    return LimitFailures("concurrency_max", refused, refused, most, bound, worst)
