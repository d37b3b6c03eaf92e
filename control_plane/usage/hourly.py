"""Adds usage to the hours of a tenant, and closes hours for billing.

Called by the consumer of usage records (``add``) and by ``billing.metering`` (``close_hour``). What always holds: each
unit is in exactly one revision of its hour. Both take the lock of the hour's row first: who adds sees the revision
that is open and keeps it open until the commit; who closes waits for that commit before it sums.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import UsageHour, UsageHourly


@dataclass(frozen=True, slots=True)
class Usage:
    """Some invocations of one version in one hour. ``hour`` is its beginning in UTC."""

    tenant_id: str
    function: str
    version_id: str
    hour: datetime
    invocations: int
    errors: int
    cpu_us: int
    mib_us: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A revision of a tenant's hour that will never change again."""

    tenant_id: str
    hour: datetime
    revision: int
    invocations: int
    cpu_us: int
    mib_us: int


async def add(session: AsyncSession, usages: Iterable[Usage]) -> None:
    """In the caller's transaction, together with whatever makes a repetition harmless."""
    by_hour: defaultdict[tuple[str, datetime], list[Usage]] = defaultdict(list)
    for usage in usages:
        by_hour[usage.tenant_id, usage.hour].append(usage)
    for tenant_id, hour in sorted(by_hour):  # always the same order: no two transactions wait for each other
        revision = await _lock_hour(session, tenant_id, hour)
        await _add_rows(session, by_hour[tenant_id, hour], revision)


async def dirty_hours(
    session: AsyncSession, before: datetime, count_max: int, tenant_id: str | None = None
) -> Sequence[tuple[str, datetime]]:
    """Hours that began before ``before`` and have usage that is not closed; of one tenant, or of all."""
    query = (
        select(UsageHour.tenant_id, UsageHour.hour)
        .where(UsageHour.dirty, UsageHour.hour < before)
        .order_by(UsageHour.hour, UsageHour.tenant_id)
        .limit(count_max)
    )
    if tenant_id is not None:
        query = query.where(UsageHour.tenant_id == tenant_id)
    return [(row[0], row[1]) for row in (await session.execute(query)).all()]


async def close_hour(session: AsyncSession, tenant_id: str, hour: datetime) -> Closed | None:
    """Close the open revision and sum it up. None: there is nothing in it."""
    query = (
        update(UsageHour)
        .where(UsageHour.tenant_id == tenant_id, UsageHour.hour == hour, UsageHour.dirty)
        .values(open_revision=UsageHour.open_revision + 1, dirty=False)
        .returning(UsageHour.open_revision)
        .execution_options(synchronize_session=False)
    )
    opened = (await session.scalars(query)).one_or_none()
    if opened is None:
        return None
    sums = select(
        func.coalesce(func.sum(UsageHourly.invocations), 0),
        func.coalesce(func.sum(UsageHourly.cpu_us), 0),
        func.coalesce(func.sum(UsageHourly.mib_us), 0),
    ).where(UsageHourly.tenant_id == tenant_id, UsageHourly.hour == hour, UsageHourly.revision == opened - 1)
    invocations, cpu_us, mib_us = (await session.execute(sums)).one()
    return Closed(tenant_id, hour, opened - 1, int(invocations), int(cpu_us), int(mib_us))


async def _lock_hour(session: AsyncSession, tenant_id: str, hour: datetime) -> int:
    """→ the open revision, locked until the transaction ends."""
    insert = insert_into(session, UsageHour).values(tenant_id=tenant_id, hour=hour, open_revision=0, dirty=True)
    query = insert.on_conflict_do_update(
        index_elements=[UsageHour.tenant_id, UsageHour.hour], set_={"dirty": True}
    ).returning(UsageHour.open_revision)
    return int((await session.scalars(query)).one())


async def _add_rows(session: AsyncSession, usages: Sequence[Usage], revision: int) -> None:
    insert = insert_into(session, UsageHourly)
    added = {name: getattr(UsageHourly, name) + insert.excluded[name] for name in _SUMS}
    query = insert.on_conflict_do_update(index_elements=[getattr(UsageHourly, name) for name in _KEY], set_=added)
    rows = sorted((asdict(usage) | {"revision": revision} for usage in usages), key=lambda row: row["version_id"])
    connection = await session.connection()  # beside the unit of work: its bulk path would ask for rows back
    await connection.execute(query, rows)


_KEY = ("tenant_id", "function", "version_id", "hour", "revision")
_SUMS = ("invocations", "errors", "cpu_us", "mib_us")
