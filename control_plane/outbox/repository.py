"""The outbox's queries: append in the transaction of the change; mark when Redis has it."""

from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.context import OUTBOX_CHANGED
from control_plane.models import OutboxRow, RevisionCounter, now

_COUNTER_ID = 1


async def append(session: AsyncSession, tenant_id: str, change: str, subject: str) -> int:
    """Number this change. The counter's row stays locked until the transaction ends: call it late."""
    await session.flush()
    query = (
        update(RevisionCounter)
        .where(RevisionCounter.id == _COUNTER_ID)
        .values(revision=RevisionCounter.revision + 1)
        .returning(RevisionCounter.revision)
        .execution_options(synchronize_session=False)
    )
    revision = (await session.scalars(query)).one()
    session.add(OutboxRow(revision=revision, tenant_id=tenant_id, change=change, subject=subject, created_at=now()))
    session.info[OUTBOX_CHANGED] = True
    return revision


async def current_revision(session: AsyncSession) -> int:
    return (await session.scalars(select(RevisionCounter.revision).where(RevisionCounter.id == _COUNTER_ID))).one()


async def newest_change_at(session: AsyncSession) -> datetime | None:
    return await session.scalar(select(OutboxRow.created_at).order_by(OutboxRow.revision.desc()).limit(1))


async def pending_count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.relayed_at.is_(None))) or 0


async def pending_since(session: AsyncSession) -> tuple[int, datetime | None]:
    """→ how many changes Redis does not have yet, and since when the oldest waits"""
    query = select(func.count(), func.min(OutboxRow.created_at)).where(OutboxRow.relayed_at.is_(None))
    row = (await session.execute(query)).one()
    return int(row[0]), row[1]


async def has_pending(session: AsyncSession, revision: int) -> bool:
    query = select(OutboxRow.revision).where(OutboxRow.relayed_at.is_(None), OutboxRow.revision <= revision).limit(1)
    return await session.scalar(query) is not None


async def mark_relayed(session: AsyncSession, revision: int, at: datetime) -> None:
    await session.execute(
        update(OutboxRow).where(OutboxRow.relayed_at.is_(None), OutboxRow.revision <= revision).values(relayed_at=at)
    )


async def sweep(session: AsyncSession, before: datetime) -> None:
    await session.execute(delete(OutboxRow).where(OutboxRow.relayed_at < before))
