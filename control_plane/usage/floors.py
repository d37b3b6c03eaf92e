"""Tells Redis what SQL knows was spent of each quota: a floor, so that a Redis without memory gives nothing away twice.

Called by ``consumer`` after it booked something. The leases of nodes (gateway/host/lease.lua) count faster than SQL;
the floor only matters when that count was lost.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy import func, select

from control_plane.context import Context
from control_plane.models import UsageHourly, now
from control_plane.tiers import repository as tiers
from control_plane.tiers.periods import period_of
from gateway.contract.table import quota_key

PUBLISH_EVERY_S: Final = 5.0
TENANTS_MAX: Final = 200
KEEP_S: Final = 40 * 86_400


class Floors:
    def __init__(self, context: Context, redis: Redis) -> None:
        self._context = context
        self._redis: Any = redis
        self._touched: set[str] = set()
        self._published_s = 0.0

    def touch(self, tenant_ids: Iterable[str]) -> None:
        self._touched |= set(tenant_ids)

    async def publish(self) -> None:
        if not self._touched or time.monotonic() - self._published_s < PUBLISH_EVERY_S:
            return
        self._published_s = time.monotonic()
        batch = sorted(self._touched)[:TENANTS_MAX]
        self._touched -= set(batch)
        async with self._context.reading() as session:
            subscriptions = {one.tenant_id: one for one in await tiers.all_subscriptions(session)}
            for tenant_id in batch:
                subscription = subscriptions.get(tenant_id)
                if subscription is None:
                    continue
                period = period_of(subscription, now())
                sums = select(
                    UsageHourly.function,
                    func.sum(UsageHourly.invocations),
                    func.sum(UsageHourly.cpu_us),
                    func.sum(UsageHourly.mib_us),
                ).where(
                    UsageHourly.tenant_id == tenant_id,
                    UsageHourly.hour >= period.start,
                    UsageHourly.hour < period.end,
                )
                rows = (await session.execute(sums.group_by(UsageHourly.function))).all()
                totals = [sum(int(row[meter]) for row in rows) for meter in (1, 2, 3)]
                await self._write(quota_key(tenant_id, "", period.name), totals)
                for row in rows:
                    await self._write(
                        quota_key(tenant_id, row[0], period.name), [int(row[meter]) for meter in (1, 2, 3)]
                    )

    async def _write(self, key: str, totals: list[int]) -> None:
        await self._redis.hset(key, mapping={f"f{meter}": total for meter, total in enumerate(totals, 1)})
        await self._redis.expire(key, KEEP_S)
