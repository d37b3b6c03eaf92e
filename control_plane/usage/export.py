"""Usage as CSV, streamed: a month of a busy tenant is never whole in memory. Called by endpoints and the usage page.

Rows are read a day (hours) or a page (invocations) at a time, each with a snapshot of its own, so a slow reader holds
no transaction open. Cells are numbers, times and names that we made ourselves: none can begin a spreadsheet's formula.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from fastapi.responses import StreamingResponse

from control_plane.context import Context
from control_plane.pagination import PageRequest, decode_cursor
from control_plane.usage import service
from control_plane.usage.history import DAY, floor_day
from control_plane.usage.interval import Interval
from control_plane.usage.schemas import InvocationOut, numbers_of
from control_plane.usage.views import Usage

_PAGE_ROWS: Final = 1000
_HOUR_COLUMNS: Final = ("hour", "function", "version", *numbers_of(Usage()))
_INVOCATION_COLUMNS: Final = tuple(InvocationOut.model_fields)


def response(lines: AsyncIterator[str], interval: Interval, rows: str) -> StreamingResponse:
    name = f"tailcut-usage-{rows}-{interval.since:%Y-%m-%d}-{interval.until:%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines, media_type="text/csv", headers=headers)


def lines(
    context: Context, tenant_id: str, interval: Interval, rows: str, function: str | None = None
) -> AsyncIterator[str]:
    """``rows``: ``hours`` or ``invocations``. The header first."""
    if rows == "hours":
        return _hours(context, tenant_id, interval, function)
    return _invocations(context, tenant_id, interval, function)


async def _hours(context: Context, tenant_id: str, interval: Interval, function: str | None) -> AsyncIterator[str]:
    yield _line(_HOUR_COLUMNS)
    since = interval.since
    while since < interval.until:
        until = min(floor_day(since) + DAY, interval.until)
        async with context.reading() as session:
            found = [row async for row in service.hour_rows(session, tenant_id, Interval(since, until), function)]
        if found:
            yield "".join(
                _line([row.hour.isoformat(), row.function, row.version_id, *numbers_of(row.usage).values()])
                for row in found
            )
        since = until


async def _invocations(
    context: Context, tenant_id: str, interval: Interval, function: str | None
) -> AsyncIterator[str]:
    yield _line(_INVOCATION_COLUMNS)
    after: str | None = None
    while True:
        page = PageRequest(limit=_PAGE_ROWS, after=after)
        async with context.reading() as session:
            found, cursor = await service.invocation_page(session, tenant_id, interval, page, function=function)
        yield "".join(_line(_cells(InvocationOut.of(row).model_dump(mode="json"))) for row in found)
        if cursor is None:
            return
        after = decode_cursor(cursor)


def _cells(row: dict[str, Any]) -> Iterable[Any]:
    return (str(value).lower() if isinstance(value, bool) else value for value in row.values())


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
