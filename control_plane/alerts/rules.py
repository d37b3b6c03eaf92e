"""Which thresholds a tenant's usage has reached. Pure.

Called by ``watch``. A threshold is reached when so many percent of what is allowed are used; of errors, when so many
percent of a day's calls have failed (and there were enough of them to mean something).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from control_plane.usage.views import PeriodUsage

PERCENT_MAX: Final = 1000
THRESHOLDS_MAX: Final = 10
ERRORS: Final = "errors"
SPEND: Final = "spend"
ERROR_CALLS_MIN: Final = 50
"""A day's calls, before a share of them says anything."""

Percent = Annotated[int, Field(ge=1, le=PERCENT_MAX)]


class Thresholds(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    quota_percents: Annotated[tuple[Percent, ...], Field(max_length=THRESHOLDS_MAX)] = (80, 100)
    """Of each of the period's quotas: invocations, CPU, memory × time."""
    spend_percents: Annotated[tuple[Percent, ...], Field(max_length=THRESHOLDS_MAX)] = (80, 100)
    """Of each spend cap, the tenant's and those of functions."""
    error_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of a day's calls."""

    @field_validator("quota_percents", "spend_percents")
    @classmethod
    def _rising(cls, percents: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(percents)))


@dataclass(frozen=True, slots=True)
class Reached:
    subject: str
    period_start: datetime
    percent: int
    allowed: int
    used: int

    @property
    def key(self) -> tuple[str, datetime, int, int]:
        return self.subject, self.period_start, self.percent, self.allowed


def reached(
    thresholds: Thresholds, period: PeriodUsage, day: datetime, day_calls: int, day_errors: int
) -> Iterator[Reached]:
    for quota in period.quotas:
        yield from reached_of(quota.meter, period.start, thresholds.quota_percents, quota.included, quota.used)
    spend = period.spend
    if spend.cap_minor is not None:
        yield from reached_of(SPEND, period.start, thresholds.spend_percents, spend.cap_minor, spend.overage_minor)
    for each in spend.functions:
        subject = f"{SPEND}:{each.function}"
        yield from reached_of(subject, period.start, thresholds.spend_percents, each.cap_minor, each.spent_minor)
    if thresholds.error_percent is not None and day_calls >= ERROR_CALLS_MIN:
        yield from reached_of(ERRORS, day, (thresholds.error_percent,), 100, day_errors * 100 // day_calls)


def reached_of(subject: str, start: datetime, percents: tuple[int, ...], allowed: int, used: int) -> Iterator[Reached]:
    """Nothing is reached of an allowance of nothing: that was so before the first call."""
    for percent in percents:
        if allowed > 0 and used * 100 >= percent * allowed:
            yield Reached(subject, start, percent, allowed, used)
