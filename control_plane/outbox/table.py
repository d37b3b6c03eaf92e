"""Builds the complete routing table from SQL, in one snapshot. Called by the relay."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane import models
from control_plane.auth import repository as auth
from control_plane.auth.sealing import Sealer
from control_plane.auth.tokens import hash_token
from control_plane.billing import repository as billing
from control_plane.functions import repository as functions
from control_plane.functions import trying
from control_plane.models import now
from control_plane.outbox import entitle
from control_plane.outbox import repository as outbox
from control_plane.secrets import service as secrets
from control_plane.tenants import repository as tenants
from control_plane.tiers import service as tiers
from control_plane.tiers.catalog import Tier
from control_plane.tiers.effective import Entitlements, function_limits
from control_plane.tiers.periods import Period, period_of
from gateway.contract.table import Function, Key, Limits, RoutingTable, Tenant, Version

SpendCaps = dict[tuple[str, str], models.SpendCap]
"""By tenant and function; the empty name is the whole tenant."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """What a tenant has, and the month that it is in."""

    subscription: models.Subscription
    held: Entitlements
    period: Period


async def build_table(session: AsyncSession, sealer: Sealer, *, newest_count: int, upgrade_url: str) -> RoutingTable:
    """``newest_count``: versions of each function besides those that an alias names."""
    served = await tenants.served_tenants(session)
    holders = await _holders(session, now())
    sold = await tiers.sold_tiers(session)
    caps: SpendCaps = {(cap.tenant_id, cap.function): cap for cap in await billing.all_spend_caps(session)}
    revision = await outbox.current_revision(session)
    aliases: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for alias in await functions.all_aliases(session):
        aliases[alias.function_id][alias.name] = alias.version_id
    function_rows = await functions.all_functions(session)
    hidden = await secrets.all_values(session, sealer)
    function_names = {function.id: function.name for function in function_rows}
    return RoutingTable(
        revision=revision,
        tenants=tuple(
            _tenant(tenant, holders[tenant.id], sold, caps.get((tenant.id, "")), upgrade_url) for tenant in served
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
        )
        + tuple(_dashboard_key(tenant.id, sealer) for tenant in served),
        functions=tuple(
            Function(
                tenant_id=function.tenant_id,
                name=function.name,
                public=function.public,
                quota=entitle.function_quota(
                    holders[function.tenant_id].held,
                    holders[function.tenant_id].period,
                    caps.get((function.tenant_id, function.name)),
                ),
                aliases=aliases[function.id],
            )
            for function in function_rows
        ),
        versions=tuple(
            _version(
                version,
                function_names[version.function_id],
                holders[version.tenant_id].held,
                sold,
                hidden.get(version.function_id, {}),
            )
            for version in await functions.versions_for_table(session, newest_count)
        ),
    )


def _dashboard_key(tenant_id: str, sealer: Sealer) -> Key:
    """With which the dashboard calls functions for people who are signed in."""
    sha256 = hash_token(trying.token_of(sealer, tenant_id))
    return Key(id=trying.KEY_ID, sha256=sha256, tenant_id=tenant_id, scopes=("invoke",))


async def _holders(session: AsyncSession, at: datetime) -> dict[str, _Holder]:
    return {
        tenant_id: _Holder(subscription, held, period_of(subscription, at))
        for tenant_id, (subscription, held) in (await tiers.entitlements_of_all(session)).items()
    }


def _tenant(
    tenant: models.Tenant, holder: _Holder, sold: Sequence[Tier], cap: models.SpendCap | None, upgrade_url: str
) -> Tenant:
    admission = holder.held.admission
    return Tenant(
        id=tenant.id,
        name=tenant.name,
        concurrency_max=admission.concurrency_max,
        tier=holder.held.tier,
        # Who does not pay is put on the fallback tier, which costs nothing: its calls are served. One that is being
        # deleted is refused like a suspended one until its data is gone.
        status="active" if tenant.status == "active" else "suspended",
        rate_per_s=admission.rate_per_s,
        burst=admission.burst,
        cpu_weight=admission.cpu_weight,
        quota=entitle.tenant_quota(holder.held, holder.period, cap),
        reservation=holder.held.reservation,
        upgrade_url=upgrade_url,
        upgrade=entitle.tenant_upgrades(holder.held, sold),
    )


def _version(
    version: models.Version, function: str, held: Entitlements, sold: Sequence[Tier], hidden: dict[str, str]
) -> Version:
    ask = Limits.model_validate(version.limits)
    return Version.model_validate(
        {
            "id": version.id,
            "tenant_id": version.tenant_id,
            "function": function,
            "bundle_sha256": version.sha256,
            "bundle_bytes": version.bundle_bytes,
            "handler": version.handler,
            "env": {**version.env, **hidden},
            "limits": function_limits(ask, held.invocation),
            "upgrade": entitle.version_upgrades(ask, held, sold),
            "attempt": version.attempt,
        }
    )
