"""Queries about lines of the log. What answers somebody filters by tenant; the sweeps name the tenant, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import LogLine, LogReader, UsageRecordRow
from control_plane.pagination import Page, PageRequest, fetch_page

_ROWS_MAX: Final = 500
"""Of one INSERT: databases bound the parameters of a statement."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Empty: not asked for."""

    function: str = ""
    version: str = ""
    request_id: str = ""
    contains: str = ""
    stream: str = ""
    failed: bool = False
    """Only of invocations that were not answered 2xx or 3xx."""
    since: datetime | None = None
    until: datetime | None = None


async def list_lines(session: AsyncSession, tenant_id: str, wanted: LogFilter, page: PageRequest) -> Page[LogLine]:
    """The newest first."""
    query = _filtered(select(LogLine).where(LogLine.tenant_id == tenant_id), wanted)
    return await fetch_page(session, query, LogLine.id, page, descending=True)


async def lines_after(
    session: AsyncSession, tenant_id: str, wanted: LogFilter, after: str, count_max: int
) -> Sequence[LogLine]:
    """The oldest first."""
    query = _filtered(select(LogLine).where(LogLine.tenant_id == tenant_id, LogLine.id > after), wanted)
    return (await session.scalars(query.order_by(LogLine.id).limit(count_max))).all()


async def newest_id(session: AsyncSession, tenant_id: str) -> str:
    query = select(LogLine.id).where(LogLine.tenant_id == tenant_id).order_by(LogLine.id.desc()).limit(1)
    return await session.scalar(query) or ""


def _filtered(query: Select[LogLine], wanted: LogFilter) -> Select[LogLine]:
    for column, value in (
        (LogLine.function, wanted.function),
        (LogLine.version_id, wanted.version),
        (LogLine.request_id, wanted.request_id),
        (LogLine.stream, wanted.stream),
    ):
        if value:
            query = query.where(column == value)
    if wanted.failed:
        answered_well = and_(UsageRecordRow.outcome == "ok", UsageRecordRow.status >= 200, UsageRecordRow.status < 400)
        of_failed = select(UsageRecordRow.invocation_id).where(
            UsageRecordRow.tenant_id == LogLine.tenant_id,
            UsageRecordRow.invocation_id == LogLine.request_id,
            ~answered_well,
        )
        query = query.where(of_failed.exists())
    if wanted.contains:
        query = query.where(LogLine.text.icontains(wanted.contains, autoescape=True))
    if wanted.since is not None:
        query = query.where(LogLine.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(LogLine.at < wanted.until)
    return query


# -- Written by the consumer ------------------------------------------------------------------------------------------


async def position(session: AsyncSession, stream: str) -> str | None:
    return await session.scalar(select(LogReader.position).where(LogReader.stream == stream))


async def move(session: AsyncSession, stream: str, before: str | None, after: str) -> bool:
    """False: it is not at ``before`` any more."""
    if before is None:
        insert = insert_into(session, LogReader).values(stream=stream, position=after).on_conflict_do_nothing()
        return (await session.scalars(insert.returning(LogReader.stream))).one_or_none() is not None
    query = (
        update(LogReader)
        .where(LogReader.stream == stream, LogReader.position == before)
        .values(position=after)
        .returning(LogReader.stream)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def insert(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    for at in range(0, len(rows), _ROWS_MAX):
        part = list(rows[at : at + _ROWS_MAX])
        await session.execute(insert_into(session, LogLine).values(part).on_conflict_do_nothing())


async def tenants_with_lines(session: AsyncSession) -> Sequence[str]:
    return (await session.scalars(select(LogLine.tenant_id).distinct())).all()


async def delete_before(session: AsyncSession, tenant_id: str, moment: datetime) -> None:
    await session.execute(delete(LogLine).where(LogLine.tenant_id == tenant_id, LogLine.at < moment))


async def keep_newest(session: AsyncSession, tenant_id: str, count: int) -> None:
    oldest_kept = await session.scalar(
        select(LogLine.id).where(LogLine.tenant_id == tenant_id).order_by(LogLine.id.desc()).offset(count).limit(1)
    )
    if oldest_kept is not None:
        await session.execute(delete(LogLine).where(LogLine.tenant_id == tenant_id, LogLine.id <= oldest_kept))


async def delete_lines(session: AsyncSession, tenant_id: str) -> None:
    """With its tenant."""
    await session.execute(delete(LogLine).where(LogLine.tenant_id == tenant_id))
