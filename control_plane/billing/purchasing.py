"""Buying, changing and ending a tier. Everything here asks Stripe; what it says comes back through ``state.refresh``.

Called by the endpoints and the dashboard. A new subscription goes through Checkout; one that exists is changed in
place with proration, invoiced at once: a card that declines changes nothing; or at the end of the paid month
(``planning``). Each call to Stripe that makes something carries a key made from our own row, so that repeating it after
a crash makes it once. A tenant's changes take turns (``turns``): two tabs, or two clicks, are one after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from control_plane.billing import planning, repository
from control_plane.billing.asking import asking
from control_plane.billing.state import refresh
from control_plane.billing.stripe_client import Object, StripeClient
from control_plane.billing.turns import turn
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import Purchase, StripeObject, Subscription, Tenant, TierVersion, now
from control_plane.problems import Problem
from control_plane.tenants import repository as tenants
from control_plane.tiers import repository as tiers
from control_plane.tiers import service as tier_service
from control_plane.tiers.catalog import METERS, AddOn, Tier

PREVIEW_GOOD_FOR: Final = timedelta(minutes=30)
_MISSING_PRICES: Final = "Stripe does not know the price of {name} yet: the operator runs `tailcut-server stripe-sync`."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tier's version and add-ons (version id → quantity), with their prices in Stripe."""

    version: TierVersion
    add_ons: dict[str, int]
    prices: list[tuple[StripeObject, int | None]]
    """With quantities; none for metered ones."""
    monthly_minor: int
    """What is paid each month whatever is used."""


@dataclass(frozen=True, slots=True)
class Offer:
    """``checkout``: the tenant pays at ``url``. ``changed``: done, ``planned``: it will be, and ``url`` shows it."""

    kind: Literal["checkout", "changed", "planned"]
    url: str


When = Literal["now", "period-end"]


class JustPaid(Problem):
    """Stripe has not told us of it yet."""

    def __init__(self) -> None:
        super().__init__("conflict", "A purchase has just been paid; its tier will hold in a moment. Look again.")


async def buy(
    context: Context,
    client: StripeClient,
    tenant: Tenant,
    tier: str,
    add_ons: Mapping[str, int],
    when: When = "now",
    prorated_at: datetime | None = None,
) -> Offer:
    """``prorated_at``: of the preview that was shown, so that what is charged is what was shown."""
    async with turn(context, tenant.id):
        await _check_stays(context, tenant.id)
        wanted = await _wanted(context, tier, add_ons)
        subscription = await _with_customer(context, client, tenant)
        await _check_settled(client, subscription)
        return await _buy(context, client, subscription, wanted, when, prorated_at)


async def _buy(
    context: Context,
    client: StripeClient,
    subscription: Subscription,
    wanted: Wanted,
    when: When,
    prorated_at: datetime | None,
) -> Offer:
    if subscription.stripe_subscription_id is not None:
        _check_preview(prorated_at)
        await planning.forget(context, client, subscription)
        if when == "period-end":
            if subscription.cancel_at_period_end:
                await _set_cancelled(context, client, subscription, cancelled=False)
            await planning.schedule(context, client, subscription, [_line(*each) for each in wanted.prices])
            return Offer("planned", context.settings.upgrade_url)
        await _change(context, client, subscription, wanted, prorated_at)
        return Offer("changed", context.settings.upgrade_url)
    if when == "period-end":
        raise Problem("conflict", "The tenant pays for no tier yet: there is no paid month at whose end to change it.")
    tenant_id = subscription.tenant_id
    await expire_open(context, client, tenant_id)
    purchase = Purchase(
        id=new_id("pur"),
        tenant_id=tenant_id,
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
    context: Context,
    client: StripeClient,
    tenant: Tenant,
    tier: str | None,
    add_ons: Mapping[str, int],
    prorated_at: datetime | None = None,
) -> Object | None:
    """What ``buy`` would cost now, or (without a tier) the next invoice as it stands. None: there is nothing to pay."""
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant.id)
    if tier is None:
        if subscription.stripe_subscription_id is None:
            return None
        return await asking(client.preview_invoice({"subscription": subscription.stripe_subscription_id}))
    wanted = await _wanted(context, tier, add_ons)
    subscription = await _with_customer(context, client, tenant)
    if subscription.stripe_subscription_id is not None:
        items = await _changes(client, subscription, wanted)
        details: dict[str, Any] = {"items": items, "proration_behavior": "always_invoice"}
        if prorated_at is not None:
            details["proration_date"] = int(prorated_at.timestamp())
        params: dict[str, Any] = {
            "subscription": subscription.stripe_subscription_id,
            "subscription_details": details,
        }
        return await asking(client.preview_invoice(params))
    items = [_line(price, quantity) for price, quantity in wanted.prices]
    params = {"customer": str(subscription.stripe_customer_id), "subscription_details": {"items": items}}
    return await asking(client.preview_invoice(params))


async def monthly_minor(context: Context, tenant_id: str, tier: str, add_ons: Mapping[str, int]) -> tuple[int, int]:
    """What is paid each month whatever is used: of what is held, and of what is asked about."""
    wanted = await _wanted(context, tier, add_ons)
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant_id)
        version = await tiers.get_tier_version(session, subscription.tier_version_id)
        held = await tiers.list_add_ons(session, tenant_id)
    if version is None:
        raise AssertionError(f"{subscription.tier_version_id} has a foreign key on it")
    add_on_minor = sum(AddOn.model_validate(each.document).price_minor * quantity for each, quantity in held)
    return Tier.model_validate(version.document).price_minor + add_on_minor, wanted.monthly_minor


async def set_cancelled(context: Context, client: StripeClient, tenant_id: str, *, cancelled: bool) -> None:
    """At the end of the paid month; until then it can be taken back."""
    async with turn(context, tenant_id):
        subscription = await _require_paid(context, tenant_id)
        await planning.forget(context, client, subscription)
        await _set_cancelled(context, client, subscription, cancelled=cancelled)


async def keep(context: Context, client: StripeClient, tenant_id: str) -> bool:
    """Take back what is planned for the end of the month. False: nothing was."""
    async with turn(context, tenant_id):
        async with context.reading() as session:
            held = await tier_service.require_subscription(session, tenant_id)
        return held.stripe_subscription_id is not None and await planning.forget(context, client, held)


async def _set_cancelled(
    context: Context, client: StripeClient, subscription: Subscription, *, cancelled: bool
) -> None:
    key = f"cancel {subscription.stripe_subscription_id} {cancelled} {subscription.sync_number}"
    params = {"cancel_at_period_end": cancelled}
    await asking(client.update_subscription(str(subscription.stripe_subscription_id), params, key))
    await refresh(context, client, str(subscription.stripe_customer_id))


async def portal_url(context: Context, client: StripeClient, tenant: Tenant) -> str:
    """Stripe's own pages: payment method, address, tax number, invoices."""
    subscription = await _with_customer(context, client, tenant)
    params = {"customer": subscription.stripe_customer_id, "return_url": context.settings.upgrade_url}
    return str((await asking(client.create_portal(params)))["url"])


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
        monthly = document.price_minor
        for version_id, quantity in chosen.items():
            found = await repository.prices_of(session, version_id)
            add_on = await tiers.get_add_on_version(session, version_id)
            if not found or add_on is None:
                raise Problem("conflict", _MISSING_PRICES.format(name="an add-on"))
            prices.append((found[0], quantity))
            monthly += AddOn.model_validate(add_on.document).price_minor * quantity
    return Wanted(version, chosen, prices, monthly)


async def _with_customer(context: Context, client: StripeClient, tenant: Tenant) -> Subscription:
    """Stripe's customer of this tenant, made at the first need."""
    async with context.reading() as session:
        subscription = await tier_service.require_subscription(session, tenant.id)
    if subscription.stripe_customer_id is not None:
        return subscription
    params = {"name": tenant.name, "metadata": {"tailcut_tenant": tenant.id}}
    customer = await asking(client.create_customer(params, f"customer {tenant.id}"))
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
    found = await asking(client.create_checkout(params, f"checkout {purchase.id}"))
    async with context.writing() as session:
        row = await session.get(Purchase, purchase.id)
        if row is not None and row.state == "started":
            row.state, row.stripe_session_id, row.updated_at = "offered", str(found["id"]), now()
    return found


async def expire_open(context: Context, client: StripeClient, tenant_id: str) -> None:
    """An earlier offer must not be paid beside the new one."""
    async with context.reading() as session:
        held = await repository.open_purchases(session, tenant_id)
    for purchase in held:
        state = "failed"
        if purchase.stripe_session_id is not None:
            found = await asking(client.retrieve_checkout(purchase.stripe_session_id))
            if found["status"] == "complete":
                raise JustPaid
            if found["status"] == "open":
                await asking(client.expire_checkout(purchase.stripe_session_id))
            state = "expired"
        async with context.writing() as session:
            row = await session.get(Purchase, purchase.id)
            if row is not None and row.state in ("started", "offered"):
                row.state, row.updated_at = state, now()


async def _change(
    context: Context,
    client: StripeClient,
    subscription: Subscription,
    wanted: Wanted,
    prorated_at: datetime | None,
) -> None:
    params: dict[str, Any] = {
        "items": await _changes(client, subscription, wanted),
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
    }
    if subscription.cancel_at_period_end:
        params["cancel_at_period_end"] = False  # who buys goes on
    if not params["items"]:
        raise Problem("conflict", f"The tenant has exactly that already: {wanted.version.tier}.")
    if prorated_at is not None:
        params["proration_date"] = int(prorated_at.timestamp())
    # The number makes the same change, made again later, another one.
    key = (
        f"change {subscription.stripe_subscription_id} {subscription.sync_number} {wanted.version.id} add-ons:"
        + ",".join(f"{version_id}:{quantity}" for version_id, quantity in sorted(wanted.add_ons.items()))
        + (f" at {params['proration_date']}" if prorated_at is not None else "")
    )
    await asking(client.update_subscription(str(subscription.stripe_subscription_id), params, key))
    await refresh(context, client, str(subscription.stripe_customer_id))


async def _changes(client: StripeClient, subscription: Subscription, wanted: Wanted) -> list[dict[str, Any]]:
    """What to say to Stripe so that its items become the wanted ones."""
    found = await asking(client.list_subscriptions(str(subscription.stripe_customer_id)))
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


async def _check_stays(context: Context, tenant_id: str) -> None:
    """Asked for within the turn: from its deletion on a tenant begins nothing that would go on costing."""
    async with context.reading() as session:
        tenant = await tenants.get_tenant(session, tenant_id)
    if tenant is None or tenant.status in ("deleting", "deleted"):
        raise Problem("tenant-suspended", "The tenant is being deleted: nothing can be bought for it.")


async def _check_settled(client: StripeClient, subscription: Subscription) -> None:
    """Who owes pays that first. Stripe judges a subscription by its newest invoice, and a new one knows nothing of
    another's debts: a small change that is paid, or cancelling and buying anew, would leave last month's usage unpaid.
    """
    for invoice in await asking(client.list_invoices(str(subscription.stripe_customer_id), "open")):
        # A purchase that was not gone through with (its card asked for more) is no debt.
        if invoice["attempted"] and invoice["amount_remaining"] and invoice["billing_reason"] != "subscription_create":
            raise Problem(
                "conflict",
                f"The invoice {invoice['number']} is not paid: pay it first, then change the tier. It is on the "
                f"billing page, and at {invoice['hosted_invoice_url']}",
            )


def _check_preview(prorated_at: datetime | None) -> None:
    if prorated_at is not None and not now() - PREVIEW_GOOD_FOR <= prorated_at <= now() + timedelta(seconds=5):
        raise Problem("conflict", "The price was shown a while ago and may be another one now; look at it again.")
