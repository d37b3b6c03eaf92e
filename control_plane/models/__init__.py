"""Every table of the control plane. Imported whole, so that ``Base.metadata`` is complete."""

from control_plane.models.auth import IdempotencyRecord, Key, Session
from control_plane.models.base import Base, now
from control_plane.models.billing import (
    BillingNote,
    Invoice,
    MeterCarry,
    MeterEvent,
    Purchase,
    SpendCap,
    StripeEvent,
    StripeObject,
)
from control_plane.models.functions import Alias, AliasMove, Function, NodeReport, Version
from control_plane.models.outbox import OutboxRow, RevisionCounter
from control_plane.models.tenants import Tenant
from control_plane.models.tiers import AddOnVersion, Subscription, SubscriptionAddOn, TierVersion
from control_plane.models.usage import UsageHour, UsageHourly

__all__ = [
    "AddOnVersion",
    "Alias",
    "AliasMove",
    "Base",
    "BillingNote",
    "Function",
    "IdempotencyRecord",
    "Invoice",
    "Key",
    "MeterCarry",
    "MeterEvent",
    "NodeReport",
    "OutboxRow",
    "Purchase",
    "RevisionCounter",
    "Session",
    "SpendCap",
    "StripeEvent",
    "StripeObject",
    "Subscription",
    "SubscriptionAddOn",
    "Tenant",
    "TierVersion",
    "UsageHour",
    "UsageHourly",
    "Version",
    "now",
]
