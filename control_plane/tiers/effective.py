"""What a tenant may use: its tier's version, plus add-ons, with what an operator has set on top. Pure functions.

Called by ``service`` (for answers) and ``outbox.table`` (for gateways). ``function_limits`` is the smaller of tier
and function; ``upgrades`` names, for each limit that the tier cuts, the lowest tier that would grant the whole of what
the function asks for. A tier that would grant only a part of it is not named: it might not be enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from control_plane.tiers.catalog import AddOn, Admission, InvocationLimits, Month, Overage, Tier, bounds_of
from gateway.contract.table import Limits, Reservation

_WORKERS_MAX = bounds_of(Reservation, "workers_max")[1]

InvocationName = Literal[
    "timeout_ms", "cpu_ms", "memory_bytes", "tmp_bytes", "request_bytes_max", "output_bytes_max", "log_bytes_max",
    "processes_max", "open_files_max", "network_connections_max", "network_bytes_per_minute",
]  # fmt: skip
AdmissionName = Literal["rate_per_s", "burst", "concurrency_max", "functions_max", "cpu_weight", "log_retention_days"]
MonthName = Literal["invocations", "cpu_seconds", "gib_seconds"]


class Overrides(BaseModel):
    """Set by an operator for one tenant; absent: as the tier says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    invocation: dict[InvocationName, StrictInt] = {}
    admission: dict[AdmissionName, StrictInt] = {}
    month: dict[MonthName, StrictInt] = {}
    reserved_workers: int | None = Field(default=None, ge=0, le=64)


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What holds for a tenant right now."""

    tier: str
    title: str
    rank: int
    invocation: InvocationLimits
    admission: Admission
    month: Month
    overage: Overage | None
    reservation: Reservation | None


def entitlements(tier: Tier, add_ons: Iterable[tuple[AddOn, int]], overrides: Overrides) -> Entitlements:
    """``add_ons``: with their quantities. Raises ValidationError when an override is out of its bounds."""
    pieces = [(add_on.grants, quantity) for add_on, quantity in add_ons]
    concurrency = tier.admission.concurrency_max + sum(grants.concurrency * quantity for grants, quantity in pieces)
    admission = tier.admission.model_dump() | {"concurrency_max": min(concurrency, 65_536)} | dict(overrides.admission)
    reservation = tier.reservation
    if reservation is not None:
        workers = reservation.workers_max + sum(grants.reserved_workers * quantity for grants, quantity in pieces)
        if overrides.reserved_workers is not None:
            workers = overrides.reserved_workers
        workers = min(workers, _WORKERS_MAX)
        reservation = reservation.model_copy(update={"workers_max": workers}) if workers else None
    return Entitlements(
        tier=tier.name,
        title=tier.title,
        rank=tier.rank,
        invocation=_with(tier.invocation, overrides.invocation),
        admission=Admission.model_validate(admission),
        month=_with(tier.month, overrides.month),
        overage=tier.overage,
        reservation=reservation,
    )


def function_limits(ask: Limits, allowed: InvocationLimits) -> Limits:
    """The smaller of both, limit by limit."""
    bounds = allowed.model_dump()
    cut = {name: min(value, bounds[name]) for name, value in ask.model_dump().items() if name in bounds}
    return ask.model_copy(update=cut)


def upgrades(ask: Limits, held: Entitlements, sold: Sequence[Tier]) -> dict[str, str]:
    """Limit → the lowest of the tiers in ``sold`` above the held one that grants all that the function asks."""
    allowed = held.invocation.model_dump()
    found: dict[str, str] = {}
    for name, wanted in ask.model_dump().items():
        if name.startswith("network_") and not ask.network:
            continue  # it asks for none of it
        if name in allowed and wanted > allowed[name]:
            enough = [tier for tier in sold if tier.rank > held.rank and getattr(tier.invocation, name) >= wanted]
            if enough:
                found[name] = min(enough, key=lambda tier: tier.rank).name
    return found


def next_tier(held: Entitlements, sold: Sequence[Tier]) -> Tier | None:
    """The lowest one above that includes more of the month than the held one, or charges for more."""
    for tier in sorted(sold, key=lambda tier: tier.rank):
        more = tier.overage is not None or any(
            getattr(tier.month, name) > value for name, value in held.month.model_dump().items()
        )
        if tier.rank > held.rank and more:
            return tier
    return None


def _with[Part: BaseModel](part: Part, changes: Mapping[Any, int]) -> Part:
    return type(part).model_validate({**part.model_dump(), **changes})
