"""What the billing pages show: the tier and its state, the next invoice, what is planned, invoices, spend caps.

Called by the dashboard. Reads SQL, and asks Stripe where only Stripe knows; when Stripe is away the rest is still
there and ``away`` says what is missing. Nothing here changes anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import planning, purchasing, repository
from control_plane.billing.planning import Planned
from control_plane.billing.schemas import InvoiceOut
from control_plane.billing.stripe_client import Object
from control_plane.context import Context
from control_plane.models import BillingNote, Purchase, Tenant
from control_plane.pagination import PageRequest
from control_plane.problems import Problem
from control_plane.tiers import repository as tiers
from control_plane.tiers import service as tier_service
from control_plane.tiers import views
from control_plane.tiers.catalog import METERS, AddOn, Meter, Tier, load_catalog
from control_plane.tiers.schemas import SubscriptionOut, TierList
from control_plane.usage import service as usage
from control_plane.usage.views import PeriodUsage, WhatIf

_FITS_BELOW = 0.001
_NEWEST = 5
"""Invoices, and refunds, on the first page."""
OWING = ("past_due", "unpaid")
"""States of a subscription of which an invoice was not paid."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    amount_minor: int
    kind: Literal["fixed", "usage"]
    meter: Meter | None = None
    """Of usage; the quantity is in its units."""
    quantity: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """An invoice that is not there yet."""

    currency: str
    total_minor: int
    due_minor: int
    """After credit."""
    lines: list[Line]

    def of_kind(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def sum_of(self, kind: str) -> int:
        return sum(line.amount_minor for line in self.of_kind(kind))


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """An add-on that is paid for."""

    name: str
    title: str
    quantity: int
    price_minor: int
    """Per piece and month"""


@dataclass(frozen=True, slots=True)
class Cap:
    """A spend cap and how much of it is spent. On a tier that bills nothing above the included that is nothing."""

    function: str
    """Empty: the whole tenant."""
    spent_minor: int
    amount_minor: int
    action: str

    @property
    def share(self) -> float:
        if not self.amount_minor:
            return 1.0 if self.spent_minor else 0.0
        return self.spent_minor / self.amount_minor


@dataclass(frozen=True, slots=True)
class Overview:
    subscription: SubscriptionOut
    is_paying: bool
    is_customer: bool
    """Whether Stripe knows the tenant."""
    add_ons: list[HeldPiece]
    upcoming: Preview | None
    planned: Planned | None
    away: str
    """Why ``upcoming`` and ``planned`` could not be asked for; empty: they could."""
    used: PeriodUsage
    invoices: list[InvoiceOut]
    owed: list[InvoiceOut]
    """Invoices that wait for their payment, if one has failed."""
    money_back: list[BillingNote]
    caps: list[Cap]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tiers beside each other, and how each would have done for this tenant."""

    held: SubscriptionOut
    held_rank: int
    sold: TierList
    fits: dict[str, WhatIf]
    fallback: Tier
    """What comes after a cancellation."""

    @property
    def held_is_sold(self) -> bool:
        return any(tier.name == self.held.tier for tier in self.sold.tiers)

    @property
    def best(self) -> str | None:
        """The lowest tier that would have let nearly everything through; None: nothing was called, or none would."""
        for tier in self.sold.tiers:
            fit = self.fits[tier.name]
            if fit.calls and fit.share < _FITS_BELOW:
                return tier.name
        return None


async def overview(context: Context, tenant: Tenant) -> Overview:
    async with context.reading() as session:
        held = await views.subscription_out(session, context.settings, tenant.id)
        row = await tier_service.require_subscription(session, tenant.id)
        pieces = await held_pieces(session, tenant.id)
        used = await usage.period(session, tenant.id)
        found = await repository.list_invoices(session, tenant.id, PageRequest(limit=_NEWEST, after=None))
        open_ones = await repository.open_invoices(session, tenant.id) if row.status in OWING else []
        notes = await repository.notes_of(session, tenant.id, _NEWEST)
        caps = await spend_caps(session, tenant.id, used)
    upcoming, planned, away = None, None, ""
    client = context.stripe
    if client is not None and row.stripe_subscription_id is not None:
        try:
            upcoming = await preview_of(context, await purchasing.preview(context, client, tenant, None, {}))
            planned = await planning.find(context, client, row)
        except Problem as problem:
            away = problem.detail
    return Overview(
        subscription=held,
        is_paying=row.stripe_subscription_id is not None,
        is_customer=row.stripe_customer_id is not None,
        add_ons=pieces,
        upcoming=upcoming,
        planned=planned,
        away=away,
        used=used,
        invoices=[InvoiceOut.of(row) for row in found.items],
        owed=[InvoiceOut.of(row) for row in open_ones],
        money_back=list(notes),
        caps=caps,
    )


async def comparison(session: AsyncSession, context: Context, tenant_id: str) -> Comparison:
    sold = await tier_service.sold_tiers(session)
    name = load_catalog(context.settings.tier_catalog).fallback_tier
    fallback = Tier.model_validate((await tier_service.require_tier(session, name)).document)
    return Comparison(
        held=await views.subscription_out(session, context.settings, tenant_id),
        held_rank=(await tier_service.entitlements_of(session, tenant_id)).rank,
        sold=await views.tier_list(session),
        fits=await usage.what_if(session, tenant_id, [*sold, fallback]),
        fallback=fallback,
    )


async def preview_of(context: Context, found: Object | None) -> Preview | None:
    """With what is charged by usage told from what is fixed."""
    if found is None:
        return None
    async with context.reading() as session:
        roles = {price.stripe_id: price.role for price in await repository.stripe_objects(session)}
    lines = []
    for line in found["lines"]["data"]:
        role = roles.get(_price_of(line))
        meter = next((each for each in METERS if each == role), None)
        kind: Literal["fixed", "usage"] = "usage" if meter else "fixed"
        lines.append(Line(line["description"] or "", line["amount"], kind, meter, line["quantity"] or 0))
    return Preview(found["currency"], found["total"], found["amount_due"], lines)


async def held_pieces(session: AsyncSession, tenant_id: str) -> list[HeldPiece]:
    pieces = []
    for version, quantity in await tiers.list_add_ons(session, tenant_id):
        add_on = AddOn.model_validate(version.document)
        pieces.append(HeldPiece(add_on.name, add_on.title, quantity, add_on.price_minor))
    return pieces


async def spend_caps(session: AsyncSession, tenant_id: str, used: PeriodUsage) -> list[Cap]:
    """That of the whole tenant first."""
    spent = {each.function: each.spent_minor for each in used.spend.functions} | {"": used.spend.overage_minor}
    rows = await repository.list_spend_caps(session, tenant_id)
    return [Cap(row.function, spent.get(row.function, 0), row.amount_minor, row.action) for row in rows]


async def add_ons_for(session: AsyncSession, tier: str) -> Sequence[AddOn]:
    """What can be bought with the tier now."""
    found = [AddOn.model_validate(version.document) for version in await tiers.current_add_on_versions(session)]
    return [add_on for add_on in found if tier in add_on.tiers]


async def purchase_of(session: AsyncSession, tenant_id: str, stripe_session_id: str) -> Purchase | None:
    """What the browser comes back from; only the tenant's own."""
    purchase = await repository.find_purchase_by_session(session, stripe_session_id)
    return purchase if purchase is not None and purchase.tenant_id == tenant_id else None


async def title_of(session: AsyncSession, tier_version_id: str) -> str:
    version = await tiers.get_tier_version(session, tier_version_id)
    if version is None:
        raise AssertionError(f"{tier_version_id} has a foreign key on it")
    return Tier.model_validate(version.document).title


def _price_of(line: Object) -> str:
    price = ((line["pricing"] or {}).get("price_details") or {}).get("price")
    return str(price["id"] if isinstance(price, dict) else price)
