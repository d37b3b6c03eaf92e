"""Every table of the control plane. Imported whole, so that ``Base.metadata`` is complete."""

from control_plane.models.alerts import UsageAlert, UsageAlertDelivery, UsageAlertSettings
from control_plane.models.audit import AuditEntry
from control_plane.models.auth import IdempotencyRecord, Key
from control_plane.models.base import Base, now
from control_plane.models.billing import (
    BillingNote,
    BillingTurn,
    Invoice,
    MeterCarry,
    MeterEvent,
    Purchase,
    SpendCap,
    StripeEvent,
    StripeObject,
)
from control_plane.models.functions import Alias, AliasMove, Function, NodeReport, Version
from control_plane.models.logs import LogLine, LogReader
from control_plane.models.operators import OperatorEntry, Reconciliation
from control_plane.models.outbox import OutboxRow, RevisionCounter
from control_plane.models.people import Invitation, Link, Mail, Member, Person, RecoveryCode, Session, Throttle
from control_plane.models.records import UsageDeadLetter, UsageRecordRow, UsageStream, UsageVersion
from control_plane.models.secrets import Secret
from control_plane.models.shapes import UsageMinutes, UsageShape
from control_plane.models.tenants import Tenant
from control_plane.models.tiers import AddOnVersion, Subscription, SubscriptionAddOn, TierVersion
from control_plane.models.usage import UsageHour, UsageHourly

__all__ = [
    "AddOnVersion",
    "Alias",
    "AliasMove",
    "AuditEntry",
    "Base",
    "BillingNote",
    "BillingTurn",
    "Function",
    "IdempotencyRecord",
    "Invitation",
    "Invoice",
    "Key",
    "Link",
    "LogLine",
    "LogReader",
    "Mail",
    "Member",
    "MeterCarry",
    "MeterEvent",
    "NodeReport",
    "OperatorEntry",
    "OutboxRow",
    "Person",
    "Purchase",
    "Reconciliation",
    "RecoveryCode",
    "RevisionCounter",
    "Secret",
    "Session",
    "SpendCap",
    "StripeEvent",
    "StripeObject",
    "Subscription",
    "SubscriptionAddOn",
    "Tenant",
    "Throttle",
    "TierVersion",
    "UsageAlert",
    "UsageAlertDelivery",
    "UsageAlertSettings",
    "UsageDeadLetter",
    "UsageHour",
    "UsageHourly",
    "UsageMinutes",
    "UsageRecordRow",
    "UsageShape",
    "UsageStream",
    "UsageVersion",
    "Version",
    "now",
]
