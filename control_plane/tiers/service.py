"""Rules about tiers: the catalogue becomes versions in SQL, and each tenant has one of them.

Called by ``migrate`` (``sync_catalog``), by whoever makes tenants (``subscribe``), by ``billing`` (``put_on_tier``, on
Stripe's word) and by the endpoints. What always holds: a version in SQL is never changed; a change of what a tenant
may use ends with a row in the outbox, so that gateways enforce it as soon as they have the next table.
"""

from collections.abc import Mapping, Sequence

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth.principal import Actor
from control_plane.ids import new_id
from control_plane.models import AddOnVersion, Subscription, SubscriptionAddOn, TierVersion, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem, not_found
from control_plane.tiers import repository
from control_plane.tiers.catalog import AddOn, Catalog, Tier, content_hash
from control_plane.tiers.effective import Entitlements, Overrides, entitlements
from control_plane.tiers.schemas import SubscriptionSet

log = structlog.get_logger(__name__)

DEVELOPMENT_TENANT = "dev"
"""Whom `tailcut-server up` makes; gateway/supervisor/welcome.py."""


async def sync_catalog(session: AsyncSession, catalog: Catalog) -> None:
    """Make new versions of what has changed in the file. Tenants without a subscription get one.

    Repeating it changes nothing.
    """
    await _sync_tiers(session, catalog)
    await _sync_add_ons(session, catalog)
    await session.flush()
    tenants = await repository.tenants_without_subscription(session)
    for tenant in tenants:
        name = catalog.development_tier if tenant.name == DEVELOPMENT_TENANT else catalog.default_tier
        await subscribe(session, tenant.id, name)
    if tenants:
        await outbox.append(session, tenants[0].id, "tiers-assigned", f"{len(tenants)} tenants")


async def _sync_tiers(session: AsyncSession, catalog: Catalog) -> None:
    held: dict[str, list[TierVersion]] = {}
    for version in await repository.all_tier_versions(session):
        held.setdefault(version.tier, []).append(version)
    for tier in catalog.tiers:
        versions, sha256 = held.pop(tier.name, []), content_hash(tier)
        if any(version.current and version.sha256 == sha256 for version in versions):
            continue
        await repository.retire_tier_versions(session, tier.name)
        number = versions[-1].number + 1 if versions else 1
        session.add(
            TierVersion(
                id=new_id("tv"),
                tier=tier.name,
                number=number,
                sha256=sha256,
                currency=catalog.currency,
                document=tier.model_dump(mode="json"),
                current=True,
                created_at=now(),
            )
        )
        log.info("tier-version-made", tier=tier.name, number=number)
    for name in held:
        await repository.retire_tier_versions(session, name)


async def _sync_add_ons(session: AsyncSession, catalog: Catalog) -> None:
    held: dict[str, list[AddOnVersion]] = {}
    for version in await repository.all_add_on_versions(session):
        held.setdefault(version.add_on, []).append(version)
    for add_on in catalog.add_ons:
        versions, sha256 = held.pop(add_on.name, []), content_hash(add_on)
        if any(version.current and version.sha256 == sha256 for version in versions):
            continue
        await repository.retire_add_on_versions(session, add_on.name)
        session.add(
            AddOnVersion(
                id=new_id("av"),
                add_on=add_on.name,
                number=versions[-1].number + 1 if versions else 1,
                sha256=sha256,
                currency=catalog.currency,
                document=add_on.model_dump(mode="json"),
                current=True,
                created_at=now(),
            )
        )
    for name in held:
        await repository.retire_add_on_versions(session, name)


async def subscribe(
    session: AsyncSession, tenant_id: str, tier: str, overrides: Overrides | None = None
) -> Subscription:
    """The first subscription of a new tenant; the caller writes the outbox row."""
    version = await require_tier(session, tier)
    subscription = Subscription(
        tenant_id=tenant_id,
        tier_version_id=version.id,
        status="active",
        overrides=overrides.model_dump(mode="json") if overrides is not None else {},
        cancel_at_period_end=False,
        sync_number=0,
        updated_at=now(),
    )
    session.add(subscription)
    await session.flush()
    return subscription


async def put_on_tier(
    session: AsyncSession, subscription: Subscription, version: TierVersion, add_ons: Mapping[str, int]
) -> bool:
    """The tier's version and the add-ons (version id → quantity) hold from now on. False: they did already."""
    held = {add_on.id: quantity for add_on, quantity in await repository.list_add_ons(session, subscription.tenant_id)}
    if subscription.tier_version_id == version.id and held == dict(add_ons):
        return False
    for version_id in held.keys() - add_ons.keys():
        row = await session.get(SubscriptionAddOn, (subscription.tenant_id, version_id))
        await session.delete(row)
    for version_id, quantity in add_ons.items():
        row = await session.get(SubscriptionAddOn, (subscription.tenant_id, version_id))
        if row is None:
            row = SubscriptionAddOn(tenant_id=subscription.tenant_id, add_on_version_id=version_id)
            session.add(row)
        row.quantity = quantity
    subscription.tier_version_id = version.id
    subscription.updated_at = now()
    await outbox.append(session, subscription.tenant_id, "tier-changed", f"{version.tier} v{version.number}")
    return True


async def set_by_operator(session: AsyncSession, actor: Actor, tenant_id: str, request: SubscriptionSet) -> None:
    subscription = await require_subscription(session, tenant_id)
    if subscription.stripe_subscription_id is not None and (request.tier is not None or request.add_ons is not None):
        raise Problem(
            "conflict",
            f"The tenant pays for its tier ({subscription.stripe_subscription_id}); cancel that first, or set limits "
            "of its own (overrides).",
        )
    held = await repository.get_tier_version(session, subscription.tier_version_id)
    version = held if request.tier is None else await require_tier(session, request.tier)
    if version is None:
        raise not_found("tier version", subscription.tier_version_id)
    add_ons = {add_on.id: quantity for add_on, quantity in await repository.list_add_ons(session, tenant_id)}
    if request.add_ons is not None:
        add_ons = await require_add_ons(session, Tier.model_validate(version.document), request.add_ons)
    if await put_on_tier(session, subscription, version, add_ons):
        audit.record(session, tenant_id, actor, "tier.changed", version.tier, number=version.number)
    if request.overrides is not None:
        subscription.overrides = request.overrides.model_dump(mode="json", exclude_defaults=True)
        subscription.updated_at = now()
        await session.flush()
        try:
            await entitlements_of(session, tenant_id)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise Problem("invalid-request", f"The override of {name} is out of its bounds: {first['msg']}.") from None
        audit.record(session, tenant_id, actor, "limits.overridden", "the tenant", **subscription.overrides)
        await outbox.append(session, tenant_id, "limits-overridden", tenant_id)


async def require_add_ons(session: AsyncSession, tier: Tier, wanted: Mapping[str, int]) -> dict[str, int]:
    """Name → quantity becomes version id → quantity. A problem says what cannot be had with the tier."""
    found: dict[str, int] = {}
    for name, quantity in wanted.items():
        version = await repository.find_current_add_on(session, name)
        if version is None:
            names = ", ".join(each.add_on for each in await repository.current_add_on_versions(session))
            raise Problem("not-found", f"There is no add-on {name!r}; there are {names}.")
        add_on = AddOn.model_validate(version.document)
        if quantity and tier.name not in add_on.tiers:
            raise Problem(
                "conflict",
                f"The add-on {name!r} comes with {', '.join(add_on.tiers)}, not with {tier.name!r}.",
            )
        if quantity > add_on.quantity_max:
            raise Problem(
                "invalid-request", f"{quantity} of the add-on {name!r}; at most {add_on.quantity_max} can be had."
            )
        if quantity:
            found[version.id] = quantity
    return found


async def entitlements_of(session: AsyncSession, tenant_id: str) -> Entitlements:
    subscription = await require_subscription(session, tenant_id)
    version = await repository.get_tier_version(session, subscription.tier_version_id)
    if version is None:
        raise not_found("tier version", subscription.tier_version_id)
    add_ons = await repository.list_add_ons(session, tenant_id)
    return entitlements(
        Tier.model_validate(version.document),
        [(AddOn.model_validate(each.document), quantity) for each, quantity in add_ons],
        Overrides.model_validate(subscription.overrides),
    )


async def entitlements_of_all(session: AsyncSession) -> dict[str, tuple[Subscription, Entitlements]]:
    """By tenant, for the routing table. Few versions, many tenants: each document is read once."""
    tiers = {
        version.id: Tier.model_validate(version.document) for version in await repository.all_tier_versions(session)
    }
    add_ons = {
        version.id: AddOn.model_validate(version.document) for version in await repository.all_add_on_versions(session)
    }
    held: dict[str, list[tuple[AddOn, int]]] = {}
    for row in await repository.all_subscription_add_ons(session):
        held.setdefault(row.tenant_id, []).append((add_ons[row.add_on_version_id], row.quantity))
    return {
        subscription.tenant_id: (
            subscription,
            entitlements(
                tiers[subscription.tier_version_id],
                held.get(subscription.tenant_id, ()),
                Overrides.model_validate(subscription.overrides),
            ),
        )
        for subscription in await repository.all_subscriptions(session)
    }


async def sold_tiers(session: AsyncSession) -> Sequence[Tier]:
    """What can be bought now, from the lowest up."""
    tiers = [Tier.model_validate(version.document) for version in await repository.current_tier_versions(session)]
    return sorted((tier for tier in tiers if tier.sold), key=lambda tier: tier.rank)


async def require_tier(session: AsyncSession, name: str) -> TierVersion:
    version = await repository.find_current_tier(session, name)
    if version is None:
        names = ", ".join(each.tier for each in await repository.current_tier_versions(session))
        raise Problem("not-found", f"There is no tier {name!r}; the tiers are {names}.")
    return version


async def require_subscription(session: AsyncSession, tenant_id: str) -> Subscription:
    subscription = await repository.find_subscription(session, tenant_id)
    if subscription is None:
        raise not_found("subscription", tenant_id)
    return subscription
