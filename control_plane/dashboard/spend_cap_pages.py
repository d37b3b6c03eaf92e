"""Spend caps: what usage over the included may cost in a month, for the tenant and for single functions."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from control_plane.billing import overview, service
from control_plane.billing.schemas import SpendCapSet
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.money import minor_of
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.functions import repository as functions
from control_plane.pagination import LIMIT_MAX, PageRequest
from control_plane.problems import Problem
from control_plane.tiers import views
from control_plane.usage import service as usage

router = APIRouter(prefix="/billing/spend-caps")
Reader = Annotated[Visitor, Depends(see("billing.read"))]
Post = Annotated[Posted, Depends(post("billing.write"))]


class CapForm(BaseModel):
    function: Annotated[str, Field(max_length=63)] = ""
    """Empty: the whole tenant."""
    amount: Annotated[str, Field(max_length=20)]
    action: Literal["stop", "alert"]


@router.get("")
async def caps_page(request: Request, context: ContextDependency, visitor: Reader) -> Response:
    return await _page(request, context, visitor)


@router.post("")
async def set_cap(request: Request, context: ContextDependency, posted: Post) -> Response:
    visitor = posted.who
    form, errors = posted.parse(CapForm)
    error = ""
    if form is not None:
        async with context.reading() as session:
            currency = (await views.subscription_out(session, context.settings, visitor.tenant_id)).currency
        amount_minor = minor_of(form.amount, currency)
        if amount_minor is None or amount_minor > 10**9:
            errors = {"amount": f"An amount of {currency.upper()}, for example 50 or 49.90"}
        else:
            wanted = SpendCapSet(amount_minor=amount_minor, action=form.action)
            try:
                async with context.writing() as session:
                    await service.set_spend_cap(session, visitor.tenant.actor, visitor.tenant_id, form.function, wanted)
                whose = f"for {form.function}" if form.function else "for the whole tenant"
                return await go(context, visitor, "/billing/spend-caps", f"The cap {whose} holds from now on.")
            except Problem as problem:
                error = problem.detail
    return await _page(request, context, visitor, 422, errors=errors, error=error, values=posted.values())


@router.post("/remove")
async def remove_cap(context: ContextDependency, posted: Post) -> Response:
    async with context.writing() as session:
        await service.delete_spend_cap(session, posted.who.tenant.actor, posted.who.tenant_id, posted.text("function"))
    return await go(context, posted.who, "/billing/spend-caps", "The cap is removed.")


async def _page(request: Request, context: Context, visitor: Visitor, status: int = 200, **values: Any) -> Response:
    async with context.reading() as session:
        used = await usage.period(session, visitor.tenant_id)
        caps = await overview.spend_caps(session, visitor.tenant_id, used)
        held = await views.subscription_out(session, context.settings, visitor.tenant_id)
        found = await functions.list_functions(session, visitor.tenant_id, PageRequest(LIMIT_MAX, None))
    return pages.render(
        request, context, visitor, "billing/spend_caps.html", section="billing", status=status, used=used,
        caps=caps, held=held, names=[function.name for function in found.items], **values,
    )  # fmt: skip
