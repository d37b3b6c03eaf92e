"""Queries about people, their recovery codes and the links in their mails. They filter by person or by a secret."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Link, Member, Person, RecoveryCode, Session


async def find_person(session: AsyncSession, email: str) -> Person | None:
    return await session.scalar(select(Person).where(Person.email == email))


async def get_person(session: AsyncSession, person_id: str) -> Person | None:
    return await session.get(Person, person_id)


async def take_step(session: AsyncSession, person_id: str, step: int) -> bool:
    """Note the step of a code as used. False: it, or a later one, was used already (by a request at the same time)."""
    taken = await session.scalars(
        update(Person)
        .where(Person.id == person_id, Person.totp_step < step)
        .values(totp_step=step)
        .returning(Person.id)
        .execution_options(synchronize_session=False)
    )
    return taken.one_or_none() is not None


async def set_password(session: AsyncSession, person_id: str, password_hash: str) -> None:
    await session.execute(update(Person).where(Person.id == person_id).values(password_hash=password_hash))


async def use_recovery_code(session: AsyncSession, person_id: str, sha256: str) -> bool:
    used = await session.scalars(
        delete(RecoveryCode)
        .where(RecoveryCode.person_id == person_id, RecoveryCode.sha256 == sha256)
        .returning(RecoveryCode.sha256)
    )
    return used.one_or_none() is not None


async def replace_recovery_codes(session: AsyncSession, person_id: str, sha256s: Sequence[str]) -> None:
    await session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person_id))
    session.add_all(RecoveryCode(sha256=sha256, person_id=person_id) for sha256 in sha256s)


async def count_recovery_codes(session: AsyncSession, person_id: str) -> int:
    query = select(func.count()).select_from(RecoveryCode).where(RecoveryCode.person_id == person_id)
    return await session.scalar(query) or 0


async def find_link(session: AsyncSession, sha256: str, purpose: str, at: datetime) -> Link | None:
    return await session.scalar(
        select(Link).where(Link.sha256 == sha256, Link.purpose == purpose, Link.expires_at > at)
    )


async def use_link(session: AsyncSession, sha256: str) -> bool:
    """Whether it was this call that used it."""
    used = await session.scalars(delete(Link).where(Link.sha256 == sha256).returning(Link.sha256))
    return used.one_or_none() is not None


async def delete_links(session: AsyncSession, email: str, purpose: str) -> None:
    await session.execute(delete(Link).where(Link.email == email, Link.purpose == purpose))


async def delete_links_before(session: AsyncSession, at: datetime) -> None:
    await session.execute(delete(Link).where(Link.expires_at < at))


async def delete_if_alone(session: AsyncSession, person_id: str) -> None:
    """Somebody who is no longer a member of anything is forgotten, unless it is an operator."""
    person = await session.get(Person, person_id)
    if person is None or person.operator_since is not None:
        return
    if await session.scalar(select(func.count()).select_from(Member).where(Member.person_id == person_id)):
        return
    await session.execute(delete(Session).where(Session.person_id == person_id))
    await session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person_id))
    await session.execute(delete(Person).where(Person.id == person_id))
