"""Deletes usage records that are older than their tenant's tier keeps logs; hours stay, they are what is billed.

A task of ``process``. Records of deleted tenants go at once. In small transactions, so that whoever else writes waits
for none of them for long.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database import Database
from control_plane.models import now
from control_plane.tenants import repository as tenants
from control_plane.tiers import service as tiers
from control_plane.usage import repository

log = structlog.get_logger(__name__)

EVERY_S: Final = 1800.0
_FIRST_S: Final = 60.0
"""After the start, which has better things to do."""
_ROWS_MAX: Final = 2000
_BREATH_S: Final = 0.05


class Retention:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(_FIRST_S)
        while True:
            try:
                await self.round(now())
            except (SQLAlchemyError, OSError) as error:
                log.warning("usage-retention-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(EVERY_S)

    async def round(self, at: datetime) -> int:
        """→ how many records were deleted."""
        async with self._database.reading() as session:
            held = await tiers.entitlements_of_all(session)
            gone = await tenants.deleted_tenants(session)
        days = {tenant_id: each.admission.log_retention_days for tenant_id, (_, each) in held.items()}
        days |= dict.fromkeys(gone, 0)
        deleted = 0
        for tenant_id, count in days.items():
            deleted += await self._delete(tenant_id, at - timedelta(days=count))
        if deleted:
            log.info("usage-records-expired", count=deleted)
        return deleted

    async def _delete(self, tenant_id: str, before: datetime) -> int:
        deleted = 0
        while True:
            async with self._database.writing() as session:
                count = await repository.delete_records(session, tenant_id, before, _ROWS_MAX)
            deleted += count
            if count < _ROWS_MAX:
                return deleted
            await asyncio.sleep(_BREATH_S)
