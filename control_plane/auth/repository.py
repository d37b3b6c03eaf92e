"""Queries about keys, sessions and idempotency records. All but the look-up of a credential filter by tenant."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import IdempotencyRecord, Key, Session, Tenant
from control_plane.pagination import Page, PageRequest, fetch_page


async def find_key_by_hash(session: AsyncSession, sha256: str) -> tuple[Key, Tenant] | None:
    query = select(Key, Tenant).join(Tenant, Tenant.id == Key.tenant_id).where(Key.sha256 == sha256)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def get_key(session: AsyncSession, tenant_id: str, key_id: str) -> Key | None:
    return await session.scalar(select(Key).where(Key.tenant_id == tenant_id, Key.id == key_id))


async def list_keys(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[Key]:
    return await fetch_page(session, select(Key).where(Key.tenant_id == tenant_id), Key.id, page)


async def count_live_keys(session: AsyncSession, tenant_id: str) -> int:
    query = select(func.count()).select_from(Key).where(Key.tenant_id == tenant_id, Key.revoked_at.is_(None))
    return await session.scalar(query) or 0


async def find_session(session: AsyncSession, sha256: str, at: datetime) -> tuple[Session, Key, Tenant] | None:
    query = (
        select(Session, Key, Tenant)
        .join(Key, Key.id == Session.key_id)
        .join(Tenant, Tenant.id == Session.tenant_id)
        .where(Session.sha256 == sha256, Session.expires_at > at)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


async def delete_session(session: AsyncSession, sha256: str) -> None:
    await session.execute(delete(Session).where(Session.sha256 == sha256))


async def delete_sessions_of_key(session: AsyncSession, tenant_id: str, key_id: str) -> None:
    await session.execute(delete(Session).where(Session.tenant_id == tenant_id, Session.key_id == key_id))


async def find_idempotency_record(session: AsyncSession, owner: str, key: str) -> IdempotencyRecord | None:
    return await session.get(IdempotencyRecord, (owner, key))


async def sweep(session: AsyncSession, *, sessions_before: datetime, records_before: datetime) -> None:
    await session.execute(delete(Session).where(Session.expires_at < sessions_before))
    await session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.created_at < records_before))


async def revoke(session: AsyncSession, tenant_id: str, key_id: str, at: datetime) -> bool:
    """Whether it was this call that revoked it."""
    changed = await session.scalars(
        update(Key)
        .where(Key.tenant_id == tenant_id, Key.id == key_id, Key.revoked_at.is_(None))
        .values(revoked_at=at)
        .returning(Key.id)
    )
    return changed.one_or_none() is not None


async def keys_of_tenants(session: AsyncSession, at: datetime) -> Sequence[Key]:
    """For the routing table: every key that may be used now."""
    query = (
        select(Key).where(Key.revoked_at.is_(None), (Key.expires_at.is_(None)) | (Key.expires_at > at)).order_by(Key.id)
    )
    return (await session.scalars(query)).all()
