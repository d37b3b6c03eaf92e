"""Queries about purchases, events, meter events, invoices and spend caps. Those for endpoints filter by tenant."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import SpendCap


async def all_spend_caps(session: AsyncSession) -> Sequence[SpendCap]:
    """For the routing table."""
    return (await session.scalars(select(SpendCap))).all()


async def list_spend_caps(session: AsyncSession, tenant_id: str) -> Sequence[SpendCap]:
    query = select(SpendCap).where(SpendCap.tenant_id == tenant_id).order_by(SpendCap.function)
    return (await session.scalars(query)).all()


async def find_spend_cap(session: AsyncSession, tenant_id: str, function: str) -> SpendCap | None:
    return await session.scalar(select(SpendCap).where(SpendCap.tenant_id == tenant_id, SpendCap.function == function))


async def delete_spend_cap(session: AsyncSession, tenant_id: str, function: str) -> None:
    await session.execute(delete(SpendCap).where(SpendCap.tenant_id == tenant_id, SpendCap.function == function))
