"""What ``service`` answers: usage of groups, a period's quotas and spend, and how another tier would have done.

Plain values for the dashboard, for ``schemas`` (REST) and for billing's comparison of tiers. A *call* is an admitted
invocation, billed or not; ``invocations``, CPU and memory sums are the billed ones, exact, as they are invoiced.
Calls that were refused at admission (429, 402) have no record and are in none of this.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from control_plane.tiers.catalog import Meter
from control_plane.usage.shape import Histogram, Shape

Step = Literal["hour", "day"]


@dataclass(slots=True)
class Usage:
    """Of any group: a tenant, a function, a version; of any time."""

    calls: int = 0
    errors: int = 0
    """Not answered 2xx or 3xx."""
    cold: int = 0
    """Waited for a worker to start."""
    invocations: int = 0
    cpu_us_sum: int = 0
    mib_us_sum: int = 0
    shape: Shape = field(default_factory=Shape)

    @property
    def outcomes(self) -> Counter[str]:
        return self.shape.outcomes

    @property
    def wall_us(self) -> Histogram:
        return self.shape["wall_us"]

    @property
    def cpu_us(self) -> Histogram:
        return self.shape["cpu_us"]

    @property
    def queue_us(self) -> Histogram:
        return self.shape["queue_us"]

    @property
    def memory_bytes(self) -> Histogram:
        return self.shape["memory_bytes"]

    @property
    def error_share(self) -> float:
        return self.errors / self.calls if self.calls else 0.0

    def add_shape(self, shape: Shape) -> None:
        self.calls += shape.calls
        self.errors += shape.errors
        self.cold += shape.cold
        self.shape.merge(shape)

    def add_sums(self, invocations: int, cpu_us: int, mib_us: int) -> None:
        self.invocations += invocations
        self.cpu_us_sum += cpu_us
        self.mib_us_sum += mib_us


@dataclass(frozen=True, slots=True)
class Point:
    start: datetime
    usage: Usage


@dataclass(frozen=True, slots=True)
class Group:
    function: str
    version_id: str
    """Empty: all versions."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class HourRow:
    hour: datetime
    function: str
    version_id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Minute:
    start: datetime
    calls: int = 0
    errors: int = 0
    busy_us: int = 0
    """Queue and run of what arrived; over a minute's length it is the mean number at once."""
    cpu_us: int = 0
    mib_us: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """One meter of a period, in the meter's unit."""

    meter: Meter
    used: int
    included: int
    stops: bool
    """Whether calls are refused with 402 once it is used up; else more is billed."""
    overage_minor: int
    """What the part above the included costs so far."""

    @property
    def remaining(self) -> int:
        return max(0, self.included - self.used)

    @property
    def share(self) -> float:
        return self.used / self.included if self.included else 0.0


@dataclass(frozen=True, slots=True)
class FunctionSpend:
    """Of a function with a spend cap: its usage at list price, for what is included belongs to the whole tenant."""

    function: str
    spent_minor: int
    cap_minor: int
    cap_action: str

    @property
    def share(self) -> float:
        return self.spent_minor / self.cap_minor if self.cap_minor else 1.0


@dataclass(frozen=True, slots=True)
class Spend:
    """Money in minor units of ``currency``."""

    currency: str
    price_minor: int
    overage_minor: int
    """For usage above the included, so far in the period."""
    cap_minor: int | None
    cap_action: str | None
    functions: list[FunctionSpend]

    @property
    def share(self) -> float | None:
        """Of the tenant's cap; None: there is none."""
        if self.cap_minor is None:
            return None
        return self.overage_minor / self.cap_minor if self.cap_minor else 1.0


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    start: datetime
    end: datetime
    """When quotas begin anew."""
    tier: str
    title: str
    quotas: list[Quota]
    spend: Spend


@dataclass(frozen=True, slots=True)
class LimitFailures:
    """How many calls a limit would have failed: most likely ``calls``, surely between the other two."""

    limit: str
    calls: int
    calls_min: int
    calls_max: int
    allowed: int
    """By the tier, in the limit's unit."""
    worst: int
    """The largest that was seen, in the limit's unit; of quotas: what was used in the time."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The tenant's calls since ``since``, had it been on another tier."""

    since: datetime
    until: datetime
    calls: int
    failed: int
    limits: list[LimitFailures]
    """Those that would have failed any, the worst first."""
    overage_minor: int
    """What usage above the included would have cost in the time; 0 where the tier stops instead."""

    @property
    def share(self) -> float:
        return self.failed / self.calls if self.calls else 0.0

    @property
    def largest(self) -> LimitFailures | None:
        return self.limits[0] if self.limits else None
