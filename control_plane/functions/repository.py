"""Queries about functions, versions and aliases. Those for endpoints all filter by tenant."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import Alias, AliasMove, Function, NodeReport, Version
from control_plane.pagination import Page, PageRequest, fetch_page


async def find_function(session: AsyncSession, tenant_id: str, name: str) -> Function | None:
    return await session.scalar(select(Function).where(Function.tenant_id == tenant_id, Function.name == name))


async def list_functions(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[Function]:
    return await fetch_page(session, select(Function).where(Function.tenant_id == tenant_id), Function.name, page)


async def count_functions(session: AsyncSession, tenant_id: str) -> int:
    query = select(func.count()).select_from(Function).where(Function.tenant_id == tenant_id)
    return await session.scalar(query) or 0


async def get_version(session: AsyncSession, tenant_id: str, function_id: str, version_id: str) -> Version | None:
    return await session.scalar(
        select(Version).where(
            Version.tenant_id == tenant_id, Version.function_id == function_id, Version.id == version_id
        )
    )


async def find_version_by_hash(session: AsyncSession, tenant_id: str, function_id: str, sha256: str) -> Version | None:
    return await session.scalar(
        select(Version).where(
            Version.tenant_id == tenant_id, Version.function_id == function_id, Version.sha256 == sha256
        )
    )


async def list_versions(session: AsyncSession, tenant_id: str, function_id: str, page: PageRequest) -> Page[Version]:
    query = select(Version).where(Version.tenant_id == tenant_id, Version.function_id == function_id)
    return await fetch_page(session, query, Version.id, page, descending=True)


async def latest_versions(session: AsyncSession, tenant_id: str, function_ids: Sequence[str]) -> dict[str, Version]:
    """Function id → its newest version."""
    newest = (
        select(func.max(Version.id))
        .where(Version.tenant_id == tenant_id, Version.function_id.in_(function_ids))
        .group_by(Version.function_id)
    )
    versions = await session.scalars(select(Version).where(Version.id.in_(newest)))
    return {version.function_id: version for version in versions}


async def newest_versions(session: AsyncSession, tenant_id: str, count_max: int) -> list[tuple[Version, Function]]:
    """Of all functions, the newest first: what was deployed last."""
    query = (
        select(Version, Function)
        .join(Function, Function.id == Version.function_id)
        .where(Version.tenant_id == tenant_id, Function.tenant_id == tenant_id)
        .order_by(Version.id.desc())
        .limit(count_max)
    )
    return [(row[0], row[1]) for row in (await session.execute(query)).all()]


async def failed_functions(session: AsyncSession, tenant_id: str, count_max: int) -> list[tuple[Version, Function]]:
    """Functions whose newest version did not start, with that version."""
    newest = select(func.max(Version.id)).where(Version.tenant_id == tenant_id).group_by(Version.function_id)
    query = (
        select(Version, Function)
        .join(Function, Function.id == Version.function_id)
        .where(Version.tenant_id == tenant_id, Function.tenant_id == tenant_id)
        .where(Version.id.in_(newest), Version.status == "failed")
        .order_by(Version.id.desc())
        .limit(count_max)
    )
    return [(row[0], row[1]) for row in (await session.execute(query)).all()]


async def list_aliases(session: AsyncSession, tenant_id: str, function_ids: Sequence[str]) -> Sequence[Alias]:
    query = (
        select(Alias)
        .where(Alias.tenant_id == tenant_id, Alias.function_id.in_(function_ids))
        .order_by(Alias.function_id, Alias.name)
    )
    return (await session.scalars(query)).all()


async def find_alias(session: AsyncSession, tenant_id: str, function_id: str, name: str) -> Alias | None:
    return await session.scalar(
        select(Alias).where(Alias.tenant_id == tenant_id, Alias.function_id == function_id, Alias.name == name)
    )


async def aliases_of_version(session: AsyncSession, tenant_id: str, version_id: str) -> Sequence[Alias]:
    query = select(Alias).where(Alias.tenant_id == tenant_id, Alias.version_id == version_id).order_by(Alias.name)
    return (await session.scalars(query)).all()


async def get_move(session: AsyncSession, tenant_id: str, move_id: str) -> tuple[AliasMove, Version] | None:
    """A move and the version it went to."""
    query = (
        select(AliasMove, Version)
        .join(Version, Version.id == AliasMove.version_id)
        .where(AliasMove.tenant_id == tenant_id, Version.tenant_id == tenant_id, AliasMove.id == move_id)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def delete_alias(session: AsyncSession, tenant_id: str, function_id: str, name: str) -> None:
    await session.execute(
        delete(Alias).where(Alias.tenant_id == tenant_id, Alias.function_id == function_id, Alias.name == name)
    )


async def delete_function(session: AsyncSession, tenant_id: str, function_id: str) -> None:
    """The function and all below it, from the leaves up."""
    versions = select(Version.id).where(Version.tenant_id == tenant_id, Version.function_id == function_id)
    await session.execute(delete(NodeReport).where(NodeReport.version_id.in_(versions)))
    for model in (Alias, AliasMove, Version):
        await session.execute(delete(model).where(model.tenant_id == tenant_id, model.function_id == function_id))
    await session.execute(delete(Function).where(Function.tenant_id == tenant_id, Function.id == function_id))


async def bundles_of(session: AsyncSession, tenant_id: str) -> list[str]:
    return list(await session.scalars(select(Version.sha256).where(Version.tenant_id == tenant_id).distinct()))


async def delete_all(session: AsyncSession, tenant_id: str) -> None:
    """With the tenant."""
    versions = select(Version.id).where(Version.tenant_id == tenant_id)
    await session.execute(delete(NodeReport).where(NodeReport.version_id.in_(versions)))
    for model in (Alias, AliasMove, Version, Function):
        await session.execute(delete(model).where(model.tenant_id == tenant_id))


# -- For the routing table and the reports: they belong to no request -------------------------------------------------


async def all_functions(session: AsyncSession) -> Sequence[Function]:
    return (await session.scalars(select(Function).order_by(Function.id))).all()


async def all_aliases(session: AsyncSession) -> Sequence[Alias]:
    return (await session.scalars(select(Alias).order_by(Alias.function_id, Alias.name))).all()


async def versions_for_table(session: AsyncSession, newest_count: int) -> Sequence[Version]:
    """Those that an alias names, and the newest few of each function that did not fail."""
    rank = func.row_number().over(partition_by=Version.function_id, order_by=Version.id.desc()).label("rank")
    ranked = select(Version.id, rank).where(Version.status != "failed").subquery()
    newest = select(ranked.c.id).where(ranked.c.rank <= newest_count)
    named = select(Alias.version_id)
    query = select(Version).where(Version.id.in_(newest) | Version.id.in_(named)).order_by(Version.id)
    return (await session.scalars(query)).all()


async def is_bundle_named(session: AsyncSession, sha256: str) -> bool:
    """By a version of any tenant."""
    return await session.scalar(select(Version.id).where(Version.sha256 == sha256).limit(1)) is not None


async def get_reported_version(session: AsyncSession, version_id: str) -> Version | None:
    return await session.get(Version, version_id)


async def node_reports(session: AsyncSession, version_id: str) -> Sequence[NodeReport]:
    return (await session.scalars(select(NodeReport).where(NodeReport.version_id == version_id))).all()


async def forget_reports(session: AsyncSession, version_id: str) -> None:
    await session.execute(delete(NodeReport).where(NodeReport.version_id == version_id))


async def longest_timeout(session: AsyncSession, tenant_id: str) -> timedelta:
    """For how long a call of the tenant may still run; zero: it has no version."""
    found = await session.scalars(select(Version.limits).where(Version.tenant_id == tenant_id))
    return timedelta(milliseconds=max((int(limits.get("timeout_ms", 0)) for limits in found), default=0))
