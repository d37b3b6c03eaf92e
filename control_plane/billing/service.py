"""Rules about spend caps, and how billing is doing."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth.principal import Actor
from control_plane.billing import repository
from control_plane.billing.schemas import BillingHealth, SpendCapSet
from control_plane.context import Context
from control_plane.functions import service as functions
from control_plane.models import SpendCap, Subscription, now
from control_plane.outbox import repository as outbox
from control_plane.problems import not_found


async def set_spend_cap(
    session: AsyncSession, actor: Actor, tenant_id: str, function: str, request: SpendCapSet
) -> SpendCap:
    """Gateways enforce it from the next table on."""
    if function:
        await functions.require_function(session, tenant_id, function)
    cap = await repository.find_spend_cap(session, tenant_id, function)
    if cap is None:
        cap = SpendCap(tenant_id=tenant_id, function=function)
        session.add(cap)
    cap.amount_minor, cap.action, cap.updated_at = request.amount_minor, request.action, now()
    details = {"amount_minor": request.amount_minor, "stops": request.action == "stop"}
    audit.record(session, tenant_id, actor, "spend-cap.changed", function or "the tenant", **details)
    await outbox.append(session, tenant_id, "spend-cap-set", function or tenant_id)
    return cap


async def delete_spend_cap(session: AsyncSession, actor: Actor, tenant_id: str, function: str) -> None:
    if await repository.find_spend_cap(session, tenant_id, function) is None:
        raise not_found("spend cap", function or "of the whole tenant")
    await repository.delete_spend_cap(session, tenant_id, function)
    audit.record(session, tenant_id, actor, "spend-cap.changed", function or "the tenant", removed=True)
    await outbox.append(session, tenant_id, "spend-cap-deleted", function or tenant_id)


async def health(context: Context) -> BillingHealth:
    async with context.reading() as session:
        noted = (await session.scalars(select(Subscription).where(Subscription.note.is_not(None)))).all()
        return BillingHealth(
            simulated=context.settings.stripe_simulated,
            configured=context.stripe is not None,
            events=await repository.event_counts(session),
            meter_events=await repository.meter_event_counts(session),
            notes=[f"{row.tenant_id}: {row.note}" for row in noted],
        )
