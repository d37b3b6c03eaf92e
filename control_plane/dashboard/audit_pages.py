"""The audit log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from control_plane.audit import repository
from control_plane.audit.actions import ACTIONS
from control_plane.audit.schemas import AuditEntryOut
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Visitor, see
from control_plane.pagination import PageDependency

router = APIRouter()
Reader = Annotated[Visitor, Depends(see("audit.read"))]
Filter = Annotated[str, Query(max_length=254)]


@router.get("/audit")
async def audit_page(
    request: Request,
    context: ContextDependency,
    visitor: Reader,
    page: PageDependency,
    action: Filter = "",
    actor: Filter = "",
) -> Response:
    async with context.reading() as session:
        found = await repository.list_entries(
            session, visitor.tenant_id, page, action=action.strip(), actor=actor.strip()
        )
    return pages.render(
        request, context, visitor, "audit.html", section="audit",
        entries=[AuditEntryOut.of(entry) for entry in found.items], next_cursor=found.next_cursor,
        values={"action": action, "actor": actor}, kinds=sorted({name.partition(".")[0] for name in ACTIONS}),
    )  # fmt: skip
