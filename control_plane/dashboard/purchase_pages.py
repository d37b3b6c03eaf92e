"""Buying: the tiers beside each other, and one wish (a tier with its add-ons) with its price before the click.

What costs more holds at once, with proration; what costs less holds at the end of the paid month. A first purchase
goes to the payment provider's checkout, by a link.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from control_plane.billing import overview, purchasing
from control_plane.billing.overview import HeldPiece, Preview
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages, tier_words
from control_plane.dashboard.billing_pages import client_of, tenant_of
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.models import Tenant, now
from control_plane.problems import Problem
from control_plane.tiers import service as tiers
from control_plane.tiers import views
from control_plane.tiers.catalog import AddOn, Tier
from control_plane.tiers.schemas import SubscriptionOut
from control_plane.usage import service as usage
from control_plane.usage.views import WhatIf

router = APIRouter(prefix="/billing")
Reader = Annotated[Visitor, Depends(see("billing.read"))]
Writer = Annotated[Visitor, Depends(see("billing.write"))]
Post = Annotated[Posted, Depends(post("billing.write"))]
PIECE = "add-on."
"""Before an add-on's name it is the name of its field."""
Kind = Literal["checkout", "now", "period-end", "same"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody thinks about buying, and what it would mean."""

    tier: Tier
    currency: str
    add_ons: Sequence[AddOn]
    quantities: dict[str, int]
    held: SubscriptionOut
    pieces: list[HeldPiece]
    kind: Kind
    monthly_minor: int
    preview: Preview | None
    """What is due now; None for what is not."""
    prorated_at: datetime | None
    fit: WhatIf


@router.get("/tiers")
async def tiers_page(request: Request, context: ContextDependency, visitor: Reader) -> Response:
    async with context.reading() as session:
        found = await overview.comparison(session, context, visitor.tenant_id)
    return pages.render(
        request, context, visitor, "billing/tiers.html", section="billing", found=found,
        table=tier_words.table(found.sold.tiers), titles={tier.name: tier.title for tier in found.sold.tiers},
    )  # fmt: skip


@router.get("/change")
async def change_page(
    request: Request,
    context: ContextDependency,
    visitor: Writer,
    tier: Annotated[str, Query(max_length=63)] = "",
) -> Response:
    return await _change_page(request, context, visitor, tier, dict(request.query_params))


@router.post("/change")
async def change(request: Request, context: ContextDependency, posted: Post) -> Response:
    visitor, given = posted.who, posted.values()
    tenant = await tenant_of(context, visitor)
    tier = posted.text("tier")
    try:
        wish = await _wish(context, tenant, tier, given, with_preview=False)
        shown_at = _time_of(posted.text("prorated_at")) if wish.kind == "now" else None
        when: purchasing.When = "period-end" if wish.kind == "period-end" else "now"
        if wish.kind != posted.text("kind"):
            raise Problem("conflict", "The subscription has changed meanwhile; look at the price again.")
        offer = await purchasing.buy(context, client_of(context), tenant, tier, wish.quantities, when, shown_at)
    except Problem as problem:
        if problem.slug not in ("conflict", "payment-failed", "payment-provider-away"):
            raise
        return await _change_page(request, context, visitor, tier, given, problem)
    if offer.kind == "checkout":
        return pages.render(
            request, context, visitor, "billing/onward.html", section="billing", url=offer.url,
            heading=f"Pay for {wish.tier.title}", button="Continue to payment",
            why="You pay at the payment provider and come back here. The tier holds as soon as it tells us.",
        )  # fmt: skip
    done = (
        f"Planned: {wish.tier.title} begins when the paid month ends."
        if offer.kind == "planned"
        else f"Done: you have {wish.tier.title} as you wanted it. The difference is invoiced."
    )
    return await go(context, visitor, "/billing", done)


async def _change_page(
    request: Request,
    context: Context,
    visitor: Visitor,
    tier: str,
    given: Mapping[str, str],
    problem: Problem | None = None,
) -> Response:
    tenant = await tenant_of(context, visitor)
    wish = await _wish(context, tenant, tier, given, with_preview=True)
    return pages.render(
        request, context, visitor, "billing/change.html", section="billing", wish=wish, piece=PIECE,
        status=200 if problem is None else problem.status, error="" if problem is None else problem.detail,
        failed_payment=problem is not None and problem.slug == "payment-failed",
    )  # fmt: skip


async def _wish(context: Context, tenant: Tenant, tier: str, given: Mapping[str, str], *, with_preview: bool) -> Wish:
    async with context.reading() as session:
        version = await tiers.require_tier(session, tier)
        document = Tier.model_validate(version.document)
        add_ons = await overview.add_ons_for(session, tier)
        held = await views.subscription_out(session, context.settings, tenant.id)
        row = await tiers.require_subscription(session, tenant.id)
        pieces = await overview.held_pieces(session, tenant.id)
        fits = await usage.what_if(session, tenant.id, [document])
    quantities = _quantities(add_ons, given, {piece.name: piece.quantity for piece in pieces})
    held_minor, monthly_minor = await purchasing.monthly_minor(context, tenant.id, tier, quantities)
    is_same = (held.tier, held.version) == (document.name, version.number) and quantities == {
        piece.name: piece.quantity for piece in pieces
    }
    kind: Kind = "checkout"
    if row.stripe_subscription_id is not None:
        kind = "same" if is_same else "period-end" if monthly_minor < held_minor else "now"
    preview, at = None, None
    if kind == "now" and with_preview:
        at = now().replace(microsecond=0)
        asked = await purchasing.preview(context, client_of(context), tenant, tier, quantities, at)
        preview = await overview.preview_of(context, asked)
    return Wish(
        document, version.currency, add_ons, quantities, held, pieces, kind, monthly_minor, preview, at,
        fits[document.name],
    )  # fmt: skip


def _quantities(add_ons: Sequence[AddOn], given: Mapping[str, str], held: Mapping[str, int]) -> dict[str, int]:
    """As the form says; as they are held, when it is opened. What is no number counts as none."""
    is_opened = not any(name.startswith(PIECE) for name in given)
    found = {}
    for add_on in add_ons:
        text = str(held.get(add_on.name, 0)) if is_opened else given.get(PIECE + add_on.name, "0")
        quantity = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
        if quantity:
            found[add_on.name] = min(quantity, add_on.quantity_max)
    return found


def _time_of(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise Problem("conflict", "The price was not shown; look at it again.") from None
