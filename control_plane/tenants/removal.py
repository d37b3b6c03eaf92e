"""Removes what belonged to a deleted tenant, after its invocations have had time to end.

A task of ``app``'s lifespan. The deletion itself (``service.ask_deletion``) has put the tenant's end into the table:
gateways admit nothing for it. After ``deletion_drain_time`` this removes keys, functions, versions, members and the
audit log in one transaction, then bundles that no version names any more. What stays is the tenant's row (its name is
never given away again) and what other steps keep: each ``Step`` runs in the same transaction before the data goes, and
may ask for more time, for example until all usage is in and the final invoice is written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import repository as audit
from control_plane.auth import repository as auth
from control_plane.context import Context
from control_plane.function_logs import repository as function_logs
from control_plane.functions import repository as functions
from control_plane.members import repository as members
from control_plane.models import now
from control_plane.outbox import repository as outbox
from control_plane.people import repository as people
from control_plane.secrets import repository as secrets
from control_plane.tenants import repository

log = structlog.get_logger(__name__)

POLL_S: Final = 5.0

Step = Callable[[AsyncSession, str], Awaitable[bool]]
"""(session, tenant id) → whether the tenant's data may go now; else it is asked again in a while."""


class TenantRemover:
    def __init__(self, context: Context, steps: Sequence[Step] = ()) -> None:
        self._context = context
        self._steps = steps

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except (SQLAlchemyError, OSError) as error:
                log.warning("removal-failed", error=type(error).__name__, message=str(error)[:200])
            await asyncio.sleep(min(POLL_S, self._context.settings.deletion_drain_time.total_seconds() + 0.1))

    async def round(self) -> None:
        asked_before = now() - self._context.settings.deletion_drain_time
        async with self._context.reading() as session:
            tenant_ids = await repository.tenants_to_remove(session, asked_before)
        for tenant_id in tenant_ids:
            await self._remove(tenant_id)

    async def _remove(self, tenant_id: str) -> None:
        async with self._context.writing() as session:
            for step in self._steps:
                if not await step(session, tenant_id):
                    return
            sha256s = await functions.bundles_of(session, tenant_id)
            await secrets.delete_of_tenant(session, tenant_id)
            await functions.delete_all(session, tenant_id)
            await function_logs.delete_lines(session, tenant_id)
            await auth.delete_keys(session, tenant_id)
            await auth.delete_idempotency_records(session, tenant_id)
            await auth.leave_tenant(session, tenant_id)
            person_ids = await members.delete_all(session, tenant_id)
            await audit.delete_entries(session, tenant_id)  # before the status changes: the trigger looks at it
            if not await repository.change_status(session, tenant_id, ("deleting",), "deleted", "", now()):
                return  # another control plane was quicker
            for person_id in person_ids:
                await people.delete_if_alone(session, person_id)
            await outbox.append(session, tenant_id, "tenant-deleted", tenant_id)
        for sha256 in sha256s:
            await self._remove_bundle(sha256)
        log.info("tenant-removed", tenant=tenant_id, bundles=len(sha256s))

    async def _remove_bundle(self, sha256: str) -> None:
        """Bundles are named by their content, so two tenants may share one. Should somebody deploy these very bytes
        between the look and the deletion, their version fails with "bundle missing", and deploying again repairs it."""
        async with self._context.reading() as session:
            if await functions.is_bundle_named(session, sha256):
                return
        await self._context.bundles.delete(sha256)
