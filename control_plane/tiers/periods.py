"""The month that quotas and bills count in, and the task that tells gateways when one has ended.

``period_of`` is called for the routing table and for answers. A quota's period is in the table, so when one ends a new
table must be made: ``PeriodWatch`` (a task of ``app``) appends to the outbox when the youngest change there is older
than the youngest end of a period. That keeps no state of its own, so a restart misses nothing.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.context import Context
from control_plane.models import Subscription, now
from control_plane.outbox import repository as outbox
from control_plane.tiers import repository

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        return self.start.strftime("%Y-%m-%dT%H:%M:%SZ")


def period_of(subscription: Subscription, at: datetime) -> Period:
    """The paid month that ``at`` lies in, or the calendar month (UTC). Paid months roll on until Stripe says more."""
    if subscription.period_start is None or subscription.period_end is None or at < subscription.period_start:
        start = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Period(start, add_months(start, 1))
    start = end = subscription.period_end
    if at < end:
        return Period(subscription.period_start, end)
    months = 0
    while end <= at:
        months += 1
        start, end = end, add_months(subscription.period_end, months)
    return Period(start, end)


def add_months(start: datetime, months: int) -> datetime:
    """The same day of a later month, or its last one: the 31st of January is followed by the 28th of February."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    for day in range(start.day, start.day - 4, -1):
        try:
            return start.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")


class PeriodWatch:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round(now())
            except (SQLAlchemyError, OSError) as error:
                log.warning("period-watch-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(self._context.settings.period_watch_interval.total_seconds())

    async def round(self, at: datetime) -> bool:
        """True: a period had ended, and gateways are told."""
        async with self._context.reading() as session:
            tenant_id = await self._whose_period_ended(session, at)
        if tenant_id is None:
            return False
        async with self._context.writing() as session:
            await outbox.append(session, tenant_id, "period-ended", at.isoformat())
        return True

    async def _whose_period_ended(self, session: AsyncSession, at: datetime) -> str | None:
        newest = await outbox.newest_change_at(session)
        for subscription in await repository.all_subscriptions(session):
            start = period_of(subscription, at).start
            if newest is None or newest < start <= at:
                return subscription.tenant_id
        return None
