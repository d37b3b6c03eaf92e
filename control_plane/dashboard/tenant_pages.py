"""The tenant's settings and its deletion; all tenants of the visitor, a new one, and switching between them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control_plane.auth import repository as auth
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Posted, SignedInPost, SignedInVisitor, Visitor, go, post, secret, see
from control_plane.problems import Problem
from control_plane.tenants import ownership, service
from control_plane.tenants.schemas import OwnTenantCreate, TenantDeletion

router = APIRouter()
Reader = Annotated[Visitor, Depends(see("tenant.read"))]
Deleter = Annotated[Visitor, Depends(see("tenant.delete"))]
DeleterPost = Annotated[Posted, Depends(post("tenant.delete"))]


@router.get("/settings")
async def settings_page(request: Request, context: ContextDependency, visitor: Reader) -> Response:
    async with context.reading() as session:
        tenant = await service.tenant_out(session, await service.require_tenant(session, visitor.tenant_id))
    return pages.render(request, context, visitor, "tenant/settings.html", section="settings", tenant=tenant)


@router.get("/settings/delete")
async def delete_page(request: Request, context: ContextDependency, visitor: Deleter) -> Response:
    return pages.render(request, context, visitor, "tenant/delete.html", section="settings")


@router.post("/settings/delete")
async def delete_tenant(request: Request, context: ContextDependency, posted: DeleterPost) -> Response:
    visitor = posted.who
    form, errors = posted.parse(TenantDeletion)
    if form is not None:
        try:
            await ownership.delete_own(context, visitor.tenant, visitor.signed_in, form.name, secret(form.password))
            return await go(context, visitor, "/settings", f"{form.name} is being deleted.", "warn")
        except Problem as problem:
            errors = pages.errors_of(problem) or {"": problem.detail}
            # The service speaks of the current password; this form has one field for it.
            errors = {"password" if name == "current_password" else name: text for name, text in errors.items()}
    return pages.render(
        request, context, visitor, "tenant/delete.html", section="settings", status=422, values=posted.values(),
        errors=errors, error=errors.get("", ""),
    )  # fmt: skip


@router.get("/tenants")
async def tenants_page(request: Request, context: ContextDependency, visitor: SignedInVisitor) -> Response:
    return pages.render(request, context, visitor, "tenant/tenants.html", section="tenants")


@router.post("/tenants")
async def create_tenant(request: Request, context: ContextDependency, posted: SignedInPost) -> Response:
    signed_in = posted.who.signed_in
    form, errors = posted.parse(OwnTenantCreate)
    if form is not None:
        try:
            async with context.writing() as session:
                tenant = await service.found(session, form.name, signed_in.actor, owner=signed_in.person)
                await auth.set_session_tenant(session, signed_in.person.id, signed_in.session.id, tenant.id)
            return await go(context, posted.who, "/", f"{form.name} is yours.")
        except Problem as problem:
            errors = {"name": problem.detail}
    return pages.render(
        request, context, posted.who, "tenant/tenants.html", section="tenants", status=422, values=posted.values(),
        errors=errors,
    )  # fmt: skip


@router.post("/tenants/switch")
async def switch_tenant(context: ContextDependency, posted: SignedInPost) -> Response:
    """Only to a tenant that the visitor is a member of."""
    name = posted.text("tenant")
    tenant_id = next((tenant.id for _, tenant in posted.who.memberships if tenant.name == name), None)
    if tenant_id is None:
        raise Problem("not-found", f"You are no member of a tenant {name!r}.")
    signed_in = posted.who.signed_in
    async with context.writing() as session:
        await auth.set_session_tenant(session, signed_in.person.id, signed_in.session.id, tenant_id)
    return await go(context, posted.who, "/")
