"""The audit log as JSON."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from control_plane.models import AuditEntry


class AuditActor(BaseModel):
    id: str
    """Of a key or a person, or ``operator`` or ``system``."""
    label: str


class AuditEntryOut(BaseModel):
    id: str
    at: datetime
    actor: AuditActor
    action: str
    subject: str
    details: dict[str, Any]
    address: str
    """The network address that the request came from; empty for background steps."""
    request_id: str

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditEntryOut":
        return cls(
            id=entry.id,
            at=entry.at,
            actor=AuditActor(id=entry.actor_id, label=entry.actor),
            action=entry.action,
            subject=entry.subject,
            details=entry.details,
            address=entry.address,
            request_id=entry.request_id,
        )


class AuditPage(BaseModel):
    items: list[AuditEntryOut]
    next_cursor: str | None
