"""/admin/tenants: find one, see how it does, suspend it at once and reinstate it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from control_plane import ids
from control_plane.audit.actions import ACTIONS, OPERATOR_ACTIONS
from control_plane.context import ContextDependency
from control_plane.dashboard.operator_visitor import OperatorLook, OperatorPost, render
from control_plane.dashboard.visitor import go
from control_plane.operators import service
from control_plane.operators.endpoints import RedisDependency, TenantStatus
from control_plane.operators.schemas import StatusSet
from control_plane.pagination import PageDependency
from control_plane.problems import Problem
from control_plane.tiers import repository as tiers

router = APIRouter(prefix="/admin/tenants")
TenantId = Annotated[str, Path(pattern=ids.pattern("tnt"))]
Filter = Annotated[str, Query(max_length=254)]


@router.get("")
async def tenants_page(
    request: Request,
    context: ContextDependency,
    redis: RedisDependency,
    looking: OperatorLook,
    page: PageDependency,
    text: Filter = "",
    status: TenantStatus = "",
    tier: Filter = "",
) -> Response:
    found = await service.search(context, redis, page, text=text.strip(), status=status, tier=tier)
    async with context.reading() as session:
        names = [version.tier for version in await tiers.current_tier_versions(session)]
    return render(
        request, context, looking, "tenants.html", section="admin-tenants", tenants=found.items, tiers=names,
        next_cursor=found.next_cursor, values={"text": text, "status": status, "tier": tier},
    )  # fmt: skip


@router.get("/{tenant_id}")
async def tenant_page(
    request: Request, tenant_id: TenantId, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    tenant = await service.detail(context, redis, tenant_id)
    return render(
        request, context, looking, "tenant.html", section="admin-tenants", tenant=tenant, days=service.DAYS,
        known=ACTIONS | OPERATOR_ACTIONS,
    )  # fmt: skip


@router.get("/{tenant_id}/suspend")
async def suspend_page(
    request: Request, tenant_id: TenantId, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    tenant = await service.detail(context, redis, tenant_id)
    return render(request, context, looking, "suspend.html", section="admin-tenants", tenant=tenant)


@router.post("/{tenant_id}/suspend")
async def suspend(
    request: Request, tenant_id: TenantId, context: ContextDependency, redis: RedisDependency, posting: OperatorPost
) -> Response:
    return await _set_status(request, tenant_id, context, redis, posting, "suspended")


@router.post("/{tenant_id}/reinstate")
async def reinstate(
    request: Request, tenant_id: TenantId, context: ContextDependency, redis: RedisDependency, posting: OperatorPost
) -> Response:
    return await _set_status(request, tenant_id, context, redis, posting, "active")


async def _set_status(
    request: Request,
    tenant_id: str,
    context: ContextDependency,
    redis: RedisDependency,
    posting: OperatorPost,
    status: str,
) -> Response:
    posting.posted.fields["status"] = [status]
    if status == "active":
        posting.posted.fields["reason"] = ["Reinstated by the operator."]
    form, errors = posting.posted.parse(StatusSet)
    error = ""
    if form is not None:
        try:
            async with context.writing() as session:
                tenant = await service.set_status(session, posting.operator.actor, tenant_id, form)
            done = "is suspended: gateways refuse its calls." if status == "suspended" else "is served again."
            tone = "warn" if status == "suspended" else "good"
            return await go(context, posting.visitor, f"/admin/tenants/{tenant_id}", f"{tenant.name} {done}", tone)
        except Problem as problem:
            error = problem.detail
    detail = await service.detail(context, redis, tenant_id)
    return render(
        request, context, posting, "suspend.html", section="admin-tenants", status=422, tenant=detail,
        values=posting.posted.values(), errors=errors, error=error,
    )  # fmt: skip
