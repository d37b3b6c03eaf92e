"""What billing does in the background. Called by ``app`` (what runs) and ``commands`` (the client)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from control_plane.billing.closing import Closing
from control_plane.billing.dunning import Dunning
from control_plane.billing.events import EventConsumer
from control_plane.billing.metering import Metering
from control_plane.billing.reconciling import Reconciler
from control_plane.billing.stripe_client import StripeAway, StripeClient
from control_plane.billing.stripe_sync import sync
from control_plane.context import Context
from control_plane.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.5
_FOREVER_S: Final = 3600.0
Run = Callable[[], Coroutine[Any, Any, None]]


def make_client(settings: Settings) -> StripeClient | None:
    """None: without a key nothing can be bought."""
    return StripeClient(settings.stripe_api_key, settings.stripe_url) if settings.stripe_api_key else None


def in_background(context: Context, redis: Redis | None) -> list[tuple[str, Run]]:
    client = context.stripe
    found: list[tuple[str, Run]] = [
        ("metering", Metering(context, client).run),
        ("closing", Closing(context, client, redis).run),
    ]
    if client is not None:
        found += [
            ("stripe-events", EventConsumer(context, client).run),
            ("dunning", Dunning(context, client).run),
            ("reconciliation", Reconciler(context, client).run),
        ]
        if context.settings.stripe_simulated:
            found.append(("stripe-sync", lambda: _sync_simulated(context, client)))
    return found


async def _sync_simulated(context: Context, client: StripeClient) -> None:
    """A real Stripe is written to by an operator's command; a simulated one has no operator."""
    while True:
        try:
            made = await sync(context, client)
            log.info("stripe-synced", made=made)
            await asyncio.sleep(_FOREVER_S)
        except StripeAway:
            await asyncio.sleep(_RETRY_S)
