"""Queries about members and invitations. All but the look-up of an invitation's secret filter by tenant."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Invitation, Member, Person, Tenant
from control_plane.pagination import Page, PageRequest, fetch_page


async def list_members(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[Member]:
    return await fetch_page(session, select(Member).where(Member.tenant_id == tenant_id), Member.id, page)


async def people_of(session: AsyncSession, tenant_id: str, members: Sequence[Member]) -> dict[str, Person]:
    """Person id → person, for members of the tenant."""
    query = (
        select(Person)
        .join(Member, Member.person_id == Person.id)
        .where(Member.tenant_id == tenant_id, Member.id.in_([member.id for member in members]))
    )
    return {person.id: person for person in await session.scalars(query)}


async def get_member(session: AsyncSession, tenant_id: str, member_id: str) -> tuple[Member, Person] | None:
    query = (
        select(Member, Person)
        .join(Person, Person.id == Member.person_id)
        .where(Member.tenant_id == tenant_id, Member.id == member_id)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_member_by_email(session: AsyncSession, tenant_id: str, email: str) -> Member | None:
    query = (
        select(Member)
        .join(Person, Person.id == Member.person_id)
        .where(Member.tenant_id == tenant_id, Person.email == email)
    )
    return await session.scalar(query)


async def find_member_by_person(session: AsyncSession, tenant_id: str, person_id: str) -> Member | None:
    return await session.scalar(select(Member).where(Member.tenant_id == tenant_id, Member.person_id == person_id))


async def count_members(session: AsyncSession, tenant_id: str) -> int:
    return await session.scalar(select(func.count()).select_from(Member).where(Member.tenant_id == tenant_id)) or 0


async def lock_and_count_owners(session: AsyncSession, tenant_id: str) -> int:
    """The tenant's row is locked: two owners who remove each other at once take turns."""
    await session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update())
    query = select(func.count()).select_from(Member).where(Member.tenant_id == tenant_id, Member.role == "owner")
    return await session.scalar(query) or 0


async def list_invitations(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[Invitation]:
    return await fetch_page(session, select(Invitation).where(Invitation.tenant_id == tenant_id), Invitation.id, page)


async def invitations_by(session: AsyncSession, tenant_id: str, inviter_id: str) -> Sequence[Invitation]:
    query = select(Invitation).where(Invitation.tenant_id == tenant_id, Invitation.inviter_id == inviter_id)
    return (await session.scalars(query)).all()


async def get_invitation(session: AsyncSession, tenant_id: str, invitation_id: str) -> Invitation | None:
    return await session.scalar(
        select(Invitation).where(Invitation.tenant_id == tenant_id, Invitation.id == invitation_id)
    )


async def count_invitations(session: AsyncSession, tenant_id: str) -> int:
    query = select(func.count()).select_from(Invitation).where(Invitation.tenant_id == tenant_id)
    return await session.scalar(query) or 0


async def delete_invitation_of(session: AsyncSession, tenant_id: str, email: str) -> None:
    await session.execute(delete(Invitation).where(Invitation.tenant_id == tenant_id, Invitation.email == email))


async def find_invitation_by_hash(session: AsyncSession, sha256: str, at: datetime) -> tuple[Invitation, Tenant] | None:
    query = (
        select(Invitation, Tenant)
        .join(Tenant, Tenant.id == Invitation.tenant_id)
        .where(Invitation.sha256 == sha256, Invitation.expires_at > at, Tenant.status == "active")
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def use_invitation(session: AsyncSession, sha256: str) -> bool:
    """Whether it was this call that used it."""
    used = await session.scalars(delete(Invitation).where(Invitation.sha256 == sha256).returning(Invitation.id))
    return used.one_or_none() is not None


async def delete_all(session: AsyncSession, tenant_id: str) -> list[str]:
    """With the tenant. → the ids of the people who were members"""
    await session.execute(delete(Invitation).where(Invitation.tenant_id == tenant_id))
    removed = await session.scalars(delete(Member).where(Member.tenant_id == tenant_id).returning(Member.person_id))
    return list(removed)
