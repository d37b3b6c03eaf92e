"""Pages of a list: ``?limit=&cursor=`` in, ``next_cursor`` out.

A cursor is the sort value of the last item of a page, in base64 so that nobody builds on it. Called by repositories
(the query) and endpoints (the parameters).
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Query
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from control_plane.problems import Problem

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100
_CURSOR_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class PageRequest:
    limit: int
    after: str | None


@dataclass(frozen=True, slots=True)
class Page[Item]:
    items: Sequence[Item]
    next_cursor: str | None

    def map[Other](self, convert: Callable[[Item], Other]) -> "Page[Other]":
        return Page([convert(item) for item in self.items], self.next_cursor)


def _page_request(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items per page")] = LIMIT_DEFAULT,
    cursor: Annotated[
        str | None, Query(max_length=_CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before")
    ] = None,
) -> PageRequest:
    return PageRequest(limit=limit, after=None if cursor is None else decode_cursor(cursor))


PageDependency = Annotated[PageRequest, Depends(_page_request)]


async def fetch_page[Row](
    session: AsyncSession,
    query: Select[Row],
    column: InstrumentedAttribute[str],
    page: PageRequest,
    *,
    descending: bool = False,
) -> Page[Row]:
    """Ask for one row more than the page holds: it tells whether there is another page."""
    if page.after is not None:
        query = query.where(column < page.after if descending else column > page.after)
    query = query.order_by(column.desc() if descending else column.asc()).limit(page.limit + 1)
    rows = (await session.scalars(query)).all()
    items = rows[: page.limit]
    if len(rows) <= page.limit:
        return Page(items, None)
    return Page(items, encode_cursor(str(getattr(items[-1], column.key))))


def encode_cursor(value: str) -> str:
    """``value``: printable ASCII, at most 150 characters; it comes back as ``PageRequest.after``."""
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        value = ""
    if not value or not value.isprintable():
        raise bad_cursor()
    return value


def bad_cursor() -> Problem:
    return Problem("bad-request", "The cursor is not one of ours; pass next_cursor of the page before, unchanged.")


def page_fields(page: Page[Any]) -> dict[str, Any]:
    return {"items": list(page.items), "next_cursor": page.next_cursor}
