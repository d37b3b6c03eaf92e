"""Billing: where the tenant stands, its next invoice, its invoices; the payment method; cancelling and taking it back.

Buying is in ``purchase_pages``, spend caps are in ``spend_cap_pages``. The policy of our pages lets no form lead to
another site: what the payment provider offers is a link on a page of ours.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import overview, purchasing, repository
from control_plane.billing.schemas import InvoiceOut
from control_plane.billing.stripe_client import StripeClient
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.models import Tenant
from control_plane.pagination import PageDependency
from control_plane.problems import Problem
from control_plane.tenants import service as tenants
from control_plane.tiers import service as tiers

router = APIRouter(prefix="/billing")
Reader = Annotated[Visitor, Depends(see("billing.read"))]
Writer = Annotated[Visitor, Depends(see("billing.write"))]
Post = Annotated[Posted, Depends(post("billing.write"))]
_LOOKS_MAX = 30
"""Seconds that the page waits by itself for the payment provider's word."""


@router.get("")
async def billing_page(
    request: Request,
    context: ContextDependency,
    visitor: Reader,
    bought: Annotated[str, Query(max_length=255)] = "",
    look: Annotated[int, Query(ge=0, le=1000)] = 0,
) -> Response:
    """``bought``: the browser comes back from the checkout. What it says is no proof; the page waits for Stripe's."""
    if bought:
        return await _after_checkout(request, context, visitor, bought, look)
    found = await overview.overview(context, await tenant_of(context, visitor))
    return pages.render(request, context, visitor, "billing/overview.html", section="billing", found=found)


@router.get("/invoices")
async def invoices_page(
    request: Request, context: ContextDependency, visitor: Reader, page: PageDependency
) -> Response:
    async with context.reading() as session:
        found = await repository.list_invoices(session, visitor.tenant_id, page)
    return pages.render(
        request, context, visitor, "billing/invoices.html", section="billing",
        invoices=[InvoiceOut.of(row) for row in found.items], next_cursor=found.next_cursor,
    )  # fmt: skip


@router.post("/payment-method")
async def payment_method(request: Request, context: ContextDependency, posted: Post) -> Response:
    url = await purchasing.portal_url(context, client_of(context), await tenant_of(context, posted.who))
    return pages.render(
        request, context, posted.who, "billing/onward.html", section="billing", url=url, heading="Payment method",
        why="Card, address, tax number and past invoices are kept by the payment provider.",
        button="Open the provider's page",
    )  # fmt: skip


@router.get("/cancel")
async def cancel_page(request: Request, context: ContextDependency, visitor: Writer) -> Response:
    found = await overview.overview(context, await tenant_of(context, visitor))
    if not found.is_paying:
        return RedirectResponse("/billing", status_code=303)
    async with context.reading() as session:
        compared = await overview.comparison(session, context, visitor.tenant_id)
    return pages.render(
        request, context, visitor, "billing/cancel.html", section="billing", found=found, compared=compared
    )


@router.post("/cancel")
async def cancel(context: ContextDependency, posted: Post) -> Response:
    await purchasing.set_cancelled(context, client_of(context), posted.who.tenant_id, cancelled=True)
    return await go(context, posted.who, "/billing", "Cancelled: it ends with the paid month, until then all stays.")


@router.post("/resume")
async def resume(context: ContextDependency, posted: Post) -> Response:
    await purchasing.set_cancelled(context, client_of(context), posted.who.tenant_id, cancelled=False)
    return await go(context, posted.who, "/billing", "The subscription goes on.")


@router.post("/keep")
async def keep(context: ContextDependency, posted: Post) -> Response:
    """The change at the end of the month is taken back."""
    if not await purchasing.keep(context, client_of(context), posted.who.tenant_id):
        return await go(context, posted.who, "/billing", "Nothing was planned.", "warn")
    return await go(context, posted.who, "/billing", "The tier stays as it is.")


async def _after_checkout(request: Request, context: Context, visitor: Visitor, bought: str, look: int) -> Response:
    async with context.reading() as session:
        title = await _bought_title(session, visitor, bought)
    if title is None:
        return RedirectResponse("/billing", status_code=303)
    if title:
        return await go(context, visitor, "/billing", f"{title} is yours. Gateways allow its limits from now on.")
    page = pages.render(
        request, context, visitor, "billing/waiting.html", section="billing", bought=bought, goes_on=look < _LOOKS_MAX
    )
    if look < _LOOKS_MAX:
        # Works without a script; the browser comes from another site, so this is a whole page.
        page.headers["Refresh"] = f"1; url={request.url.path}?bought={bought}&look={look + 1}"
    return page


async def _bought_title(session: AsyncSession, visitor: Visitor, bought: str) -> str | None:
    """The tier that holds now; empty: not yet; None: there is no such purchase to wait for."""
    purchase = await overview.purchase_of(session, visitor.tenant_id, bought)
    if purchase is None or purchase.state in ("expired", "failed"):
        return None
    held = await tiers.require_subscription(session, visitor.tenant_id)
    if purchase.state != "completed" or held.tier_version_id != purchase.tier_version_id:
        return ""
    return await overview.title_of(session, held.tier_version_id)


async def tenant_of(context: Context, visitor: Visitor) -> Tenant:
    async with context.reading() as session:
        return await tenants.require_tenant(session, visitor.tenant_id)


def client_of(context: Context) -> StripeClient:
    if context.stripe is None:
        raise Problem("conflict", "This server sells nothing: it has no Stripe key (STRIPE_API_KEY).")
    return context.stripe
