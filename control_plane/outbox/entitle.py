"""What of the tiers goes into the routing table: bounds of a tenant, of its functions and of each version.

Called by ``outbox.table``. Pure: everything it needs is passed in. The period's name tells the data plane which month
it counts; it starts from zero when the name changes.
"""

from collections.abc import Mapping, Sequence

from control_plane.models import SpendCap
from control_plane.tiers.catalog import MIB_PER_GIB, Overage, Tier
from control_plane.tiers.effective import Entitlements, next_tier, upgrades
from control_plane.tiers.periods import Period
from gateway.contract.table import Limits, Quota, QuotaName, Spend

MICROS_PER_MINOR = 1_000_000


def tenant_quota(held: Entitlements, period: Period, cap: SpendCap | None) -> Quota:
    """What is included, where the tier stops there; no bound but the spend cap, where more is billed."""
    stops = held.overage is None
    included = _included(held)
    return Quota(
        period=period.name,
        resets_at_s=int(period.end.timestamp()),
        invocations_max=included["invocations"] if stops else None,
        cpu_us_max=included["cpu_us"] if stops else None,
        mib_us_max=included["mib_us"] if stops else None,
        spend=None if held.overage is None else _spend(held.overage, cap, included),
    )


def function_quota(held: Entitlements, period: Period, cap: SpendCap | None) -> Quota | None:
    """A cap on one function counts its usage at list price: what is included belongs to the whole tenant."""
    if held.overage is None or cap is None or cap.action != "stop":
        return None
    nothing = {"invocations": 0, "cpu_us": 0, "mib_us": 0}
    spend = _spend(held.overage, cap, nothing)
    return Quota(period=period.name, resets_at_s=int(period.end.timestamp()), spend=spend)


def tenant_upgrades(held: Entitlements, sold: Sequence[Tier]) -> dict[QuotaName, str]:
    """Bound → the lowest tier above that allows more of it."""
    found: dict[QuotaName, str] = {}
    above = sorted((tier for tier in sold if tier.rank > held.rank), key=lambda tier: tier.rank)
    for name, bound in (("rate", "rate_per_s"), ("concurrency", "concurrency_max")):
        higher = [tier for tier in above if getattr(tier.admission, bound) > getattr(held.admission, bound)]
        if higher:
            found["rate" if name == "rate" else "concurrency"] = higher[0].name
    enough = next_tier(held, sold)
    if enough is not None and held.overage is None:
        found["quota"] = enough.name
    return found


def version_upgrades(ask: Limits, held: Entitlements, sold: Sequence[Tier]) -> Mapping[str, str]:
    """Only the limits that a gateway can name in its refusal."""
    named = ("timeout_ms", "cpu_ms", "memory_bytes", "output_bytes_max")
    return {name: tier for name, tier in upgrades(ask, held, sold).items() if name in named}


def _included(held: Entitlements) -> dict[str, int]:
    return {
        "invocations": held.month.invocations,
        "cpu_us": held.month.cpu_seconds * 1_000_000,
        "mib_us": held.month.gib_seconds * MIB_PER_GIB * 1_000_000,
    }


def _spend(overage: Overage, cap: SpendCap | None, included: Mapping[str, int]) -> Spend | None:
    if cap is None or cap.action != "stop":
        return None
    return Spend(
        cap_micros=cap.amount_minor * MICROS_PER_MINOR,
        included_invocations=included["invocations"],
        included_cpu_us=included["cpu_us"],
        included_mib_us=included["mib_us"],
        micros_per_million_invocations=overage.million_invocations_minor * MICROS_PER_MINOR,
        micros_per_cpu_s=overage.thousand_cpu_seconds_minor * MICROS_PER_MINOR // 1000,
        micros_per_gib_s=overage.million_mib_seconds_minor * MIB_PER_GIB,
    )
