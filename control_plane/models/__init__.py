"""Every table of the control plane. Imported whole, so that ``Base.metadata`` is complete."""

from control_plane.models.audit import AuditEntry
from control_plane.models.auth import IdempotencyRecord, Key
from control_plane.models.base import Base, now
from control_plane.models.functions import Alias, AliasMove, Function, NodeReport, Version
from control_plane.models.outbox import OutboxRow, RevisionCounter
from control_plane.models.people import Invitation, Link, Mail, Member, Person, RecoveryCode, Session, Throttle
from control_plane.models.tenants import Tenant

__all__ = [
    "Alias",
    "AliasMove",
    "AuditEntry",
    "Base",
    "Function",
    "IdempotencyRecord",
    "Invitation",
    "Key",
    "Link",
    "Mail",
    "Member",
    "NodeReport",
    "OutboxRow",
    "Person",
    "RecoveryCode",
    "RevisionCounter",
    "Session",
    "Tenant",
    "Throttle",
    "Version",
    "now",
]
