"""/v1/logs: what functions printed, searched and followed."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from control_plane import ids
from control_plane.auth.principal import LogReader
from control_plane.context import ContextDependency
from control_plane.function_logs import repository, service
from control_plane.function_logs.repository import LogFilter
from control_plane.function_logs.schemas import LogLineOut, LogNews, LogPage, Stream
from control_plane.pagination import PageDependency
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/v1/logs", tags=["logs"])


def _filter(
    function: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    version: Annotated[str | None, Query(pattern=ids.pattern("ver"))] = None,
    request_id: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="`Tailcut-Request-Id`")] = None,
    contains: Annotated[
        str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="In the text, in any case")
    ] = None,
    stream: Annotated[Stream | None, Query()] = None,
    failed: Annotated[bool, Query(description="Only of calls that were not answered 2xx or 3xx")] = False,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339")] = None,
    until: Annotated[AwareDatetime | None, Query(description="RFC 3339, not included")] = None,
) -> LogFilter:
    return LogFilter(
        function=function or "",
        version=version or "",
        request_id=request_id or "",
        contains=contains or "",
        stream=stream or "",
        failed=failed,
        since=since,
        until=until,
    )


FilterDependency = Annotated[LogFilter, Depends(_filter)]


@router.get("", response_model=LogPage)
async def list_logs(
    context: ContextDependency, caller: LogReader, wanted: FilterDependency, page: PageDependency
) -> dict[str, Any]:
    """The newest first. Lines are kept as many days as the tier says."""
    async with context.reading() as session:
        newest = await repository.newest_id(session, caller.tenant_id)
        found = await repository.list_lines(session, caller.tenant_id, wanted, page)
    items = [LogLineOut.of(line) for line in found.items]
    return {"items": items, "next_cursor": found.next_cursor, "follow": newest}


@router.get("/follow")
async def follow_logs(
    context: ContextDependency,
    caller: LogReader,
    wanted: FilterDependency,
    after: Annotated[str, Query(pattern="^([0-9a-f]{23})?$", description="`follow` of the answer before")] = "",
    wait_s: Annotated[float, Query(ge=0, le=10, description="How long to wait for the first line")] = 0,
) -> LogNews:
    """The lines that came after, oldest first; waits for them if there are none yet."""
    lines, place = await service.follow(context, caller.tenant_id, wanted, after, wait_s)
    return LogNews(items=[LogLineOut.of(line) for line in lines], follow=place)
