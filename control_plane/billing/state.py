"""Copies Stripe's state of a customer here: the tier changes on Stripe's word alone.

``refresh`` is called by whoever has reason to think that something changed (a webhook, a change of ours, a
reconciliation). It asks Stripe for all subscriptions of the customer and applies what it finds, so the order in which
reasons arrive does not matter. What always holds: a state that was read before another one was written never
overwrites it (``sync_number``), and the effect and ``finish`` (the event's mark) are one transaction.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.billing import repository
from control_plane.billing.stripe_client import Object, StripeClient
from control_plane.context import Context
from control_plane.models import Subscription, TierVersion, now
from control_plane.tiers import repository as tiers
from control_plane.tiers import service as tier_service
from control_plane.tiers.catalog import load_catalog

log = structlog.get_logger(__name__)

_ATTEMPTS_MAX: Final = 10
PAID: Final = ("active", "trialing", "past_due")
"""Stripe's states in which the tier holds; past_due for the time of grace."""
Finish = Callable[[AsyncSession], Awaitable[None]]


class Contended(Exception):  # noqa: N818
    """Others kept changing it; try again later."""


async def refresh(context: Context, client: StripeClient, customer_id: str, finish: Finish | None = None) -> bool:
    """False: no tenant of ours has this customer."""
    for _ in range(_ATTEMPTS_MAX):
        async with context.reading() as session:
            held = await repository.find_subscription_of_customer(session, customer_id)
        if held is None:
            return False
        found = await client.list_subscriptions(customer_id)
        async with context.writing() as session:
            if not await repository.claim_sync(session, held.tenant_id, held.sync_number):
                continue
            subscription = await tier_service.require_subscription(session, held.tenant_id)
            await _apply(session, context, subscription, found)
            if finish is not None:
                await finish(session)
        return True
    raise Contended(f"the subscription of {customer_id} changed {_ATTEMPTS_MAX} times meanwhile")


async def fall_back(session: AsyncSession, context: Context, subscription: Subscription, status: str) -> None:
    """To the tier that costs nothing."""
    name = load_catalog(context.settings.tier_catalog).fallback_tier
    subscription.status = status
    version = await tier_service.require_tier(session, name)
    if await tier_service.put_on_tier(session, subscription, version, {}):
        audit.record(session, subscription.tenant_id, audit.system("Stripe"), "tier.changed", name, reason=status)


async def _apply(session: AsyncSession, context: Context, subscription: Subscription, found: list[Object]) -> None:
    live = sorted((each for each in found if each["status"] in PAID), key=lambda each: each["created"], reverse=True)
    subscription.note = None
    if len(live) > 1:
        ids = ", ".join(each["id"] for each in live)
        subscription.note = f"The customer has {len(live)} subscriptions ({ids}); the newest counts. Refund the others."
        log.warning("second-subscription", tenant=subscription.tenant_id, subscriptions=ids)
    if not live:
        await _without_subscription(session, context, subscription, found)
        return
    chosen = live[0]
    version, add_ons = await bought(session, chosen["items"]["data"])
    item = chosen["items"]["data"][0]
    subscription.stripe_subscription_id = chosen["id"]
    subscription.period_start = _time(item["current_period_start"])
    subscription.period_end = _time(item["current_period_end"])
    subscription.cancel_at_period_end = bool(chosen["cancel_at_period_end"])
    if version is None:
        subscription.note = f"{chosen['id']} has no price of ours: run stripe-sync, then stripe-reconcile."
        log.error("unknown-price", tenant=subscription.tenant_id, subscription=chosen["id"])
        return
    if chosen["status"] == "past_due":
        subscription.past_due_since = subscription.past_due_since or now()
        subscription.status = "past_due"
        if subscription.past_due_since + context.settings.payment_grace < now():
            await fall_back(session, context, subscription, "unpaid")
            return
    else:
        subscription.past_due_since, subscription.status = None, "active"
    if await tier_service.put_on_tier(session, subscription, version, add_ons):
        audit.record(session, subscription.tenant_id, audit.system("Stripe"), "tier.changed", version.tier)


async def _without_subscription(
    session: AsyncSession, context: Context, subscription: Subscription, found: list[Object]
) -> None:
    """None that holds: never one (nothing changes), unpaid for too long, or cancelled."""
    if subscription.stripe_subscription_id is None:
        return
    ended = next((each for each in found if each["id"] == subscription.stripe_subscription_id), None)
    unpaid = ended is not None and ended["status"] == "unpaid"
    if not unpaid:
        subscription.stripe_subscription_id = None
    subscription.period_start = subscription.period_end = subscription.past_due_since = None
    subscription.cancel_at_period_end = False
    await fall_back(session, context, subscription, "unpaid" if unpaid else "canceled")


async def bought(session: AsyncSession, items: Sequence[Object]) -> tuple[TierVersion | None, dict[str, int]]:
    """The tier's version, and the add-ons (version id → quantity), that the prices of the items stand for."""
    version: TierVersion | None = None
    add_ons: dict[str, int] = {}
    for item in items:
        named = item["price"]
        price = await repository.find_price(session, named["id"] if isinstance(named, dict) else named)
        if price is None or price.version_id is None:
            continue
        if price.role == "tier":
            version = await tiers.get_tier_version(session, price.version_id)
        elif price.role == "add-on":
            add_ons[price.version_id] = add_ons.get(price.version_id, 0) + int(item["quantity"])
    return version, add_ons


def _time(unix_s: Any) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)
