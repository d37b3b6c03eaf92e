"""/v1/admin: the whole system, for operators"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from redis.asyncio import Redis

from control_plane import ids
from control_plane.auth.principal import OperatorCaller
from control_plane.billing import repository as billing
from control_plane.context import ContextDependency
from control_plane.operators import overview, repository, service, settings_shown
from control_plane.operators.nodes import NodesUnknown
from control_plane.operators.schemas import (
    NodeList,
    NodeOut,
    OperatorEntryOut,
    OperatorEntryPage,
    OperatorList,
    OperatorOut,
    Overview,
    ReconciliationOut,
    ReconciliationPage,
    Replay,
    Replayed,
    SettingList,
    StatusSet,
    TenantDetail,
    TenantRowPage,
    UsageLag,
    WebhookList,
    WebhookOut,
)
from control_plane.pagination import PageDependency, page_fields
from control_plane.problems import Problem

router = APIRouter(prefix="/v1/admin", tags=["operators"])
TenantId = Annotated[str, Path(pattern=ids.pattern("tnt"))]
NodeName = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,80}$")]
Text = Annotated[str, Query(max_length=254, pattern=r"^[ -~]*$")]
TenantStatus = Literal["", "active", "suspended", "deleting", "deleted"]
EventState = Literal["", "stored", "handled", "ignored", "failed"]


def get_redis(request: Request) -> Redis | None:
    client: Redis | None = request.app.state.redis
    return client


RedisDependency = Annotated[Redis | None, Depends(get_redis)]


@router.get("/overview")
async def get_overview(context: ContextDependency, redis: RedisDependency, _caller: OperatorCaller) -> Overview:
    """How everything is, and what somebody must do. For operators."""
    return await overview.overview(context, redis)


@router.get("/nodes")
async def list_nodes(context: ContextDependency, redis: RedisDependency, _caller: OperatorCaller) -> NodeList:
    """Each node as it said itself, seconds ago; those that are gone for an hour more. For operators."""
    return NodeList(items=await _nodes(context, redis))


@router.get("/nodes/{node}")
async def get_node(
    node: NodeName, context: ContextDependency, redis: RedisDependency, _caller: OperatorCaller
) -> NodeOut:
    """For operators."""
    for each in await _nodes(context, redis):
        if each.node == node:
            return each
    raise Problem("not-found", f"There is no node {node!r}, or it has been gone for over an hour.")


@router.get("/tenants", response_model=TenantRowPage)
async def search_tenants(
    context: ContextDependency,
    redis: RedisDependency,
    _caller: OperatorCaller,
    page: PageDependency,
    text: Text = "",
    status: TenantStatus = "",
    tier: Text = "",
) -> dict[str, Any]:
    """The newest first. `text`: a part of the name, the id, or the beginning of a member's address. For operators."""
    found = await service.search(context, redis, page, text=text.strip(), status=status, tier=tier.strip())
    return page_fields(found)


@router.get("/tenants/{tenant_id}")
async def get_tenant(
    tenant_id: TenantId, context: ContextDependency, redis: RedisDependency, _caller: OperatorCaller
) -> TenantDetail:
    """For operators."""
    return await service.detail(context, redis, tenant_id)


@router.put("/tenants/{tenant_id}/status")
async def set_tenant_status(
    tenant_id: TenantId,
    request: StatusSet,
    context: ContextDependency,
    redis: RedisDependency,
    caller: OperatorCaller,
) -> TenantDetail:
    """Suspend a tenant at once, or reinstate it, with a reason that its members read. For operators."""
    async with context.writing() as session:
        await service.set_status(session, caller.actor, tenant_id, request)
    return await service.detail(context, redis, tenant_id)


@router.get("/usage")
async def get_usage_lag(context: ContextDependency, redis: RedisDependency, _caller: OperatorCaller) -> UsageLag:
    """How far the books of usage are behind the nodes' journals, and what could not be booked. For operators."""
    return await service.usage_lag(context, redis)


@router.get("/webhooks")
async def list_webhooks(
    context: ContextDependency,
    _caller: OperatorCaller,
    state: EventState = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> WebhookList:
    """The newest first, without what they said. For operators."""
    async with context.reading() as session:
        found = await billing.recent_events(session, limit, state=state)
        counts = await billing.event_counts(session)
    return WebhookList(items=[WebhookOut.of(each) for each in found], counts=counts)


@router.post("/webhooks/replay")
async def replay_webhooks(request: Replay, context: ContextDependency, caller: OperatorCaller) -> Replayed:
    """Handle webhooks once more: the named ones, or all that failed. For operators."""
    return Replayed(count=await service.replay_webhooks(context, caller.actor, request.events))


@router.get("/reconciliations", response_model=ReconciliationPage)
async def list_reconciliations(
    context: ContextDependency, _caller: OperatorCaller, page: PageDependency
) -> dict[str, Any]:
    """Comparisons with Stripe and each difference that they found, the newest first. For operators."""
    async with context.reading() as session:
        found = await billing.list_reconciliations(session, page)
    return page_fields(found.map(ReconciliationOut.of))


@router.post("/reconciliations", status_code=202)
async def ask_reconciliation(context: ContextDependency, caller: OperatorCaller) -> ReconciliationOut:
    """Compare with Stripe now; the one that waits or runs already, if there is one. For operators."""
    return ReconciliationOut.of(await service.ask_reconciliation(context, caller.actor))


@router.get("/operators")
async def list_operators(context: ContextDependency, _caller: OperatorCaller) -> OperatorList:
    """Who they are; `tailcut-server operator` on the machine makes and removes them. For operators."""
    async with context.reading() as session:
        return OperatorList(items=[OperatorOut.of(each) for each in await repository.list_operators(session)])


@router.get("/audit", response_model=OperatorEntryPage)
async def list_entries(
    context: ContextDependency,
    _caller: OperatorCaller,
    page: PageDependency,
    actor: Text = "",
    action: Text = "",
) -> dict[str, Any]:
    """What operators did, the newest first; `actor` and `action` filter by how they begin. For operators."""
    async with context.reading() as session:
        found = await repository.list_entries(session, page, actor=actor.strip(), action=action.strip())
    return page_fields(found.map(OperatorEntryOut.of))


@router.get("/settings")
async def list_settings(context: ContextDependency, _caller: OperatorCaller) -> SettingList:
    """What the control plane was set to; secrets are left out. For operators."""
    return SettingList(items=settings_shown.settings_in_force(context.settings))


async def _nodes(context: ContextDependency, redis: Redis | None) -> list[NodeOut]:
    try:
        return await service.nodes(context, redis)
    except NodesUnknown as error:
        raise Problem("overloaded", f"{error}. Try again when it is back.", headers={"Retry-After": "5"}) from None
