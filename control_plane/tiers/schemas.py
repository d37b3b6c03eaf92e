"""Tiers and subscriptions as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.tiers.catalog import AddOn, Admission, InvocationLimits, Month, Overage, Tier
from control_plane.tiers.effective import Overrides
from gateway.contract.table import Name, Reservation

SubscriptionStatus = Literal["active", "past_due", "unpaid", "canceled"]


class TierOut(Tier):
    """One tier as it is sold now."""

    version: int
    currency: str


class AddOnOut(AddOn):
    version: int
    currency: str


class TierList(BaseModel):
    """From the lowest up; what is not sold is not here."""

    tiers: list[TierOut]
    add_ons: list[AddOnOut]


class HeldAddOn(BaseModel):
    name: str
    version: int
    quantity: int


class SubscriptionOut(BaseModel):
    tier: str
    title: str
    version: int
    """Of the tier: a later one of the catalogue does not change what was bought."""
    status: SubscriptionStatus
    """``past_due``: an invoice is unpaid, the tier stays until ``grace_until``."""
    price_minor: int
    currency: str
    add_ons: list[HeldAddOn]
    invocation: InvocationLimits
    admission: Admission
    month: Month
    """Included, from ``period_start`` to ``period_end``"""
    overage: Overage | None
    """What more costs; null: calls over what is included are refused."""
    reservation: Reservation | None
    period_start: datetime
    period_end: datetime
    cancel_at_period_end: bool
    grace_until: datetime | None
    upgrade_url: str
    simulated: bool
    """Purchases are simulated here: no money moves."""


class SubscriptionSet(BaseModel):
    """By the operator: absent fields stay as they are."""

    model_config = ConfigDict(extra="forbid")
    tier: Name | None = None
    add_ons: dict[Name, Annotated[int, Field(ge=0, le=1000)]] | None = None
    """Name → quantity; what is not named is taken away."""
    overrides: Overrides | None = None
