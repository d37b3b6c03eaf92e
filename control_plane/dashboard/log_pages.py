"""What functions print: filtered, page by page, or live. Live is the same page that loads its list again by htmx."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from control_plane import ids
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Visitor, see
from control_plane.function_logs import repository
from control_plane.function_logs.repository import LogFilter
from control_plane.function_logs.schemas import LogLineOut
from control_plane.functions import repository as functions
from control_plane.pagination import LIMIT_MAX, PageDependency, PageRequest
from control_plane.tiers import service as tiers

router = APIRouter(prefix="/logs")
Reader = Annotated[Visitor, Depends(see("logs.read"))]
Text = Annotated[str, Query(max_length=200)]
STREAMS: Final = (("", "everything"), ("stdout", "stdout"), ("stderr", "stderr"), ("runtime", "runtime"))
FUNCTIONS_TO_CHOOSE_MAX: Final = 100
_VERSION: Final = re.compile(ids.pattern("ver"))


@router.get("")
async def logs_page(
    request: Request,
    context: ContextDependency,
    visitor: Reader,
    page: PageDependency,
    function: Text = "",
    version: Text = "",
    request_id: Text = "",
    contains: Text = "",
    stream: Text = "",
    failed: Annotated[str, Query(max_length=1)] = "",
    live: Annotated[str, Query(max_length=1)] = "",
) -> Response:
    values = {
        "function": function.strip(), "version": version.strip(), "request_id": request_id.strip(),
        "contains": contains.replace("\0", ""), "stream": stream, "failed": "1" if failed == "1" else "",
    }  # fmt: skip
    wanted = LogFilter(
        function=values["function"], version=values["version"], request_id=values["request_id"],
        contains=values["contains"], stream=stream, failed=failed == "1",
    )  # fmt: skip
    async with context.reading() as session:
        found = await repository.list_lines(
            session, visitor.tenant_id, wanted, PageRequest(limit=LIMIT_MAX, after=page.after)
        )
        chosen = await functions.list_functions(
            session, visitor.tenant_id, PageRequest(limit=FUNCTIONS_TO_CHOOSE_MAX, after=None)
        )
        held = await tiers.entitlements_of(session, visitor.tenant_id)
    return pages.render(
        request, context, visitor, "logs/logs.html", section="logs",
        lines=[LogLineOut.of(line) for line in found.items], next_cursor=found.next_cursor, values=values,
        is_live=live == "1" and page.after is None, is_filtered=any(values.values()),
        names=[each.name for each in chosen.items], streams=STREAMS, days=held.admission.log_retention_days,
        has_version=bool(_VERSION.match(version)),
    )  # fmt: skip
