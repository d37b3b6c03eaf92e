"""/v1/tiers (anybody), /v1/subscription (a tenant's own), /v1/tenants/{tenant_id}/subscription (the operator)"""

from typing import Annotated

from fastapi import APIRouter, Path

from control_plane import ids
from control_plane.auth.principal import AnyKey, OperatorCaller
from control_plane.context import ContextDependency
from control_plane.tiers import service, views
from control_plane.tiers.schemas import SubscriptionOut, SubscriptionSet, TierList

router = APIRouter(prefix="/v1", tags=["tiers"])
TenantId = Annotated[str, Path(pattern=ids.pattern("tnt"))]


@router.get("/tiers")
async def list_tiers(context: ContextDependency) -> TierList:
    """What can be bought now, from the lowest up."""
    async with context.reading() as session:
        return await views.tier_list(session)


@router.get("/subscription")
async def get_subscription(context: ContextDependency, caller: AnyKey) -> SubscriptionOut:
    """The tenant's tier, what it allows and includes, and how it stands."""
    async with context.reading() as session:
        return await views.subscription_out(session, context.settings, caller.tenant_id)


@router.put("/tenants/{tenant_id}/subscription")
async def set_subscription(
    tenant_id: TenantId, request: SubscriptionSet, context: ContextDependency, caller: OperatorCaller
) -> SubscriptionOut:
    """Give a tenant a tier, add-ons or limits of its own. For the operator; a paid subscription is not touched."""
    async with context.writing() as session:
        await service.set_by_operator(session, caller.actor, tenant_id, request)
    async with context.reading() as session:
        return await views.subscription_out(session, context.settings, tenant_id)
