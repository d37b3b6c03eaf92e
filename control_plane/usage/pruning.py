"""Forgets what is too fine to keep: hours' shapes and minutes after a while, everything of a tenant that ends.

``Pruner`` is a task of ``app``; ``forget_tenant`` a step of ``tenants.removal``. The ledger (``usage_hourly``) stays:
invoices were made of it.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.context import Context
from control_plane.models import UsageMinutes, UsageShape, now

log = structlog.get_logger(__name__)

HOURS_KEPT: Final = timedelta(days=40)
_EVERY_S: Final = 3600.0


class Pruner:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except (SQLAlchemyError, OSError) as error:
                log.warning("pruning-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(_EVERY_S)

    async def round(self) -> None:
        async with self._context.writing() as session:
            await forget_hours(session, now() - HOURS_KEPT)


async def forget_hours(session: AsyncSession, before: datetime) -> None:
    await session.execute(delete(UsageShape).where(UsageShape.span == "hour", UsageShape.start < before))
    await session.execute(delete(UsageMinutes).where(UsageMinutes.hour < before))


async def forget_tenant(session: AsyncSession, tenant_id: str) -> bool:
    await session.execute(delete(UsageShape).where(UsageShape.tenant_id == tenant_id))
    await session.execute(delete(UsageMinutes).where(UsageMinutes.tenant_id == tenant_id))
    return True
