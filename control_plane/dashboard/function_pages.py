"""The functions; one of them with its versions; the code of a version.

Changing a function is in ``change_pages``, deploying in ``deploy_pages``, calling in ``try_pages``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane import ids
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import highlighting, pages
from control_plane.dashboard.visitor import Visitor, see
from control_plane.functions import repository, service, source, views
from control_plane.functions.schemas import FunctionOut, VersionOut
from control_plane.models import Function, now
from control_plane.pagination import PageDependency, PageRequest
from control_plane.problems import Problem
from control_plane.tiers import service as tiers
from control_plane.tiers.effective import function_limits
from control_plane.usage import service as usage
from control_plane.usage.history import DAY
from control_plane.usage.views import Usage
from gateway.contract.table import NAME_PATTERN, Limits

router = APIRouter(prefix="/functions")
Reader = Annotated[Visitor, Depends(see("functions.read"))]
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
VersionId = Annotated[str, Query(pattern=f"^$|{ids.pattern('ver')}")]
VERSIONS_TO_CHOOSE_MAX = 50
"""In lists of versions to pick from: the newest."""

_LIMITS = (
    ("timeout_ms", "wall clock"),
    ("cpu_ms", "CPU time"),
    ("memory_bytes", "memory"),
    ("output_bytes_max", "answer"),
)
_DEFAULTS = Limits().model_dump()


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """A version with what its row does not say."""

    version: VersionOut
    cut: list[tuple[str, str, int, int]]
    """Limits of which the tier allows less than asked for: (field, name, asked, allowed). Defaults are not."""


@router.get("")
async def functions_page(
    request: Request, context: ContextDependency, visitor: Reader, page: PageDependency
) -> Response:
    async with context.reading() as session:
        found = await repository.list_functions(session, visitor.tenant_id, page)
        items = await _out(session, context, visitor, found.items)
        held = await tiers.entitlements_of(session, visitor.tenant_id)
        count = await repository.count_functions(session, visitor.tenant_id)
        day = await _last_day(session, visitor)
    return pages.render(
        request, context, visitor, "functions/list.html", section="functions", functions=items,
        next_cursor=found.next_cursor, count=count, held=held, day=day,
        is_moving=any(each.latest and each.latest.status == "preparing" for each in items),
    )  # fmt: skip


@router.get("/{name}")
async def function_page(
    request: Request, name: FunctionName, context: ContextDependency, visitor: Reader, page: PageDependency
) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        next_cursor, versions = await _versions(session, visitor, function, page)
    return pages.render(
        request, context, visitor, "functions/function.html", section="functions", tab="versions", function=shown,
        versions=versions, next_cursor=next_cursor,
    )  # fmt: skip


@router.get("/{name}/code")
async def code_page(
    request: Request,
    name: FunctionName,
    context: ContextDependency,
    visitor: Reader,
    version: VersionId = "",
    file: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        chosen_id = version or shown.aliases.get(service.LIVE) or (shown.latest.id if shown.latest else "")
        chosen = await service.require_version(session, visitor.tenant_id, function, chosen_id)
        versions = await newest(session, visitor, function)
    read = await source.read_source(context.bundles, context.settings.staging_dir, chosen, file)
    lines, is_cut = highlighting.lines_of(read.text or "", is_python=read.path.endswith(".py"))
    return pages.render(
        request, context, visitor, "functions/code.html", section="functions", tab="code", function=shown,
        version=chosen, versions=versions, source=read, lines=lines, is_cut=is_cut,
    )  # fmt: skip


async def _last_day(session: AsyncSession, visitor: Visitor) -> dict[str, Usage]:
    """By function, for whoever may see usage."""
    if not visitor.may("usage.read"):
        return {}
    until = now()
    return {
        group.function: group.usage for group in await usage.by_function(session, visitor.tenant_id, until - DAY, until)
    }


async def load(session: AsyncSession, context: Context, visitor: Visitor, name: str) -> tuple[Function, FunctionOut]:
    """The function, as a row and as it is shown. Raises Problem."""
    function = await repository.find_function(session, visitor.tenant_id, name)
    if function is None:
        raise Problem("not-found", f"There is no function {name!r}.")
    return function, (await _out(session, context, visitor, [function]))[0]


async def newest(session: AsyncSession, visitor: Visitor, function: Function) -> list[VersionOut]:
    """To choose from."""
    request = PageRequest(limit=VERSIONS_TO_CHOOSE_MAX, after=None)
    found = await repository.list_versions(session, visitor.tenant_id, function.id, request)
    return await views.versions_out(session, function, found.items)


async def _versions(
    session: AsyncSession, visitor: Visitor, function: Function, page: PageRequest
) -> tuple[str | None, list[ShownVersion]]:
    found = await repository.list_versions(session, visitor.tenant_id, function.id, page)
    versions = await views.versions_out(session, function, found.items)
    allowed = (await tiers.entitlements_of(session, visitor.tenant_id)).invocation
    shown = []
    for version in versions:
        held = function_limits(version.limits, allowed).model_dump()
        asked = version.limits.model_dump()
        cut = [
            (field, name, asked[field], held[field])
            for field, name in _LIMITS
            if held[field] < asked[field] != _DEFAULTS[field]
        ]
        shown.append(ShownVersion(version, cut))
    return found.next_cursor, shown


async def _out(
    session: AsyncSession, context: Context, visitor: Visitor, functions: Sequence[Function]
) -> list[FunctionOut]:
    return await views.functions_out(
        session,
        functions,
        tenant_id=visitor.tenant_id,
        tenant_name=visitor.tenant_name,
        gateway_url=context.settings.public_gateway_url,
    )
