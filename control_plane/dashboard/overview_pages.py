"""The page after the sign-in: what needs attention, what changed last; for a new tenant, the first steps."""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository as auth
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import SignedInVisitor, Visitor
from control_plane.function_logs import repository as logs
from control_plane.functions import repository
from control_plane.functions.schemas import VersionOut

router = APIRouter()
CHANGES_MAX: Final = 6
FAILURES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What a new tenant has done already."""

    key: bool
    deployed: bool
    called: bool

    @property
    def done(self) -> bool:
        return self.deployed and self.called


@router.get("/")
async def overview_page(request: Request, context: ContextDependency, visitor: SignedInVisitor) -> Response:
    changes: list[VersionOut] = []
    failed: list[VersionOut] = []
    steps = None
    async with context.reading() as session:
        if visitor.may("functions.read"):
            changes = await _changes(session, visitor)
            failed = await _failed(session, visitor)
            steps = await _steps(session, visitor)
    return pages.render(
        request, context, visitor, "overview/overview.html", section="overview", changes=changes,
        failed=failed, steps=steps, refresh_s=1 if any(version.status == "preparing" for version in changes) else 10,
    )  # fmt: skip


async def _changes(session: AsyncSession, visitor: Visitor) -> list[VersionOut]:
    found = await repository.newest_versions(session, visitor.tenant_id, CHANGES_MAX)
    return [VersionOut.of(version, function.name, []) for version, function in found]


async def _failed(session: AsyncSession, visitor: Visitor) -> list[VersionOut]:
    found = await repository.failed_functions(session, visitor.tenant_id, FAILURES_MAX)
    return [VersionOut.of(version, function.name, []) for version, function in found]


async def _steps(session: AsyncSession, visitor: Visitor) -> FirstSteps:
    return FirstSteps(
        key=await auth.count_live_keys(session, visitor.tenant_id) > 0,
        deployed=await repository.count_functions(session, visitor.tenant_id) > 0,
        called=await logs.newest_id(session, visitor.tenant_id) != "",
    )
