"""Queries about tier versions and subscriptions. Those for endpoints filter by tenant."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import AddOnVersion, Subscription, SubscriptionAddOn, Tenant, TierVersion


async def all_tier_versions(session: AsyncSession) -> Sequence[TierVersion]:
    return (await session.scalars(select(TierVersion).order_by(TierVersion.tier, TierVersion.number))).all()


async def all_add_on_versions(session: AsyncSession) -> Sequence[AddOnVersion]:
    return (await session.scalars(select(AddOnVersion).order_by(AddOnVersion.add_on, AddOnVersion.number))).all()


async def current_tier_versions(session: AsyncSession) -> Sequence[TierVersion]:
    return (await session.scalars(select(TierVersion).where(TierVersion.current).order_by(TierVersion.tier))).all()


async def current_add_on_versions(session: AsyncSession) -> Sequence[AddOnVersion]:
    return (await session.scalars(select(AddOnVersion).where(AddOnVersion.current).order_by(AddOnVersion.add_on))).all()


async def find_current_tier(session: AsyncSession, name: str) -> TierVersion | None:
    return await session.scalar(select(TierVersion).where(TierVersion.tier == name, TierVersion.current))


async def find_current_add_on(session: AsyncSession, name: str) -> AddOnVersion | None:
    return await session.scalar(select(AddOnVersion).where(AddOnVersion.add_on == name, AddOnVersion.current))


async def get_tier_version(session: AsyncSession, version_id: str) -> TierVersion | None:
    return await session.get(TierVersion, version_id)


async def get_add_on_version(session: AsyncSession, version_id: str) -> AddOnVersion | None:
    return await session.get(AddOnVersion, version_id)


async def find_subscription(session: AsyncSession, tenant_id: str) -> Subscription | None:
    return await session.scalar(select(Subscription).where(Subscription.tenant_id == tenant_id))


async def list_add_ons(session: AsyncSession, tenant_id: str) -> Sequence[tuple[AddOnVersion, int]]:
    query = (
        select(AddOnVersion, SubscriptionAddOn.quantity)
        .join(SubscriptionAddOn, SubscriptionAddOn.add_on_version_id == AddOnVersion.id)
        .where(SubscriptionAddOn.tenant_id == tenant_id)
        .order_by(AddOnVersion.add_on)
    )
    return [(row[0], row[1]) for row in (await session.execute(query)).all()]


async def subscription_count(session: AsyncSession, tier_version_id: str) -> int:
    query = select(func.count()).select_from(Subscription).where(Subscription.tier_version_id == tier_version_id)
    return await session.scalar(query) or 0


async def all_subscriptions(session: AsyncSession) -> Sequence[Subscription]:
    """For the routing table."""
    return (await session.scalars(select(Subscription))).all()


async def all_subscription_add_ons(session: AsyncSession) -> Sequence[SubscriptionAddOn]:
    """For the routing table."""
    return (await session.scalars(select(SubscriptionAddOn))).all()


async def tenants_without_subscription(session: AsyncSession) -> Sequence[Tenant]:
    """Those made before there were tiers."""
    held = select(Subscription.tenant_id)
    return (await session.scalars(select(Tenant).where(Tenant.id.not_in(held)).order_by(Tenant.id))).all()


async def retire_tier_versions(session: AsyncSession, tier: str) -> None:
    await session.execute(update(TierVersion).where(TierVersion.tier == tier).values(current=False))


async def retire_add_on_versions(session: AsyncSession, add_on: str) -> None:
    await session.execute(update(AddOnVersion).where(AddOnVersion.add_on == add_on).values(current=False))
