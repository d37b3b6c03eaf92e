"""audit_entries: who did what, when, from where. Append-only: triggers refuse changes, and removal while the tenant
is there (migration 0005)."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class AuditEntry(Base):
    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    actor_id: Mapped[str] = mapped_column(String(40))
    """Of a key or a person, or ``operator`` or ``system``."""
    actor: Mapped[str] = mapped_column(String(254))
    """For people: an e-mail address, a key's name."""
    action: Mapped[str] = mapped_column(String(40))
    """``key.created``, ``member.role-changed``, …: a noun and what happened to it."""
    subject: Mapped[str] = mapped_column(String(254))
    """What it happened to, for people."""
    details: Mapped[dict[str, Any]]
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(default=now)
