"""usage_alert_settings: what a tenant wants to be told; usage_alerts: what it was told; and deliveries to its webhook.

Written by ``control_plane.alerts``. The unique key of ``usage_alerts`` is what makes an alert happen once.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now

DELIVERY_STATES = ("waiting", "delivered", "failed")


class UsageAlertSettings(Base):
    """No row: the defaults."""

    __tablename__ = "usage_alert_settings"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    thresholds: Mapped[dict[str, Any]]
    """``alerts.rules.Thresholds``"""
    emails: Mapped[bool]
    """To owners and billing members."""
    webhook_url: Mapped[str | None] = mapped_column(String(2000))
    webhook_secret_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class UsageAlert(Base):
    """A threshold was reached. ``allowed`` is in the key: 80 % of a larger quota is another threshold."""

    __tablename__ = "usage_alerts"
    __table_args__ = (
        UniqueConstraint("tenant_id", "subject", "period_start", "percent", "allowed"),
        Index("ix_usage_alerts_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    subject: Mapped[str] = mapped_column(String(80))
    """A meter, ``spend``, ``spend:FUNCTION`` or ``errors``"""
    period_start: Mapped[datetime]
    """Of the quota's period; of ``errors`` the day"""
    percent: Mapped[int]
    allowed: Mapped[int]
    """In the subject's unit: the meter's, minor units of money, percent"""
    used: Mapped[int]
    """When it was noticed"""
    created_at: Mapped[datetime] = mapped_column(default=now)


class UsageAlertDelivery(Base):
    """An alert (or a test) on its way to a tenant's webhook."""

    __tablename__ = "usage_alert_deliveries"
    __table_args__ = (
        CheckConstraint(f"state in {DELIVERY_STATES}", name="state"),
        Index("ix_usage_alert_deliveries_state_due_at", "state", "due_at"),
        Index("ix_usage_alert_deliveries_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """The alert's; receivers tell repetitions by it."""
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    body: Mapped[str] = mapped_column(Text)
    """As it is signed and sent"""
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    attempts_count: Mapped[int] = mapped_column(default=0)
    last_answer: Mapped[str] = mapped_column(String(200), default="")
    """A status, or why there was none"""
    due_at: Mapped[datetime] = mapped_column(default=now)
    created_at: Mapped[datetime] = mapped_column(default=now)
