"""Queries about alerts: a tenant's settings, what it was told, deliveries."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.alerts.rules import Reached
from control_plane.database import insert_into
from control_plane.ids import new_id
from control_plane.models import (
    Member,
    Person,
    UsageAlert,
    UsageAlertDelivery,
    UsageAlertSettings,
    UsageHour,
    now,
)
from control_plane.pagination import Page, PageRequest, fetch_page

TOLD_ROLES = ("owner", "billing")


async def find_settings(session: AsyncSession, tenant_id: str) -> UsageAlertSettings | None:
    return await session.scalar(select(UsageAlertSettings).where(UsageAlertSettings.tenant_id == tenant_id))


async def known(session: AsyncSession, tenant_id: str, since: datetime) -> set[tuple[str, datetime, int, int]]:
    """Keys of what the tenant was told about periods that began then or later."""
    query = select(UsageAlert.subject, UsageAlert.period_start, UsageAlert.percent, UsageAlert.allowed).where(
        UsageAlert.tenant_id == tenant_id, UsageAlert.period_start >= since
    )
    return {(row[0], row[1], row[2], row[3]) for row in (await session.execute(query)).all()}


async def insert(session: AsyncSession, tenant_id: str, found: Reached) -> UsageAlert | None:
    """None: somebody was quicker, and tells."""
    row = {
        "id": new_id("alr"),
        "tenant_id": tenant_id,
        "subject": found.subject,
        "period_start": found.period_start,
        "percent": found.percent,
        "allowed": found.allowed,
        "used": found.used,
        "created_at": now(),
    }
    query = insert_into(session, UsageAlert).values(row).on_conflict_do_nothing().returning(UsageAlert)
    alert: UsageAlert | None = (await session.scalars(query)).one_or_none()
    return alert


async def list_alerts(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[UsageAlert]:
    """The newest first."""
    query = select(UsageAlert).where(UsageAlert.tenant_id == tenant_id)
    return await fetch_page(session, query, UsageAlert.id, page, descending=True)


async def deliveries_of(
    session: AsyncSession, tenant_id: str, alert_ids: Sequence[str]
) -> dict[str, UsageAlertDelivery]:
    query = select(UsageAlertDelivery).where(
        UsageAlertDelivery.tenant_id == tenant_id, UsageAlertDelivery.id.in_(alert_ids)
    )
    return {row.id: row for row in (await session.scalars(query)).all()}


async def newest_delivery(session: AsyncSession, tenant_id: str) -> UsageAlertDelivery | None:
    query = select(UsageAlertDelivery).where(UsageAlertDelivery.tenant_id == tenant_id)
    return await session.scalar(query.order_by(UsageAlertDelivery.id.desc()).limit(1))


async def waiting_count(session: AsyncSession, tenant_id: str, count_max: int) -> int:
    query = (
        select(UsageAlertDelivery.id)
        .where(UsageAlertDelivery.tenant_id == tenant_id, UsageAlertDelivery.state == "waiting")
        .limit(count_max)
    )
    return len((await session.scalars(query)).all())


async def addresses_to_tell(session: AsyncSession, tenant_id: str) -> Sequence[str]:
    query = (
        select(Person.email)
        .join(Member, Member.person_id == Person.id)
        .where(Member.tenant_id == tenant_id, Member.role.in_(TOLD_ROLES))
        .order_by(Person.email)
    )
    return (await session.scalars(query)).all()


async def tenants_with_usage(session: AsyncSession, since: datetime) -> Sequence[str]:
    """For the watch, which looks at everybody."""
    return (await session.scalars(select(UsageHour.tenant_id).where(UsageHour.hour >= since).distinct())).all()


async def due_deliveries(session: AsyncSession, at: datetime, count_max: int) -> Sequence[UsageAlertDelivery]:
    """For the sender. Rows that another control plane is sending are left to it (PostgreSQL)."""
    query = (
        select(UsageAlertDelivery)
        .where(UsageAlertDelivery.state == "waiting", UsageAlertDelivery.due_at <= at)
        .order_by(UsageAlertDelivery.due_at)
        .limit(count_max)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(query)).all()


async def finish_delivery(session: AsyncSession, tenant_id: str, delivery_id: str, state: str, answer: str) -> None:
    query = update(UsageAlertDelivery).where(
        UsageAlertDelivery.tenant_id == tenant_id, UsageAlertDelivery.id == delivery_id
    )
    await session.execute(query.values(state=state, last_answer=answer[:200]))


async def forget_alerts(session: AsyncSession, tenant_id: str) -> bool:
    """A step of ``tenants.removal``."""
    await session.execute(delete(UsageAlertDelivery).where(UsageAlertDelivery.tenant_id == tenant_id))
    await session.execute(delete(UsageAlert).where(UsageAlert.tenant_id == tenant_id))
    await session.execute(delete(UsageAlertSettings).where(UsageAlertSettings.tenant_id == tenant_id))
    return True
