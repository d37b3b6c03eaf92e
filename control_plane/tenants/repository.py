"""Queries about tenants."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Tenant


async def get_tenant(session: AsyncSession, tenant_id: str) -> Tenant | None:
    return await session.get(Tenant, tenant_id)


async def find_tenant_by_name(session: AsyncSession, name: str) -> Tenant | None:
    return await session.scalar(select(Tenant).where(Tenant.name == name))


async def all_tenants(session: AsyncSession) -> Sequence[Tenant]:
    """For the routing table."""
    return (await session.scalars(select(Tenant).order_by(Tenant.id))).all()
