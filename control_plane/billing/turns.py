"""One change of a tenant's subscription at a time: whoever buys, changes, cancels or closes takes a turn.

Called by ``purchasing``. Between what we read from Stripe and what we ask of it lie seconds in which a second tab, a
second click or the deletion of the tenant could do the same: two offers that can both be paid, or two changes that
mix. A turn is a row with an end that its holder keeps moving; who dies holding it delays others by ``HELD_FOR`` only.
What always holds: of two who ask at once one waits, and finds what the other has done.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from control_plane.billing import repository
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import now
from control_plane.problems import Problem

HELD_FOR: Final = timedelta(seconds=10)
_RENEW_S: Final = 3.0
_WAIT_S: Final = 15.0
"""Longer than a dead holder's turn."""
_LOOK_S: Final = 0.05


@asynccontextmanager
async def turn(context: Context, tenant_id: str) -> AsyncIterator[None]:
    """Raises ``conflict``: somebody else has been at it all the while."""
    holder = new_id("trn")
    deadline_s = time.monotonic() + _WAIT_S
    while not await _take(context, tenant_id, holder):
        if time.monotonic() > deadline_s:
            raise Problem("conflict", "The subscription is being changed by somebody else just now; look again.")
        await asyncio.sleep(_LOOK_S)
    renewal = asyncio.create_task(_renew(context, tenant_id, holder))
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        with contextlib.suppress(SQLAlchemyError, OSError):  # then it ends by itself
            async with context.writing() as session:
                await repository.end_turn(session, tenant_id, holder)


async def _take(context: Context, tenant_id: str, holder: str) -> bool:
    at = now()
    async with context.writing() as session:
        return await repository.take_turn(session, tenant_id, holder, at, at + HELD_FOR)


async def _renew(context: Context, tenant_id: str, holder: str) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        with contextlib.suppress(SQLAlchemyError, OSError):  # the next time is early enough
            await _take(context, tenant_id, holder)
