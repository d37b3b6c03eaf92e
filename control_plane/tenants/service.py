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
from control_plane.tiers import service as tiers
from control_plane.tiers.effective import Overrides

RESERVED_NAMES = frozenset({"v1", "static", "errors", "webhooks", "healthz", "readyz"})
"""They would read like our own paths."""


async def create_tenant(session: AsyncSession, request: TenantCreate) -> TenantCreated:
    if request.name in RESERVED_NAMES:
        raise Problem("conflict", f"The name {request.name!r} is reserved; take another.")
    if await repository.find_tenant_by_name(session, request.name) is not None:
        raise Problem("conflict", f"There is a tenant {request.name!r} already; take another name.")
    tenant = Tenant(id=new_id("tnt"), name=request.name, created_at=now())
    session.add(tenant)
    await session.flush()
    own = {} if request.concurrency_max is None else {"concurrency_max": request.concurrency_max}
    await tiers.subscribe(session, tenant.id, request.tier, Overrides.model_validate({"admission": own}))
    await outbox.append(session, tenant.id, "tenant-created", tenant.name)
    key = await auth.add_key(session, tenant.id, "first key", list(ALL_SCOPES))
    return TenantCreated(**(await tenant_out(session, tenant)).model_dump(), key=key)


async def tenant_out(session: AsyncSession, tenant: Tenant) -> TenantOut:
    held = await tiers.entitlements_of(session, tenant.id)
    return TenantOut(
        id=tenant.id,
        name=tenant.name,
        tier=held.tier,
        concurrency_max=held.admission.concurrency_max,
        created_at=tenant.created_at,
    )
