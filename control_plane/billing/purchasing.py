"""Buying, changing and ending a tier. Everything here asks Stripe; what it says comes back through ``state.refresh``.

Called by the endpoints and the dashboard. A new subscription goes through Checkout; one that exists is changed in
place with proration, invoiced at once: a card that declines changes nothing. Each call to Stripe that makes something
carries a key made from our own row, so that repeating it after a crash makes it once.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from control_plane.billing import repository
from control_plane.billing.metering import Metering
from control_plane.billing.state import refresh
from control_plane.billing.stripe_client import Object, StripeAway, StripeClient, StripeRefused
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import Purchase, StripeObject, Subscription, Tenant, TierVersion, now
from control_plane.problems import Problem
from control_plane.tiers import service as tier_service
from control_plane.tiers.catalog import METERS, Tier

_MISSING_PRICES: Final = "Stripe does not know the price of {name} yet: the operator runs `tailcut-server stripe-sync`."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tier's version and add-ons (version id → quantity), with their prices in Stripe."""

    version: TierVersion
    add_ons: dict[str, int]
    prices: list[tuple[StripeObject, int | None]]
    """With quantities; none for metered ones."""


@dataclass(frozen=True, slots=True)
class Offer:
    """``checkout``: the tenant pays at ``url``. ``changed``: done, and ``url`` shows the subscription."""

    kind: Literal["checkout", "changed"]
    url: str


async def buy(context: Context, client: StripeClient, tenant: Tenant, tier: str, add_ons: Mapping[str, int]) -> Offer:
    wanted = await _wanted(context, tier, add_ons)
    subscription = await _with_customer(context, client, tenant)
    if subscription.stripe_subscription_id is not None:
        await _change(context, client, subscription, wanted)
        return Offer("changed", context.settings.upgrade_url)
    await _expire_open(context, client, tenant.id)
    purchase = Purchase(
        id=new_id("pur"),
        tenant_id=tenant.id,
        tier_version_id=wanted.version.id,
        add_ons=wanted.add_ons,
        state="started",
        created_at=now(),
        updated_at=now(),
    )
    async with context.writing() as session:
        session.add(purchase)
    session_now = await _offered(context, client, subscription, wanted, purchase)
    return Offer("checkout", str(session_now["url"]))


async def preview(
    context: Context, client: StripeClient, tenant: Tenant, tier: str | None, add_ons: Mapping[str, int]
) -> Object | None:
    """What ``buy`` would cost now, or (without a tier) the next invoice as it stands. None: there is nothing to pay."""
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant.id)
    if tier is None:
        if subscription.stripe_subscription_id is None:
            return None
        return await _asking(client.preview_invoice({"subscription": subscription.stripe_subscription_id}))
    wanted = await _wanted(context, tier, add_ons)
    subscription = await _with_customer(context, client, tenant)
    if subscription.stripe_subscription_id is not None:
        items = await _changes(client, subscription, wanted)
        details = {"items": items, "proration_behavior": "always_invoice"}
        params: dict[str, Any] = {
            "subscription": subscription.stripe_subscription_id,
            "subscription_details": details,
        }
        return await _asking(client.preview_invoice(params))
    items = [_line(price, quantity) for price, quantity in wanted.prices]
    params = {"customer": str(subscription.stripe_customer_id), "subscription_details": {"items": items}}
    return await _asking(client.preview_invoice(params))


async def set_cancelled(context: Context, client: StripeClient, tenant_id: str, *, cancelled: bool) -> None:
    """At the end of the paid month; until then it can be taken back."""
    subscription = await _require_paid(context, tenant_id)
    key = f"cancel {subscription.stripe_subscription_id} {cancelled} {subscription.sync_number}"
    params = {"cancel_at_period_end": cancelled}
    await _asking(client.update_subscription(str(subscription.stripe_subscription_id), params, key))
    await refresh(context, client, str(subscription.stripe_customer_id))


async def portal_url(context: Context, client: StripeClient, tenant: Tenant) -> str:
    """Stripe's own pages: payment method, address, tax number, invoices."""
    subscription = await _with_customer(context, client, tenant)
    params = {"customer": subscription.stripe_customer_id, "return_url": context.settings.upgrade_url}
    return str((await _asking(client.create_portal(params)))["url"])


async def final_invoice(context: Context, client: StripeClient | None, tenant_id: str) -> None:
    """Before a tenant is deleted: count what is not counted, send it, end the subscription with its last invoice.

    May be repeated. Raises Problem when Stripe is away: then nothing may be deleted yet.
    """
    metering = Metering(context, client)
    while await metering.close_hours(now(), tenant_id):
        continue
    if client is None:
        return
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant_id)
    if subscription.stripe_customer_id is None:
        return
    try:
        while await metering.send_due(now(), tenant_id):
            continue
    except StripeAway as error:
        raise _away(error) from None
    for each in await _asking(client.list_subscriptions(subscription.stripe_customer_id)):
        if each["status"] not in ("canceled", "incomplete_expired"):
            await _asking(client.cancel_subscription(each["id"], {"invoice_now": True, "prorate": True}))
    await refresh(context, client, subscription.stripe_customer_id)


# -- steps -------------------------------------------------------------------------------------------------------------


async def _wanted(context: Context, tier: str, add_ons: Mapping[str, int]) -> Wanted:
    async with context.reading() as session:
        version = await tier_service.require_tier(session, tier)
        document = Tier.model_validate(version.document)
        if not document.sold or not document.price_minor:
            raise Problem("conflict", f"The tier {tier!r} cannot be bought; to leave a paid one, cancel it.")
        chosen = await tier_service.require_add_ons(session, document, add_ons)
        roles: dict[str, StripeObject] = {
            str(price.role): price for price in await repository.prices_of(session, version.id)
        }
        needed = ["tier", *(METERS if document.overage is not None else ())]
        if not all(role in roles for role in needed):
            raise Problem("conflict", _MISSING_PRICES.format(name=tier))
        prices: list[tuple[StripeObject, int | None]] = [
            (roles[role], 1 if role == "tier" else None) for role in needed
        ]
        for version_id, quantity in chosen.items():
            found = await repository.prices_of(session, version_id)
            if not found:
                raise Problem("conflict", _MISSING_PRICES.format(name="an add-on"))
            prices.append((found[0], quantity))
    return Wanted(version, chosen, prices)


async def _with_customer(context: Context, client: StripeClient, tenant: Tenant) -> Subscription:
    """Stripe's customer of this tenant, made at the first need."""
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant.id)
    if subscription.stripe_customer_id is not None:
        return subscription
    params = {"name": tenant.name, "metadata": {"tailcut_tenant": tenant.id}}
    customer = await _asking(client.create_customer(params, f"customer {tenant.id}"))
    async with context.writing() as session:
        subscription = await tier_service.require_subscription(session, tenant.id)
        subscription.stripe_customer_id = subscription.stripe_customer_id or str(customer["id"])
        subscription.updated_at = now()
    return subscription


async def _offered(
    context: Context, client: StripeClient, subscription: Subscription, wanted: Wanted, purchase: Purchase
) -> Object:
    settings = context.settings
    params: dict[str, Any] = {
        "mode": "subscription",
        "customer": subscription.stripe_customer_id,
        "client_reference_id": purchase.tenant_id,
        "line_items": [_line(price, quantity) for price, quantity in wanted.prices],
        "success_url": f"{settings.upgrade_url}?bought={{CHECKOUT_SESSION_ID}}",
        "cancel_url": settings.upgrade_url,
        "metadata": {"tailcut_purchase": purchase.id},
        "subscription_data": {
            "metadata": {"tailcut_tenant": purchase.tenant_id},
            "billing_mode": {"type": "flexible"},
        },
    }
    if settings.stripe_tax:
        params |= {
            "automatic_tax": {"enabled": True},
            "billing_address_collection": "required",
            "customer_update": {"address": "auto", "name": "auto"},
            "tax_id_collection": {"enabled": True},
        }
    found = await _asking(client.create_checkout(params, f"checkout {purchase.id}"))
    async with context.writing() as session:
        row = await session.get(Purchase, purchase.id)
        if row is not None and row.state == "started":
            row.state, row.stripe_session_id, row.updated_at = "offered", str(found["id"]), now()
    return found


async def _expire_open(context: Context, client: StripeClient, tenant_id: str) -> None:
    """An earlier offer must not be paid beside the new one."""
    async with context.reading() as session:
        held = await repository.open_purchases(session, tenant_id)
    for purchase in held:
        state = "failed"
        if purchase.stripe_session_id is not None:
            found = await _asking(client.retrieve_checkout(purchase.stripe_session_id))
            if found["status"] == "complete":
                raise Problem("conflict", "A purchase has just been paid; its tier will hold in a moment. Look again.")
            if found["status"] == "open":
                await _asking(client.expire_checkout(purchase.stripe_session_id))
            state = "expired"
        async with context.writing() as session:
            row = await session.get(Purchase, purchase.id)
            if row is not None and row.state in ("started", "offered"):
                row.state, row.updated_at = state, now()


async def _change(context: Context, client: StripeClient, subscription: Subscription, wanted: Wanted) -> None:
    params = {
        "items": await _changes(client, subscription, wanted),
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
    }
    if not params["items"]:
        raise Problem("conflict", f"The tenant has exactly that already: {wanted.version.tier}.")
    # The number makes the same change, made again later, another one.
    key = (
        f"change {subscription.stripe_subscription_id} {subscription.sync_number} {wanted.version.id} add-ons:"
        + ",".join(f"{version_id}:{quantity}" for version_id, quantity in sorted(wanted.add_ons.items()))
    )
    await _asking(client.update_subscription(str(subscription.stripe_subscription_id), params, key))
    await refresh(context, client, str(subscription.stripe_customer_id))


async def _changes(client: StripeClient, subscription: Subscription, wanted: Wanted) -> list[dict[str, Any]]:
    """What to say to Stripe so that its items become the wanted ones."""
    found = await _asking(client.list_subscriptions(str(subscription.stripe_customer_id)))
    current = next(each for each in found if each["id"] == subscription.stripe_subscription_id)
    held = {item["price"]["id"]: item for item in current["items"]["data"]}
    items: list[dict[str, Any]] = []
    for price, quantity in wanted.prices:
        item = held.pop(price.stripe_id, None)
        if item is None:
            items.append(_line(price, quantity))
        elif quantity is not None and item["quantity"] != quantity:
            items.append({"id": item["id"], "quantity": quantity})
    return [*items, *({"id": item["id"], "deleted": True} for item in held.values())]


def _line(price: StripeObject, quantity: int | None) -> dict[str, Any]:
    return {"price": price.stripe_id} if quantity is None else {"price": price.stripe_id, "quantity": quantity}


async def _require_paid(context: Context, tenant_id: str) -> Subscription:
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant_id)
    if subscription.stripe_subscription_id is None:
        raise Problem("conflict", "The tenant pays for no tier; there is nothing to cancel.")
    return subscription


async def _asking[Answer](call: Awaitable[Answer]) -> Answer:
    """What goes wrong at Stripe, as a problem for our caller."""
    try:
        return await call
    except StripeAway as error:
        raise _away(error) from None
    except StripeRefused as error:
        if error.declined:
            raise Problem(
                "payment-failed", f"The payment failed: {error}. Nothing was changed; another payment method helps."
            ) from None
        raise Problem("conflict", f"Stripe refused: {error}") from None


def _away(error: StripeAway) -> Problem:
    return Problem(
        "payment-provider-away",
        "The payment provider does not answer; nothing is lost, try again in a moment.",
        headers={"Retry-After": "5"},
        reason=str(error)[:200],
    )
