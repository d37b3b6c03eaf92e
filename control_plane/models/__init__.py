"""Every table of the control plane. Imported whole, so that ``Base.metadata`` is complete."""

from control_plane.models.auth import IdempotencyRecord, Key, Session
from control_plane.models.base import Base, now
from control_plane.models.functions import Alias, AliasMove, Function, NodeReport, Version
from control_plane.models.outbox import OutboxRow, RevisionCounter
from control_plane.models.tenants import Tenant

__all__ = [
    "Alias",
    "AliasMove",
    "Base",
    "Function",
    "IdempotencyRecord",
    "Key",
    "NodeReport",
    "OutboxRow",
    "RevisionCounter",
    "Session",
    "Tenant",
    "Version",
    "now",
]
