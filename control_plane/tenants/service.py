"""Rules about tenants: a name is unique, and a new tenant has a key that may do everything."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import service as auth
from control_plane.auth.principal import ALL_SCOPES
from control_plane.ids import new_id
from control_plane.models import Tenant, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem
from control_plane.tenants import repository
from control_plane.tenants.schemas import TenantCreate, TenantCreated, TenantOut

RESERVED_NAMES = frozenset({"v1", "static", "errors", "webhooks", "healthz", "readyz"})
"""They would read like our own paths."""


async def create_tenant(session: AsyncSession, request: TenantCreate) -> TenantCreated:
    if request.name in RESERVED_NAMES:
        raise Problem("conflict", f"The name {request.name!r} is reserved; take another.")
    if await repository.find_tenant_by_name(session, request.name) is not None:
        raise Problem("conflict", f"There is a tenant {request.name!r} already; take another name.")
    tenant = Tenant(id=new_id("tnt"), name=request.name, concurrency_max=request.concurrency_max, created_at=now())
    session.add(tenant)
    await session.flush()
    await outbox.append(session, tenant.id, "tenant-created", tenant.name)
    key = await auth.add_key(session, tenant.id, "first key", list(ALL_SCOPES))
    return TenantCreated(**tenant_out(tenant).model_dump(), key=key)


def tenant_out(tenant: Tenant) -> TenantOut:
    return TenantOut(
        id=tenant.id, name=tenant.name, concurrency_max=tenant.concurrency_max, created_at=tenant.created_at
    )
