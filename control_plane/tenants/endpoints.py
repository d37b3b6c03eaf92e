"""/v1/tenants (the operator) and /v1/tenant (the caller's own)"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.idempotency import Answer, IdempotencyKey, answer_once, fingerprint_of
from control_plane.auth.principal import AnyKey, OperatorCaller
from control_plane.context import ContextDependency
from control_plane.problems import not_found
from control_plane.tenants import repository, service
from control_plane.tenants.schemas import TenantCreate, TenantCreated, TenantWithCaller

router = APIRouter(prefix="/v1", tags=["tenants"])


@router.post("/tenants", status_code=201, response_model=TenantCreated)
async def create_tenant(
    request: TenantCreate, context: ContextDependency, caller: OperatorCaller, idempotency_key: IdempotencyKey
) -> JSONResponse:
    """Make a tenant and its first key. For the operator."""

    async def act(session: AsyncSession) -> Answer:
        return Answer(201, (await service.create_tenant(session, request)).model_dump(mode="json"))

    fingerprint = fingerprint_of("POST", "/v1/tenants", request.model_dump(mode="json"))
    return (await answer_once(context, caller, idempotency_key, fingerprint, act)).response()


@router.get("/tenant")
async def get_tenant(context: ContextDependency, caller: AnyKey) -> TenantWithCaller:
    """The tenant that the key belongs to, and what the key may do."""
    async with context.reading() as session:
        tenant = await repository.get_tenant(session, caller.tenant_id)
        if tenant is None:
            raise not_found("tenant", caller.tenant_id)
        shown = await service.tenant_out(session, tenant)
    return TenantWithCaller.model_validate(
        {**shown.model_dump(), "caller": {"key_id": caller.key_id, "scopes": sorted(caller.scopes)}}
    )
