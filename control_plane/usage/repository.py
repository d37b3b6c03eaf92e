"""Queries of usage records, watermarks and the ledger of versions. Called by ``consumer`` and ``service``."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import UsageDeadLetter, UsageRecordRow, UsageStream, UsageVersion, now
from gateway.contract.usage import START, Position

_ROWS_MAX = 500
"""Of one INSERT: SQLite and PostgreSQL bound the parameters of a statement."""


async def watermark(session: AsyncSession, stream: str) -> Position:
    row = await session.get(UsageStream, stream)
    return START if row is None else Position(row.segment, row.offset)


async def watermarks(session: AsyncSession) -> dict[str, Position]:
    rows = (await session.scalars(select(UsageStream))).all()
    return {row.stream: Position(row.segment, row.offset) for row in rows}


async def move_watermark(session: AsyncSession, stream: str, after: Position, end: Position) -> bool:
    """False: it is not at ``after`` any more. The row stays locked until the transaction ends."""
    insert = _insert(session, UsageStream).values(stream=stream, segment=0, offset=0, updated_at=now())
    await session.execute(insert.on_conflict_do_nothing())
    query = (
        update(UsageStream)
        .where(UsageStream.stream == stream, UsageStream.segment == after.number, UsageStream.offset == after.offset)
        .values(segment=end.number, offset=end.offset, updated_at=now())
        .returning(UsageStream.stream)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def insert_records(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """→ those that were not there yet. The watermark keeps repetitions away; the key is the second lock."""
    inserted: list[dict[str, Any]] = []
    step = _ROWS_MAX if session.get_bind().dialect.name == "sqlite" else _ROWS_MAX * 2
    for at in range(0, len(rows), step):
        part = rows[at : at + step]
        query = _insert(session, UsageRecordRow).values(part).on_conflict_do_nothing().returning(UsageRecordRow.offset)
        kept = set((await session.scalars(query)).all())
        inserted += [row for row in part if row["offset"] in kept]
    return inserted


async def insert_dead(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        await session.execute(_insert(session, UsageDeadLetter).values(list(rows)).on_conflict_do_nothing())


async def owners(session: AsyncSession, version_ids: Collection[str]) -> dict[str, UsageVersion | None]:
    rows = (await session.scalars(select(UsageVersion).where(UsageVersion.version_id.in_(version_ids)))).all()
    return {row.version_id: row for row in rows}


async def note_version(session: AsyncSession, version_id: str, tenant_id: str, function: str) -> None:
    """At a deploy, in its transaction: from now on usage of the version has an owner, also after it was deleted."""
    row = {"version_id": version_id, "tenant_id": tenant_id, "function": function}
    await session.execute(_insert(session, UsageVersion).values(row).on_conflict_do_nothing())


def _insert(session: AsyncSession, model: Any) -> Any:
    """The dialect's own INSERT: ON CONFLICT is not in the SQL that both share."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite if is_sqlite else postgresql).insert(model)
