"""Queries about mails on their way out. They belong to people, not to tenants."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.context import MAIL_WAITING
from control_plane.models import Mail


def append(session: AsyncSession, mail: Mail) -> None:
    session.add(mail)
    session.info[MAIL_WAITING] = True


async def due_mails(session: AsyncSession, at: datetime, count: int) -> Sequence[Mail]:
    """Rows that another control plane is sending are left to it (PostgreSQL; SQLite has one writer)."""
    query = select(Mail).where(Mail.due_at <= at).order_by(Mail.due_at).limit(count).with_for_update(skip_locked=True)
    return (await session.scalars(query)).all()


async def delete_mail(session: AsyncSession, mail_id: str) -> None:
    await session.execute(delete(Mail).where(Mail.id == mail_id))


async def delete_mails_before(session: AsyncSession, before: datetime) -> None:
    await session.execute(delete(Mail).where(Mail.created_at < before))


async def waiting_mails(session: AsyncSession) -> tuple[int, datetime | None, int]:
    """→ how many wait, since when the oldest does, and how often the unluckiest was tried"""
    query = select(func.count(), func.min(Mail.created_at), func.max(Mail.attempts_count)).select_from(Mail)
    row = (await session.execute(query)).one()
    return int(row[0]), row[1], int(row[2] or 0)
