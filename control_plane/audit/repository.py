"""Queries about the audit log. There is none that changes an entry; the database would refuse it."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import AuditEntry
from control_plane.pagination import Page, PageRequest, fetch_page


async def list_entries(
    session: AsyncSession,
    tenant_id: str,
    page: PageRequest,
    *,
    action: str = "",
    actor: str = "",
    since: datetime | None = None,
) -> Page[AuditEntry]:
    """The newest first. ``action`` and ``actor`` are beginnings."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if action:
        query = query.where(AuditEntry.action.startswith(action, autoescape=True))
    if actor:
        query = query.where(AuditEntry.actor.startswith(actor, autoescape=True))
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    return await fetch_page(session, query, AuditEntry.id, page, descending=True)


async def delete_entries(session: AsyncSession, tenant_id: str) -> None:
    """With its tenant: the trigger lets nothing else pass."""
    await session.execute(delete(AuditEntry).where(AuditEntry.tenant_id == tenant_id))
