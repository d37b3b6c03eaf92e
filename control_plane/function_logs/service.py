"""Looking at the log and following it. Called by the endpoints and by ``dashboard.log_pages``.

Following is a long poll: the answer comes with the first lines, or empty when the time is over. Those who wait hold no
database connection; they are woken by the consumer of this process and look by themselves now and then, since another
process may have booked the lines.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from control_plane.context import Context
from control_plane.function_logs import repository
from control_plane.function_logs.repository import LogFilter
from control_plane.models import LogLine

NEWS_MAX: Final = 500
LOOK_S: Final = 1.0
FOLLOWERS_MAX: Final = 200
"""Who wait at once; one more is answered at once, and asks again."""


async def follow(
    context: Context, tenant_id: str, wanted: LogFilter, after: str, wait_s: float
) -> tuple[Sequence[LogLine], str]:
    """→ the lines behind ``after``, and the place behind them."""
    deadline_s = time.monotonic() + wait_s
    while True:
        rung = context.log_bell.next()
        async with context.reading() as session:
            newest = await repository.newest_id(session, tenant_id)
            lines = await repository.lines_after(session, tenant_id, wanted, after, NEWS_MAX)
        if lines:
            return lines, lines[-1].id
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or context.log_followers >= FOLLOWERS_MAX:
            return [], max(after, newest)
        context.log_followers += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_S, left_s)):
                    await rung.wait()
        finally:
            context.log_followers -= 1
        after = max(after, newest)
