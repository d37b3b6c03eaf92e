"""Puts tiers and subscriptions together for answers. Called by endpoints and the dashboard."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.models import now
from control_plane.problems import Problem
from control_plane.settings import Settings
from control_plane.tiers import repository, service
from control_plane.tiers.periods import period_of
from control_plane.tiers.schemas import AddOnOut, HeldAddOn, SubscriptionOut, TierList, TierOut


async def tier_list(session: AsyncSession) -> TierList:
    tiers = [
        TierOut.model_validate({**version.document, "version": version.number, "currency": version.currency})
        for version in await repository.current_tier_versions(session)
    ]
    add_ons = [
        AddOnOut.model_validate({**version.document, "version": version.number, "currency": version.currency})
        for version in await repository.current_add_on_versions(session)
    ]
    return TierList(tiers=sorted((tier for tier in tiers if tier.sold), key=lambda tier: tier.rank), add_ons=add_ons)


async def subscription_out(session: AsyncSession, settings: Settings, tenant_id: str) -> SubscriptionOut:
    subscription = await service.require_subscription(session, tenant_id)
    version = await repository.get_tier_version(session, subscription.tier_version_id)
    if version is None:
        raise AssertionError(f"{subscription.tier_version_id} has a foreign key on it")
    held = await service.entitlements_of(session, tenant_id)
    period = period_of(subscription, now())
    since = subscription.past_due_since
    return SubscriptionOut.model_validate(
        {
            "tier": held.tier,
            "title": held.title,
            "version": version.number,
            "status": subscription.status,
            "price_minor": version.document["price_minor"],
            "currency": version.currency,
            "add_ons": [
                HeldAddOn(name=add_on.add_on, version=add_on.number, quantity=quantity)
                for add_on, quantity in await repository.list_add_ons(session, tenant_id)
            ],
            "invocation": held.invocation,
            "admission": held.admission,
            "month": held.month,
            "overage": held.overage,
            "reservation": held.reservation,
            "period_start": period.start,
            "period_end": period.end,
            "cancel_at_period_end": subscription.cancel_at_period_end,
            "grace_until": None if since is None else since + settings.payment_grace,
            "upgrade_url": settings.upgrade_url,
            "simulated": settings.stripe_simulated,
        }
    )


@dataclass(frozen=True, slots=True)
class FunctionsMax:
    """How many functions a tenant may have, and what to say when it wants one more."""

    count: int
    refusal: Problem


async def functions_max(session: AsyncSession, tenant_id: str, settings: Settings) -> FunctionsMax:
    """The tier's bound; the server's, if that is lower."""
    held = await service.entitlements_of(session, tenant_id)
    count = held.admission.functions_max
    if settings.functions_per_tenant_max <= count:
        count = settings.functions_per_tenant_max
        detail = f"The tenant has {count} functions, the most allowed; delete one first."
        return FunctionsMax(count, Problem("conflict", detail))
    detail = f"The tenant has {count} functions, the most that the tier {held.title} allows"
    higher = [
        tier
        for tier in await service.sold_tiers(session)
        if tier.rank > held.rank and tier.admission.functions_max > count
    ]
    if not higher:
        return FunctionsMax(count, Problem("conflict", f"{detail}; delete one first."))
    refusal = Problem(
        "tier-limit",
        f"{detail}; {higher[0].title} allows {higher[0].admission.functions_max}. Delete one, or take that tier: "
        f"{settings.upgrade_url}",
        headers={"Link": f'<{settings.upgrade_url}>; rel="payment"'},
        tier=held.tier,
        next_tier=higher[0].name,
        upgrade_url=settings.upgrade_url,
        limit="functions",
        allowed=count,
    )
    return FunctionsMax(count, refusal)
