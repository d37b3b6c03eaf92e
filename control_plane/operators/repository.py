"""Queries over all tenants, for operators; each stands in tests/lint/crossings.toml with its reason."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import (
    Function,
    Key,
    Member,
    OperatorEntry,
    Person,
    Subscription,
    Tenant,
    TierVersion,
    UsageDeadLetter,
    UsageHourly,
    UsageStream,
    Version,
)
from control_plane.operators.schemas import Usage
from control_plane.pagination import Page, PageRequest, fetch_page

# -- Operators and what they did --------------------------------------------------------------------------------------


async def list_operators(session: AsyncSession) -> Sequence[Person]:
    query = select(Person).where(Person.operator_since.is_not(None)).order_by(Person.email)
    return (await session.scalars(query)).all()


async def set_operator(session: AsyncSession, person_id: str, since: datetime | None) -> bool:
    """Whether it was this call that changed it."""
    differs = Person.operator_since.is_(None) if since is not None else Person.operator_since.is_not(None)
    changed = await session.scalars(
        update(Person).where(Person.id == person_id, differs).values(operator_since=since).returning(Person.id)
    )
    return changed.one_or_none() is not None


async def list_entries(
    session: AsyncSession, page: PageRequest, *, actor: str = "", action: str = "", about_tenant_id: str = ""
) -> Page[OperatorEntry]:
    """The newest first. ``actor`` and ``action`` are beginnings."""
    query = select(OperatorEntry)
    if actor:
        query = query.where(OperatorEntry.actor.startswith(actor, autoescape=True))
    if action:
        query = query.where(OperatorEntry.action.startswith(action, autoescape=True))
    if about_tenant_id:
        query = query.where(OperatorEntry.about_tenant_id == about_tenant_id)
    return await fetch_page(session, query, OperatorEntry.id, page, descending=True)


# -- Tenants ----------------------------------------------------------------------------------------------------------


async def search_tenants(
    session: AsyncSession, page: PageRequest, *, text: str = "", status: str = "", tier: str = ""
) -> Page[Tenant]:
    """``text``: a part of the name, an id, or the beginning of a member's e-mail address. The newest first."""
    query = select(Tenant)
    if text:
        by_member = (
            select(Member.tenant_id)
            .join(Person, Person.id == Member.person_id)
            .where(Person.email.startswith(text.lower(), autoescape=True))
        )
        query = query.where(
            or_(Tenant.name.contains(text.lower(), autoescape=True), Tenant.id == text, Tenant.id.in_(by_member))
        )
    if status:
        query = query.where(Tenant.status == status)
    if tier:
        held = (
            select(Subscription.tenant_id)
            .join(TierVersion, TierVersion.id == Subscription.tier_version_id)
            .where(TierVersion.tier == tier)
        )
        query = query.where(Tenant.id.in_(held))
    return await fetch_page(session, query, Tenant.id, page, descending=True)


async def count_by_status(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(select(Tenant.status, func.count()).group_by(Tenant.status))
    return {row[0]: row[1] for row in rows.all()}


async def subscriptions_of(
    session: AsyncSession, tenant_ids: Sequence[str]
) -> dict[str, tuple[Subscription, TierVersion]]:
    query = (
        select(Subscription, TierVersion)
        .join(TierVersion, TierVersion.id == Subscription.tier_version_id)
        .where(Subscription.tenant_id.in_(tenant_ids))
    )
    return {row[0].tenant_id: (row[0], row[1]) for row in (await session.execute(query)).all()}


async def members_counts(session: AsyncSession, tenant_ids: Sequence[str]) -> dict[str, int]:
    query = select(Member.tenant_id, func.count()).where(Member.tenant_id.in_(tenant_ids)).group_by(Member.tenant_id)
    return {row[0]: row[1] for row in (await session.execute(query)).all()}


async def last_deploys(session: AsyncSession, tenant_ids: Sequence[str]) -> dict[str, datetime]:
    query = (
        select(Version.tenant_id, func.max(Version.created_at))
        .where(Version.tenant_id.in_(tenant_ids))
        .group_by(Version.tenant_id)
    )
    return {row[0]: row[1] for row in (await session.execute(query)).all()}


async def usage_since(session: AsyncSession, starts: Mapping[str, datetime]) -> dict[str, Usage]:
    """``starts``: tenant → the beginning of its period."""
    if not starts:
        return {}
    wanted = [and_(UsageHourly.tenant_id == tenant_id, UsageHourly.hour >= at) for tenant_id, at in starts.items()]
    query = (
        select(
            UsageHourly.tenant_id,
            func.sum(UsageHourly.invocations),
            func.sum(UsageHourly.errors),
            func.sum(UsageHourly.cpu_us),
            func.sum(UsageHourly.mib_us),
        )
        .where(or_(*wanted))
        .group_by(UsageHourly.tenant_id)
    )
    return {
        row[0]: Usage(invocations=int(row[1]), errors=int(row[2]), cpu_us=int(row[3]), mib_us=int(row[4]))
        for row in (await session.execute(query)).all()
    }


async def hours_of(session: AsyncSession, tenant_id: str, since: datetime) -> Sequence[tuple[datetime, int, int]]:
    """(hour, invocations, errors), in order."""
    query = (
        select(UsageHourly.hour, func.sum(UsageHourly.invocations), func.sum(UsageHourly.errors))
        .where(UsageHourly.tenant_id == tenant_id, UsageHourly.hour >= since)
        .group_by(UsageHourly.hour)
        .order_by(UsageHourly.hour)
    )
    return [(row[0], int(row[1]), int(row[2])) for row in (await session.execute(query)).all()]


async def functions_of(session: AsyncSession, tenant_id: str, count_max: int) -> Sequence[Function]:
    query = select(Function).where(Function.tenant_id == tenant_id).order_by(Function.name).limit(count_max)
    return (await session.scalars(query)).all()


async def count_keys(session: AsyncSession, tenant_id: str) -> int:
    query = select(func.count()).select_from(Key).where(Key.tenant_id == tenant_id, Key.revoked_at.is_(None))
    return await session.scalar(query) or 0


async def names_of(session: AsyncSession, tenant_ids: Collection[str]) -> dict[str, str]:
    query = select(Tenant.id, Tenant.name).where(Tenant.id.in_(tenant_ids))
    return {row[0]: row[1] for row in (await session.execute(query)).all()}


# -- The books of usage -----------------------------------------------------------------------------------------------


async def recent_streams(session: AsyncSession, count_max: int) -> Sequence[UsageStream]:
    query = select(UsageStream).order_by(UsageStream.updated_at.desc(), UsageStream.stream).limit(count_max)
    return (await session.scalars(query)).all()


async def dead_letters(session: AsyncSession, count_max: int) -> tuple[int, Sequence[UsageDeadLetter]]:
    """→ how many there are, and the newest"""
    count = await session.scalar(select(func.count()).select_from(UsageDeadLetter)) or 0
    query = select(UsageDeadLetter).order_by(UsageDeadLetter.noted_at.desc()).limit(count_max)
    return count, (await session.scalars(query)).all() if count else []
