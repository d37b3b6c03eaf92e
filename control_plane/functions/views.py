"""Rows → what users see, for the API and the dashboard alike."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.functions import repository
from control_plane.functions.schemas import AliasOut, FunctionOut, VersionOut
from control_plane.functions.service import LIVE
from control_plane.models import Alias, Function, Version


def function_url(gateway_url: str, tenant_name: str, function_name: str, alias: str = LIVE) -> str:
    return f"{gateway_url}/{tenant_name}/{function_name}" + ("" if alias == LIVE else f"@{alias}")


async def functions_out(
    session: AsyncSession, functions: Sequence[Function], *, tenant_id: str, tenant_name: str, gateway_url: str
) -> list[FunctionOut]:
    function_ids = [function.id for function in functions]
    latest = await repository.latest_versions(session, tenant_id, function_ids)
    aliases: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for alias in await repository.list_aliases(session, tenant_id, function_ids):
        aliases[alias.function_id][alias.name] = alias.version_id
    result = []
    for function in functions:
        version = latest.get(function.id)
        named = aliases[function.id]
        result.append(
            FunctionOut(
                id=function.id,
                name=function.name,
                public=function.public,
                url=function_url(gateway_url, tenant_name, function.name),
                aliases=named,
                latest=None if version is None else VersionOut.of(version, function.name, _pointing(named, version)),
                created_at=function.created_at,
            )
        )
    return result


async def versions_out(session: AsyncSession, function: Function, versions: Sequence[Version]) -> list[VersionOut]:
    aliases = await repository.list_aliases(session, function.tenant_id, [function.id])
    named = {alias.name: alias.version_id for alias in aliases}
    return [VersionOut.of(version, function.name, _pointing(named, version)) for version in versions]


def alias_out(alias: Alias, function: Function, version: Version, *, tenant_name: str, gateway_url: str) -> AliasOut:
    return AliasOut.model_validate(
        {
            "function": function.name,
            "alias": alias.name,
            "version": version.id,
            "status": version.status,
            "url": function_url(gateway_url, tenant_name, function.name, alias.name),
            "updated_at": alias.updated_at,
        }
    )


def _pointing(named: dict[str, str], version: Version) -> list[str]:
    return [name for name, version_id in named.items() if version_id == version.id]
