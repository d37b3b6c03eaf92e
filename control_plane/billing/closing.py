"""A tenant that is being deleted pays its last invoice first: the hook of ``tenants.removal``, and the task behind it.

The removal asks ``books_closed`` inside its transaction, where Stripe cannot be asked; the task does what is missing
(count, send, cancel with a final invoice) in transactions of its own and may be killed anywhere.
"""

import asyncio

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.purchasing import final_invoice
from control_plane.billing.state import Contended
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.context import Context
from control_plane.models import Tenant, UsageHour
from control_plane.problems import Problem
from control_plane.tiers import repository as tiers

log = structlog.get_logger(__name__)


async def books_closed(session: AsyncSession, tenant_id: str) -> bool:
    """Whether all usage is billed and nothing is paid for any more."""
    open_hour = select(UsageHour.hour).where(UsageHour.tenant_id == tenant_id, UsageHour.dirty).limit(1)
    if await session.scalar(open_hour) is not None:
        return False
    subscription = await tiers.find_subscription(session, tenant_id)
    if subscription is None or subscription.stripe_customer_id is None:
        return True
    unsent = await repository.unsent_meter_events(session, tenant_id)
    return subscription.stripe_subscription_id is None and unsent == 0


class Closing:
    def __init__(self, context: Context, client: StripeClient | None) -> None:
        self._context = context
        self._client = client

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except (Problem, StripeAway, StripeRefused, Contended, SQLAlchemyError, OSError) as error:
                log.warning("closing-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(self._context.settings.billing_interval.total_seconds())

    async def round(self) -> None:
        async with self._context.reading() as session:
            leaving = (await session.scalars(select(Tenant.id).where(Tenant.status == "deleting"))).all()
            waiting = [tenant_id for tenant_id in leaving if not await books_closed(session, tenant_id)]
        for tenant_id in waiting:
            await final_invoice(self._context, self._client, tenant_id)
            log.info("final-invoice", tenant=tenant_id)
