"""What time does to money: grace ends, and offers that nobody told us about are looked up.

A task of ``app``. An unpaid invoice makes a subscription ``past_due``; its tier stays for ``payment_grace``, then the
fallback tier holds until Stripe says that it was paid. A checkout whose webhook never came (the control plane was away
for longer than Stripe tries) is found here.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_plane.billing import repository
from control_plane.billing.state import Contended, refresh
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.context import Context
from control_plane.models import Purchase, now

log = structlog.get_logger(__name__)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """One tenant whose customer or offer Stripe no longer knows does not stand before the others."""
    try:
        yield
    except (StripeAway, StripeRefused, Contended, SQLAlchemyError, OSError) as error:
        log.warning("dunning-failed", of=what, error=type(error).__name__, message=str(error)[:200])


class Dunning:
    def __init__(self, context: Context, client: StripeClient) -> None:
        self._context = context
        self._client = client

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with _logged("round"):
                await self.round()
            await asyncio.sleep(self._context.settings.dunning_interval.total_seconds())

    async def round(self) -> None:
        async with self._context.reading() as session:
            overdue = await repository.overdue_subscriptions(session, now() - self._context.settings.payment_grace)
            offered = await repository.all_offered(session)
        for subscription in overdue:
            # Asks Stripe first: the payment may have come meanwhile. If not, the fallback tier holds.
            with _logged(subscription.tenant_id):
                await refresh(self._context, self._client, str(subscription.stripe_customer_id))
        for purchase in offered:
            with _logged(purchase.tenant_id):
                await self._look_up(purchase)

    async def _look_up(self, purchase: Purchase) -> None:
        found = await self._client.retrieve_checkout(str(purchase.stripe_session_id))
        if found["status"] == "open":
            return
        if found["status"] == "complete":
            await refresh(self._context, self._client, str(found["customer"]))
        async with self._context.writing() as session:
            row = await session.get(Purchase, purchase.id)
            if row is not None:
                row.state = "completed" if found["status"] == "complete" else "expired"
                row.updated_at = now()
