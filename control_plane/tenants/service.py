"""Rules about tenants: a name is unique for ever, only an active tenant is served, deletion is asked for twice."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth import repository as auth_repository
from control_plane.auth import service as auth
from control_plane.auth.permissions import ALL_SCOPES
from control_plane.auth.principal import Actor
from control_plane.ids import new_id
from control_plane.models import Member, Person, Tenant, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem
from control_plane.tenants import repository
from control_plane.tenants.schemas import Status, TenantCreate, TenantCreated, TenantOut
from control_plane.tiers import service as tiers
from control_plane.tiers.effective import Overrides

RESERVED_NAMES: Final = frozenset({"v1", "static", "errors", "webhooks", "healthz", "readyz", "admin", "api", "www"})
"""They would read like our own paths."""
DEFAULT_TIER: Final = "free"
OWNED_MAX: Final = 10
"""Tenants that one person makes for itself."""


async def create_tenant(session: AsyncSession, request: TenantCreate, actor: Actor | None = None) -> TenantCreated:
    """For the operator: with a first key, and no member yet."""
    own = {} if request.concurrency_max is None else {"concurrency_max": request.concurrency_max}
    tenant = await _add_tenant(session, request.name, request.tier, Overrides.model_validate({"admission": own}))
    audit.record(session, tenant.id, actor or audit.system("the operator"), "tenant.created", tenant.name)
    key = await auth.add_key(session, tenant.id, "first key", list(ALL_SCOPES), created_by="the operator")
    return TenantCreated(**(await tenant_out(session, tenant)).model_dump(), key=key)


async def found(session: AsyncSession, name: str, actor: Actor, *, owner: Person) -> Tenant:
    """For a person, who becomes its owner. No key: the owner makes those that are needed."""
    memberships = await auth_repository.memberships_of(session, owner.id)
    if sum(member.role == "owner" for member, _ in memberships) >= OWNED_MAX:
        raise Problem("conflict", f"You own {OWNED_MAX} tenants, the most allowed.")
    tenant = await _add_tenant(session, name, DEFAULT_TIER, Overrides())
    session.add(Member(id=new_id("mem"), tenant_id=tenant.id, person_id=owner.id, role="owner", created_at=now()))
    audit.record(session, tenant.id, actor, "tenant.created", tenant.name)
    await session.flush()
    return tenant


async def check_name_is_free(session: AsyncSession, name: str) -> None:
    errors = [{"field": "tenant", "message": "Is taken: choose another name"}]
    if name in RESERVED_NAMES:
        raise Problem("conflict", f"The name {name!r} is reserved; take another.", errors=errors)
    if await repository.find_tenant_by_name(session, name) is not None:
        raise Problem("conflict", f"There is a tenant {name!r} already; take another name.", errors=errors)


async def _add_tenant(session: AsyncSession, name: str, tier: str, overrides: Overrides) -> Tenant:
    await check_name_is_free(session, name)
    tenant = Tenant(id=new_id("tnt"), name=name, created_at=now(), status="active", status_reason="", status_at=None)
    session.add(tenant)
    await session.flush()
    await tiers.subscribe(session, tenant.id, tier, overrides)
    await outbox.append(session, tenant.id, "tenant-created", tenant.name)
    return tenant


async def set_status(session: AsyncSession, actor: Actor, tenant_id: str, status: Status, reason: str) -> Tenant:
    """The operator suspends or reinstates; gateways know within seconds."""
    tenant = await require_tenant(session, tenant_id)
    if tenant.status == status:
        return tenant
    if not await repository.change_status(session, tenant_id, ("active", "suspended"), status, reason, now()):
        raise Problem("conflict", f"The tenant {tenant.name!r} is {tenant.status}; that is final.")
    action = "tenant.suspended" if status == "suspended" else "tenant.reinstated"
    audit.record(session, tenant_id, actor, action, tenant.name, reason=reason)
    await outbox.append(session, tenant_id, f"tenant-{status}", tenant.name)
    return tenant


async def ask_deletion(session: AsyncSession, actor: Actor, tenant_id: str) -> Tenant:
    """From now on gateways admit nothing for it; ``removal`` does the rest after a while."""
    tenant = await require_tenant(session, tenant_id)
    if tenant.status in ("deleting", "deleted"):
        return tenant
    await repository.change_status(session, tenant_id, ("active", "suspended"), "deleting", "", now())
    audit.record(session, tenant_id, actor, "tenant.deletion-asked", tenant.name)
    await outbox.append(session, tenant_id, "tenant-deleting", tenant.name)
    return tenant


async def require_tenant(session: AsyncSession, tenant_id: str) -> Tenant:
    tenant = await repository.get_tenant(session, tenant_id)
    if tenant is None:
        raise Problem("not-found", f"There is no tenant {tenant_id!r}.")
    return tenant


async def tenant_out(session: AsyncSession, tenant: Tenant) -> TenantOut:
    held = await tiers.entitlements_of(session, tenant.id)
    return TenantOut.model_validate(
        {
            "id": tenant.id,
            "name": tenant.name,
            "tier": held.tier,
            "concurrency_max": held.admission.concurrency_max,
            "created_at": tenant.created_at,
            "status": tenant.status,
            "status_reason": tenant.status_reason,
            "status_at": tenant.status_at,
        }
    )
