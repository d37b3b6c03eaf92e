"""Queries about keys, sessions, attempts and idempotency records. All but the look-up of a credential filter by
tenant or by person."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import IdempotencyRecord, Key, Member, Person, Session, Tenant, Throttle
from control_plane.pagination import Page, PageRequest, fetch_page

# -- Keys -------------------------------------------------------------------------------------------------------------


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


async def note_key_use(session: AsyncSession, tenant_id: str, key_id: str, at: datetime) -> None:
    """The latest use; also for whoever consumes what gateways report."""
    is_newer = Key.last_used_at.is_(None) | (Key.last_used_at < at)
    await session.execute(
        update(Key).where(Key.tenant_id == tenant_id, Key.id == key_id, is_newer).values(last_used_at=at)
    )


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


async def delete_keys(session: AsyncSession, tenant_id: str) -> None:
    await session.execute(delete(Key).where(Key.tenant_id == tenant_id))


# -- Sessions ---------------------------------------------------------------------------------------------------------


async def find_session(session: AsyncSession, sha256: str, at: datetime) -> tuple[Session, Person] | None:
    query = (
        select(Session, Person)
        .join(Person, Person.id == Session.person_id)
        .where(Session.sha256 == sha256, Session.expires_at > at)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def note_session_use(session: AsyncSession, sha256: str, at: datetime) -> None:
    await session.execute(update(Session).where(Session.sha256 == sha256).values(seen_at=at))


async def list_sessions(session: AsyncSession, person_id: str, at: datetime, idle_since: datetime) -> Sequence[Session]:
    query = (
        select(Session)
        .where(
            Session.person_id == person_id,
            Session.expires_at > at,
            Session.seen_at > idle_since,
            Session.is_pending.is_(False),
        )
        .order_by(Session.seen_at.desc())
    )
    return (await session.scalars(query)).all()


async def delete_session(session: AsyncSession, person_id: str, session_id: str) -> bool:
    deleted = await session.scalars(
        delete(Session).where(Session.person_id == person_id, Session.id == session_id).returning(Session.id)
    )
    return deleted.one_or_none() is not None


async def delete_sessions(session: AsyncSession, person_id: str, *, but: str | None) -> None:
    """All of a person's but the one named."""
    await session.execute(delete(Session).where(Session.person_id == person_id, Session.id != (but or "")))


async def set_session_tenant(session: AsyncSession, person_id: str, session_id: str, tenant_id: str | None) -> None:
    await session.execute(
        update(Session).where(Session.person_id == person_id, Session.id == session_id).values(tenant_id=tenant_id)
    )


async def set_flash(session: AsyncSession, person_id: str, session_id: str, flash: dict[str, str] | None) -> None:
    await session.execute(
        update(Session).where(Session.person_id == person_id, Session.id == session_id).values(flash=flash)
    )


async def leave_tenant(session: AsyncSession, tenant_id: str, person_id: str | None = None) -> None:
    """Sessions that show the tenant show none; of one person, or of all."""
    query = update(Session).where(Session.tenant_id == tenant_id).values(tenant_id=None)
    if person_id is not None:
        query = query.where(Session.person_id == person_id)
    await session.execute(query)


async def is_operator(session: AsyncSession, person_id: str) -> bool:
    person = await session.get(Person, person_id)
    return person is not None and person.operator_since is not None


async def note_second_factor(session: AsyncSession, person_id: str, session_id: str) -> None:
    await session.execute(
        update(Session).where(Session.person_id == person_id, Session.id == session_id).values(has_second_factor=True)
    )


async def note_confirmed(session: AsyncSession, person_id: str, session_id: str, at: datetime) -> None:
    await session.execute(
        update(Session).where(Session.person_id == person_id, Session.id == session_id).values(confirmed_at=at)
    )


async def forget_second_factor(session: AsyncSession, person_id: str) -> None:
    """It was turned off: what was proven with it no longer is."""
    await session.execute(update(Session).where(Session.person_id == person_id).values(has_second_factor=False))


async def memberships_of(session: AsyncSession, person_id: str) -> list[tuple[Member, Tenant]]:
    """By the tenant's name; a deleted tenant has no members."""
    query = (
        select(Member, Tenant)
        .join(Tenant, Tenant.id == Member.tenant_id)
        .where(Member.person_id == person_id)
        .order_by(Tenant.name)
    )
    return [(row[0], row[1]) for row in await session.execute(query)]


# -- Attempts and repeated requests -----------------------------------------------------------------------------------


async def count_attempt(session: AsyncSession, sha256: str, now_s: int, until_s: int) -> tuple[int, int]:
    """One statement, so that attempts at once are all counted. → (attempts in this window, its end)"""
    is_over = Throttle.until_s <= now_s
    query = (
        insert_into(session, Throttle)
        .values(sha256=sha256, attempts_count=1, until_s=until_s)
        .on_conflict_do_update(
            index_elements=[Throttle.sha256],
            set_={
                "attempts_count": case((is_over, 1), else_=Throttle.attempts_count + 1),
                "until_s": case((is_over, until_s), else_=Throttle.until_s),
            },
        )
        .returning(Throttle.attempts_count, Throttle.until_s)
    )
    row = (await session.execute(query)).one()
    return int(row[0]), int(row[1])


async def forget_attempts(session: AsyncSession, sha256s: Sequence[str]) -> None:
    await session.execute(delete(Throttle).where(Throttle.sha256.in_(sha256s)))


async def uncount_attempt(session: AsyncSession, sha256: str) -> None:
    await session.execute(
        update(Throttle)
        .where(Throttle.sha256 == sha256, Throttle.attempts_count > 0)
        .values(attempts_count=Throttle.attempts_count - 1)
    )


async def find_idempotency_record(session: AsyncSession, owner: str, key: str) -> IdempotencyRecord | None:
    return await session.get(IdempotencyRecord, (owner, key))


async def delete_idempotency_records(session: AsyncSession, tenant_id: str) -> None:
    await session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.owner == tenant_id))


async def sweep(
    session: AsyncSession, *, at: datetime, idle_before: datetime, records_before: datetime, now_s: int
) -> None:
    is_over = (Session.expires_at < at) | (Session.seen_at < idle_before)
    await session.execute(delete(Session).where(is_over))
    await session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.created_at < records_before))
    await session.execute(delete(Throttle).where(Throttle.until_s < now_s))
