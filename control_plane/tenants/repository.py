"""Queries about tenants: by a tenant's own id, or for the operator and background steps over all."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Tenant
from control_plane.pagination import Page, PageRequest, fetch_page


async def get_tenant(session: AsyncSession, tenant_id: str) -> Tenant | None:
    return await session.get(Tenant, tenant_id)


async def find_tenant_by_name(session: AsyncSession, name: str) -> Tenant | None:
    return await session.scalar(select(Tenant).where(Tenant.name == name))


async def list_tenants(session: AsyncSession, page: PageRequest) -> Page[Tenant]:
    return await fetch_page(session, select(Tenant), Tenant.id, page)


async def served_tenants(session: AsyncSession) -> Sequence[Tenant]:
    """For the routing table: all but the deleted."""
    return (await session.scalars(select(Tenant).where(Tenant.status != "deleted").order_by(Tenant.id))).all()


async def tenants_to_remove(session: AsyncSession, asked_before: datetime) -> Sequence[str]:
    query = select(Tenant.id).where(Tenant.status == "deleting", Tenant.status_at <= asked_before).order_by(Tenant.id)
    return (await session.scalars(query)).all()


async def deleted_tenants(session: AsyncSession) -> Sequence[str]:
    return (await session.scalars(select(Tenant.id).where(Tenant.status == "deleted"))).all()


async def change_status(
    session: AsyncSession, tenant_id: str, before: Sequence[str], after: str, reason: str, at: datetime
) -> bool:
    """Whether it was this call that changed it."""
    changed = await session.scalars(
        update(Tenant)
        .where(Tenant.id == tenant_id, Tenant.status.in_(before))
        .values(status=after, status_reason=reason, status_at=at)
        .returning(Tenant.id)
        .execution_options(synchronize_session="fetch")
    )
    return changed.one_or_none() is not None
