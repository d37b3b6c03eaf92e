"""Runs the comparison with Stripe in the background: once a day, and when an operator asks; what it found is kept.

A task of ``app``. ``ask`` is called by ``operators.service``; the row that it makes is taken by whichever control plane
is first, so that two never compare at once because of one question. What always holds: a row that was begun is ended,
with what was found or with why it could not be; one whose process died says so.
"""

import asyncio
import contextlib
from dataclasses import asdict
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.reconcile import reconcile
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import Reconciliation, now

log = structlog.get_logger(__name__)

DIFFERENCES_KEPT_MAX: Final = 500
FIRST_AFTER: Final = timedelta(minutes=10)
"""Where there was none yet: a server that has just begun has nothing to compare."""
TAKES_AT_MOST: Final = timedelta(hours=1)


async def ask(session: AsyncSession, asked_by: str) -> Reconciliation:
    """The one that waits or runs already, or a new one."""
    open_one = await repository.open_reconciliation(session)
    if open_one is not None:
        return open_one
    row = Reconciliation(id=new_id("rec"), asked_by=asked_by, asked_at=now(), differences=[], differences_count=0)
    session.add(row)
    await session.flush()
    return row


class Reconciler:
    def __init__(self, context: Context, client: StripeClient) -> None:
        self._context = context
        self._client = client
        self._began_at = now()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._context.reconcile_bell.clear()
            try:
                await self.round()
            except (SQLAlchemyError, OSError) as error:
                log.warning("reconciliation-failed", error=type(error).__name__, message=str(error)[:200])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.settings.billing_interval.total_seconds()):
                    await self._context.reconcile_bell.wait()

    async def round(self) -> None:
        async with self._context.reading() as session:
            last = await repository.last_reconciliation(session)
        at = now()
        if last is None or last.ended_at is not None:
            due_at = self._began_at + FIRST_AFTER if last is None else last.asked_at + self._interval
            if at >= due_at:
                async with self._context.writing() as session:
                    await ask(session, "Tailcut")
        elif last.started_at is not None:
            if at - last.started_at > TAKES_AT_MOST:
                await self._end(last.id, [], "The control plane ended while it compared; ask again.")
            return
        async with self._context.writing() as session:
            taken = await repository.take_reconciliation(session, now())
        if taken is not None:
            await self._compare(taken)

    @property
    def _interval(self) -> timedelta:
        return self._context.settings.reconcile_interval

    async def _compare(self, row_id: str) -> None:
        error: str | None = None
        found: list[dict[str, str]] = []
        try:
            found = [asdict(each) for each in await reconcile(self._context, self._client)]
        except (StripeAway, StripeRefused) as problem:
            error = f"{type(problem).__name__}: {problem}"[:1000]
        await self._end(row_id, found, error)
        log.info("reconciled", differences=len(found), error=error)

    async def _end(self, row_id: str, found: list[dict[str, str]], error: str | None) -> None:
        async with self._context.writing() as session:
            kept = found[:DIFFERENCES_KEPT_MAX]
            await repository.end_reconciliation(session, row_id, now(), kept, len(found), error)
