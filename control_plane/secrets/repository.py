"""Queries about secrets. All filter by tenant, but the one for the routing table."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Secret


async def list_secrets(session: AsyncSession, tenant_id: str, function_id: str) -> Sequence[Secret]:
    query = select(Secret).where(Secret.tenant_id == tenant_id, Secret.function_id == function_id)
    return (await session.scalars(query.order_by(Secret.name))).all()


async def find_secret(session: AsyncSession, tenant_id: str, function_id: str, name: str) -> Secret | None:
    return await session.scalar(
        select(Secret).where(Secret.tenant_id == tenant_id, Secret.function_id == function_id, Secret.name == name)
    )


async def count_secrets(session: AsyncSession, tenant_id: str, function_id: str) -> int:
    query = select(func.count()).select_from(Secret)
    return await session.scalar(query.where(Secret.tenant_id == tenant_id, Secret.function_id == function_id)) or 0


async def delete_secret(session: AsyncSession, tenant_id: str, function_id: str, name: str) -> None:
    await session.execute(
        delete(Secret).where(Secret.tenant_id == tenant_id, Secret.function_id == function_id, Secret.name == name)
    )


async def delete_of_function(session: AsyncSession, tenant_id: str, function_id: str) -> None:
    await session.execute(delete(Secret).where(Secret.tenant_id == tenant_id, Secret.function_id == function_id))


async def delete_of_tenant(session: AsyncSession, tenant_id: str) -> None:
    await session.execute(delete(Secret).where(Secret.tenant_id == tenant_id))


async def all_secrets(session: AsyncSession) -> Sequence[Secret]:
    """For the routing table."""
    return (await session.scalars(select(Secret).order_by(Secret.function_id, Secret.name))).all()
