"""/v1/tenants (the operator) and /v1/tenant (the caller's own)"""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane import ids
from control_plane.auth import repository as auth
from control_plane.auth.idempotency import Answer, IdempotencyKey, answer_once, fingerprint_of
from control_plane.auth.principal import AnyKey, MachineCaller, OperatorCaller, PersonCaller, TenantDeleter
from control_plane.context import ContextDependency
from control_plane.pagination import PageDependency
from control_plane.problems import not_found
from control_plane.tenants import ownership, repository, service
from control_plane.tenants.schemas import (
    OwnTenantCreate,
    SignInLink,
    SignInLinkCreate,
    StatusPatch,
    TenantCreate,
    TenantCreated,
    TenantDeletion,
    TenantOut,
    TenantPage,
    TenantWithCaller,
)

router = APIRouter(prefix="/v1", tags=["tenants"])
TenantId = Annotated[str, Path(pattern=ids.pattern("tnt"))]


@router.post("/tenants", status_code=201, response_model=TenantCreated)
async def create_tenant(
    request: TenantCreate, context: ContextDependency, caller: OperatorCaller, idempotency_key: IdempotencyKey
) -> JSONResponse:
    """Make a tenant and its first key, and invite its owner. For the operator."""

    async def act(session: AsyncSession) -> Answer:
        created = await service.create_tenant(session, request, caller.actor)
        ownership.invite_owner(context, session, created, caller.actor, request.owner_email)
        return Answer(201, created.model_dump(mode="json"))

    fingerprint = fingerprint_of("POST", "/v1/tenants", request.model_dump(mode="json"))
    return (await answer_once(context, caller, idempotency_key, fingerprint, act)).response()


@router.get("/tenants", response_model=TenantPage)
async def list_tenants(context: ContextDependency, _caller: OperatorCaller, page: PageDependency) -> dict[str, Any]:
    """All tenants. For the operator."""
    async with context.reading() as session:
        found = await repository.list_tenants(session, page)
        items = [await service.tenant_out(session, tenant) for tenant in found.items]
    return {"items": items, "next_cursor": found.next_cursor}


@router.get("/tenants/{tenant_id}")
async def get_any_tenant(tenant_id: TenantId, context: ContextDependency, _caller: OperatorCaller) -> TenantOut:
    """For the operator."""
    async with context.reading() as session:
        return await service.tenant_out(session, await service.require_tenant(session, tenant_id))


@router.patch("/tenants/{tenant_id}")
async def set_status(
    tenant_id: TenantId, patch: StatusPatch, context: ContextDependency, caller: OperatorCaller
) -> TenantOut:
    """Suspend a tenant at once, or reinstate it. For the operator."""
    async with context.writing() as session:
        tenant = await service.set_status(session, caller.actor, tenant_id, patch.status, patch.reason)
        return await service.tenant_out(session, tenant)


@router.delete("/tenants/{tenant_id}", status_code=202)
async def delete_any_tenant(tenant_id: TenantId, context: ContextDependency, caller: OperatorCaller) -> TenantOut:
    """Delete a tenant: nothing is admitted any more, its data goes after a short while. For the operator."""
    async with context.writing() as session:
        return await service.tenant_out(session, await service.ask_deletion(session, caller.actor, tenant_id))


@router.post("/tenants/{tenant_id}/sign-in-links", status_code=201)
async def create_sign_in_link(
    tenant_id: TenantId, body: SignInLinkCreate, context: ContextDependency, caller: MachineCaller
) -> SignInLink:
    """A link that opens the dashboard signed in, once: for the first look at a new server. For the operator's token."""
    return SignInLink(url=await ownership.sign_in_link(context, caller.actor, tenant_id, body.email))


@router.get("/tenant")
async def get_tenant(context: ContextDependency, caller: AnyKey) -> TenantWithCaller:
    """The tenant that the caller acts for, and what the caller may do."""
    async with context.reading() as session:
        tenant = await repository.get_tenant(session, caller.tenant_id)
        if tenant is None:
            raise not_found("tenant", caller.tenant_id)
        shown = await service.tenant_out(session, tenant)
    is_key = caller.role is None
    return TenantWithCaller.model_validate(
        {
            **shown.model_dump(),
            "caller": {
                "key_id": caller.key_id if is_key else None,
                "scopes": sorted(caller.scopes),
                "person_id": None if is_key else caller.actor.id,
                "role": caller.role,
                "permissions": sorted(caller.permissions),
            },
        }
    )


@router.post("/tenant/deletion", status_code=202)
async def delete_tenant(
    body: TenantDeletion, context: ContextDependency, caller: TenantDeleter, signed_in: PersonCaller
) -> TenantOut:
    """Delete the tenant, for good. For its owners, with their password."""
    return await ownership.delete_own(context, caller, signed_in, body.name, body.password.get_secret_value())


@router.post("/person/tenants", status_code=201)
async def create_own_tenant(body: OwnTenantCreate, context: ContextDependency, caller: PersonCaller) -> TenantOut:
    """Make another tenant, as its owner."""
    async with context.writing() as session:
        tenant = await service.found(session, body.name, caller.actor, owner=caller.person)
        await auth.set_session_tenant(session, caller.person.id, caller.session.id, tenant.id)
        return await service.tenant_out(session, tenant)
