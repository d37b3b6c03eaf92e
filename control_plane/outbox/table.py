"""Builds the complete routing table from SQL, in one snapshot. Called by the relay."""

from collections import defaultdict

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository as auth
from control_plane.functions import repository as functions
from control_plane.models import now
from control_plane.outbox import repository as outbox
from control_plane.tenants import repository as tenants
from gateway.contract.table import Function, Key, Limits, RoutingTable, Tenant, Version


async def build_table(session: AsyncSession, *, newest_count: int) -> RoutingTable:
    """``newest_count``: versions of each function besides those that an alias names."""
    revision = await outbox.current_revision(session)
    aliases: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for alias in await functions.all_aliases(session):
        aliases[alias.function_id][alias.name] = alias.version_id
    function_rows = await functions.all_functions(session)
    function_names = {function.id: function.name for function in function_rows}
    return RoutingTable(
        revision=revision,
        tenants=tuple(
            Tenant(
                id=tenant.id,
                name=tenant.name,
                concurrency_max=tenant.concurrency_max,
                # One that is being deleted is refused like a suspended one, until its data is gone.
                status="active" if tenant.status == "active" else "suspended",
            )
            for tenant in await tenants.served_tenants(session)
        ),
        keys=tuple(
            Key.model_validate(
                {
                    "id": key.id,
                    "sha256": key.sha256,
                    "tenant_id": key.tenant_id,
                    "scopes": key.scopes,
                    "expires_at_s": None if key.expires_at is None else int(key.expires_at.timestamp()),
                }
            )
            for key in await auth.keys_of_tenants(session, now())
        ),
        functions=tuple(
            Function(
                tenant_id=function.tenant_id,
                name=function.name,
                public=function.public,
                aliases=aliases[function.id],
            )
            for function in function_rows
        ),
        versions=tuple(
            Version(
                id=version.id,
                tenant_id=version.tenant_id,
                function=function_names[version.function_id],
                bundle_sha256=version.sha256,
                bundle_bytes=version.bundle_bytes,
                handler=version.handler,
                env=version.env,
                limits=Limits.model_validate(version.limits),
                attempt=version.attempt,
            )
            for version in await functions.versions_for_table(session, newest_count)
        ),
    )
