"""A tenant that is being deleted pays its last invoice first: the hook of ``tenants.removal``, and the task behind it.

The removal asks ``books_closed`` inside its transaction, where Stripe cannot be asked; the task does what is missing
(count, send, cancel with a final invoice) in transactions of its own and may be killed anywhere. It begins when the
last calls have had time to end and every node's journal is booked up to there: what is counted after the last invoice
is paid by nobody. A node that is away holds it up for ``USAGE_WAIT`` at most.
"""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final

import structlog
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.asking import asking, away
from control_plane.billing.metering import Metering
from control_plane.billing.purchasing import JustPaid, expire_open
from control_plane.billing.state import Contended, refresh
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.billing.stripe_sync import event_name
from control_plane.billing.turns import turn
from control_plane.context import Context
from control_plane.functions import repository as functions
from control_plane.models import Subscription, Tenant, UsageHour, now
from control_plane.problems import Problem
from control_plane.tiers import repository as tiers
from control_plane.tiers import service as tier_service
from control_plane.tiers.catalog import METERS
from control_plane.usage.lag import booked_until

log = structlog.get_logger(__name__)

USAGE_WAIT: Final = timedelta(days=1)
COUNTED_SINCE: Final = timedelta(hours=2)
"""Older hours were closed and sent long ago."""
INVOICE_AFTER: Final = timedelta(seconds=2)
"""The newest event; Stripe's times are whole seconds, and an invoice has what lies before its own."""
HOUR_S: Final = 3600


async def books_closed(session: AsyncSession, tenant_id: str) -> bool:
    """Whether all usage is billed, nothing is paid for any more and nothing can be."""
    open_hour = select(UsageHour.hour).where(UsageHour.tenant_id == tenant_id, UsageHour.dirty).limit(1)
    if await session.scalar(open_hour) is not None:
        return False
    subscription = await tiers.find_subscription(session, tenant_id)
    if subscription is None or subscription.stripe_customer_id is None:
        return True
    if subscription.stripe_subscription_id is not None or await repository.open_purchases(session, tenant_id):
        return False
    return await repository.unsent_meter_events(session, tenant_id) == 0


class Closing:
    def __init__(self, context: Context, client: StripeClient | None, redis: Redis | None) -> None:
        self._context = context
        self._client = client
        self._redis = redis

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round(now())
            except (Problem, StripeAway, StripeRefused, Contended, SQLAlchemyError, OSError) as error:
                log.warning("closing-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(self._context.settings.billing_interval.total_seconds())

    async def round(self, at: datetime) -> None:
        for tenant_id, drained_at in await self._waiting():
            async with self._context.reading() as session:
                offers = await repository.open_purchases(session, tenant_id)
            if offers and self._client is not None:
                await end_offers(self._context, self._client, tenant_id)
            waits = at < drained_at + USAGE_WAIT
            if drained_at > at or (waits and not await self._is_usage_in(drained_at, at)):
                continue
            if await final_invoice(self._context, self._client, tenant_id, waits=waits):
                log.info("final-invoice", tenant=tenant_id, complete=waits)

    async def _waiting(self) -> list[tuple[str, datetime]]:
        """Tenants that have left and whose books are open; and when their last calls have ended for certain."""
        # Of a deleted one, too: what is still paid for (made at Stripe by hand, say) must end.
        is_left = (Tenant.status == "deleting") | (
            (Tenant.status == "deleted") & Subscription.stripe_subscription_id.is_not(None)
        )
        query = select(Tenant).join(Subscription, Subscription.tenant_id == Tenant.id).where(is_left)
        found = []
        async with self._context.reading() as session:
            for tenant in await session.scalars(query):
                longest = await functions.longest_timeout(session, tenant.id)
                left_at = tenant.status_at or tenant.created_at
                drained_at = left_at + max(self._context.settings.deletion_drain_time, longest)
                if not await books_closed(session, tenant.id):
                    found.append((tenant.id, drained_at))
        return found

    async def _is_usage_in(self, drained_at: datetime, at: datetime) -> bool:
        if self._redis is None:
            return True  # no gateway reports here
        booked = await booked_until(self._redis, at)
        return booked is not None and booked >= drained_at


async def final_invoice(context: Context, client: StripeClient | None, tenant_id: str, *, waits: bool) -> bool:
    """Count what is not counted, send it, end the subscription with its last invoice. May be repeated.

    False: Stripe does not count all of it yet (it takes meter events in first and adds them up later); without
    ``waits`` the invoice is made all the same. Raises Problem when Stripe is away: nothing may be deleted yet.
    """
    metering = Metering(context, client)
    while await metering.close_hours(now(), tenant_id):
        continue
    if client is None:
        return True
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant_id)
    customer_id = subscription.stripe_customer_id
    if customer_id is None:
        return True
    try:
        while await metering.send_due(now(), tenant_id):
            continue
    except StripeAway as error:
        raise away(error) from None
    if waits and not await _is_counted(context, client, tenant_id, customer_id):
        return False
    async with turn(context, tenant_id):
        for each in await asking(client.list_subscriptions(customer_id)):
            if each["status"] not in ("canceled", "incomplete_expired"):
                await asking(client.cancel_subscription(each["id"], {"invoice_now": True, "prorate": True}))
        await refresh(context, client, customer_id)
    return True


async def _is_counted(context: Context, client: StripeClient, tenant_id: str, customer_id: str) -> bool:
    """What Stripe sums up for the last hours is what it has acknowledged, and lies before the invoice's moment."""
    since = now().replace(minute=0, second=0, microsecond=0) - COUNTED_SINCE
    async with context.reading() as session:
        sent = await repository.acknowledged_by_hour(session, tenant_id, since)
        newest = await repository.newest_meter_event(session, tenant_id)
        meters = {meter: await repository.find_meter(session, event_name(meter)) for meter in METERS}
    if newest is not None and newest > now() - INVOICE_AFTER:
        return False
    for (meter, hour), value in sent.items():
        start_s = int(hour.timestamp())
        meter_id = meters[meter]  # type: ignore[index]  # one of METERS
        counted = await asking(client.meter_total(str(meter_id), customer_id, start_s, start_s + HOUR_S))
        if counted < value:
            return False
    return True


async def end_offers(context: Context, client: StripeClient, tenant_id: str) -> None:
    """Of a tenant that leaves: what it was offered must not be paid any more. One that was paid at this moment stays
    open here until Stripe's word of it has come; then its subscription is ended as any other."""
    # What was begun before the deletion has had its turn by now, and later ones are refused.
    async with turn(context, tenant_id):
        with contextlib.suppress(JustPaid):
            await expire_open(context, client, tenant_id)
