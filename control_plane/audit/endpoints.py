"""/v1/audit"""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from control_plane.audit import repository
from control_plane.audit.schemas import AuditEntryOut, AuditPage
from control_plane.auth.principal import AuditReader
from control_plane.context import ContextDependency
from control_plane.pagination import PageDependency, page_fields

router = APIRouter(prefix="/v1/audit", tags=["audit"])
Beginning = Annotated[str, Query(max_length=100, pattern=r"^[ -~]*$")]


@router.get("", response_model=AuditPage)
async def list_audit_entries(
    context: ContextDependency,
    caller: AuditReader,
    page: PageDependency,
    action: Beginning = "",
    actor: Beginning = "",
    since: AwareDatetime | None = None,
) -> dict[str, Any]:
    """Who did what, the newest first; `action` and `actor` filter by how they begin."""
    async with context.reading() as session:
        found = await repository.list_entries(session, caller.tenant_id, page, action=action, actor=actor, since=since)
    return page_fields(found.map(AuditEntryOut.of))
