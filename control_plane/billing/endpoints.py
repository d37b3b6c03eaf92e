"""/v1/subscription/…, /v1/invoices, /v1/spend-caps (a tenant's own), /v1/billing (the operator), /webhooks/stripe"""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.principal import BillingReader, BillingWriter, OperatorCaller, Principal
from control_plane.billing import events, purchasing, repository, service
from control_plane.billing.schemas import (
    BillingHealth,
    InvoiceOut,
    InvoicePage,
    OfferOut,
    PortalOut,
    PreviewOut,
    PurchaseRequest,
    Received,
    SpendCapList,
    SpendCapOut,
    SpendCapSet,
)
from control_plane.billing.stripe_client import SignatureInvalid, StripeClient
from control_plane.context import Context, ContextDependency
from control_plane.models import Tenant
from control_plane.pagination import PageDependency, page_fields
from control_plane.problems import Problem, not_found
from control_plane.tenants import repository as tenants
from control_plane.tiers import views
from control_plane.tiers.schemas import SubscriptionOut
from gateway.contract.table import NAME_PATTERN

router = APIRouter(tags=["billing"])
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.post("/v1/subscription/checkout")
async def buy(request: PurchaseRequest, context: ContextDependency, caller: BillingWriter) -> OfferOut:
    """Buy a tier, or change the one that is paid for. The tier holds when Stripe says so."""
    client = _client(context)
    tenant = await _tenant(context, caller)
    offer = await purchasing.buy(context, client, tenant, request.tier, request.add_ons, request.when)
    return OfferOut(kind=offer.kind, url=offer.url, simulated=context.settings.stripe_simulated)


@router.post("/v1/subscription/preview")
async def preview(request: PurchaseRequest, context: ContextDependency, caller: BillingWriter) -> PreviewOut:
    """What buying it would cost now, with what is given back for the rest of the month. ``when`` is not looked at."""
    tenant = await _tenant(context, caller)
    found = await purchasing.preview(context, _client(context), tenant, request.tier, request.add_ons)
    if found is None:
        raise AssertionError("a tier that can be bought has a preview")
    return PreviewOut.of(found, simulated=context.settings.stripe_simulated)


@router.post("/v1/subscription/cancel")
async def cancel(context: ContextDependency, caller: BillingWriter) -> SubscriptionOut:
    """At the end of the paid month; until then ``resume`` takes it back."""
    await purchasing.set_cancelled(context, _client(context), caller.tenant_id, cancelled=True)
    return await _subscription(context, caller)


@router.post("/v1/subscription/resume")
async def resume(context: ContextDependency, caller: BillingWriter) -> SubscriptionOut:
    await purchasing.set_cancelled(context, _client(context), caller.tenant_id, cancelled=False)
    return await _subscription(context, caller)


@router.post("/v1/subscription/portal")
async def portal(context: ContextDependency, caller: BillingWriter) -> PortalOut:
    """Where payment method, address and tax number are changed, and invoices are paid."""
    url = await purchasing.portal_url(context, _client(context), await _tenant(context, caller))
    return PortalOut(url=url, simulated=context.settings.stripe_simulated)


@router.get("/v1/invoices", response_model=InvoicePage)
async def list_invoices(context: ContextDependency, caller: BillingReader, page: PageDependency) -> dict[str, Any]:
    """The newest first."""
    async with context.reading() as session:
        found = await repository.list_invoices(session, caller.tenant_id, page)
    return page_fields(found.map(InvoiceOut.of))


@router.get("/v1/invoices/upcoming")
async def upcoming(context: ContextDependency, caller: BillingReader) -> PreviewOut:
    """The next invoice as it stands; 404 when nothing is paid for."""
    found = await purchasing.preview(context, _client(context), await _tenant(context, caller), None, {})
    if found is None:
        raise Problem("not-found", "The tenant pays for no tier: there is no next invoice.")
    return PreviewOut.of(found, simulated=context.settings.stripe_simulated)


@router.get("/v1/spend-caps")
async def list_spend_caps(context: ContextDependency, caller: BillingReader) -> SpendCapList:
    async with context.reading() as session:
        rows = await repository.list_spend_caps(session, caller.tenant_id)
    return SpendCapList(items=[SpendCapOut.of(row) for row in rows])


@router.put("/v1/spend-caps/tenant")
async def set_spend_cap(request: SpendCapSet, context: ContextDependency, caller: BillingWriter) -> SpendCapOut:
    """For the whole tenant."""
    return await _set_cap(context, caller, "", request)


@router.put("/v1/spend-caps/functions/{name}")
async def set_function_spend_cap(
    name: FunctionName, request: SpendCapSet, context: ContextDependency, caller: BillingWriter
) -> SpendCapOut:
    """For one function; its usage is counted at list price, for what is included belongs to the whole tenant."""
    return await _set_cap(context, caller, name, request)


@router.delete("/v1/spend-caps/tenant", status_code=204)
async def delete_spend_cap(context: ContextDependency, caller: BillingWriter) -> None:
    async with context.writing() as session:
        await service.delete_spend_cap(session, caller.actor, caller.tenant_id, "")


@router.delete("/v1/spend-caps/functions/{name}", status_code=204)
async def delete_function_spend_cap(name: FunctionName, context: ContextDependency, caller: BillingWriter) -> None:
    async with context.writing() as session:
        await service.delete_spend_cap(session, caller.actor, caller.tenant_id, name)


@router.get("/v1/billing")
async def billing_health(context: ContextDependency, _caller: OperatorCaller) -> BillingHealth:
    """Whether webhooks and meter events are keeping up. For the operator."""
    return await service.health(context)


@router.post("/webhooks/stripe", include_in_schema=False)
async def stripe_webhook(
    request: Request, context: ContextDependency, stripe_signature: Annotated[str | None, Header()] = None
) -> Received:
    """Verified on the raw bytes, stored, answered; handled by a task."""
    if not context.settings.stripe_webhook_secret:
        raise Problem("not-found", "This server takes no webhooks: STRIPE_WEBHOOK_SECRET is not set.")
    body = await request.body()
    try:
        await events.receive(context, body, stripe_signature)
    except SignatureInvalid as error:
        raise Problem("bad-request", f"The webhook is refused: {error}.") from None
    return Received()


async def _set_cap(context: Context, caller: Principal, function: str, request: SpendCapSet) -> SpendCapOut:
    async with context.writing() as session:
        return SpendCapOut.of(await service.set_spend_cap(session, caller.actor, caller.tenant_id, function, request))


async def _subscription(context: Context, caller: Principal) -> SubscriptionOut:
    async with context.reading() as session:
        return await views.subscription_out(session, context.settings, caller.tenant_id)


async def _tenant(context: Context, caller: Principal) -> Tenant:
    async with context.reading() as session:
        return await _found(session, caller.tenant_id)


async def _found(session: AsyncSession, tenant_id: str) -> Tenant:
    tenant = await tenants.get_tenant(session, tenant_id)
    if tenant is None:
        raise not_found("tenant", tenant_id)
    return tenant


def _client(context: Context) -> StripeClient:
    if context.stripe is None:
        raise Problem("conflict", "This server sells nothing: it has no Stripe key (STRIPE_API_KEY).")
    return context.stripe
