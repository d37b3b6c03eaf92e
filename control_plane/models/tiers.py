"""tier_versions, add_on_versions, and what each tenant has of them (subscriptions)."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now

SUBSCRIPTION_STATES = ("active", "past_due", "unpaid", "canceled")


class TierVersion(Base):
    """What the catalogue once said about a tier. Never changed: those who bought it keep it."""

    __tablename__ = "tier_versions"
    __table_args__ = (UniqueConstraint("tier", "number"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tier: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    """1, 2, … of the tier"""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the document."""
    currency: Mapped[str] = mapped_column(String(3))
    document: Mapped[dict[str, Any]]
    """``tiers.catalog.Tier``"""
    current: Mapped[bool] = mapped_column(default=True)
    """Whether the catalogue says this now."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class AddOnVersion(Base):
    """The same of an add-on."""

    __tablename__ = "add_on_versions"
    __table_args__ = (UniqueConstraint("add_on", "number"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    add_on: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    currency: Mapped[str] = mapped_column(String(3))
    document: Mapped[dict[str, Any]]
    current: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Subscription(Base):
    """What a tenant has now; every tenant has exactly one. Stripe's word about it is copied here by ``billing``."""

    __tablename__ = "subscriptions"
    __table_args__ = (CheckConstraint(f"status in {SUBSCRIPTION_STATES}", name="status"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    tier_version_id: Mapped[str] = mapped_column(ForeignKey("tier_versions.id"))
    """In force: what gateways enforce."""
    status: Mapped[str] = mapped_column(String(16), default="active")
    overrides: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Limits that an operator set for this tenant: ``tiers.effective.Overrides``"""
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    """Of the paid month. None: calendar months in UTC."""
    cancel_at_period_end: Mapped[bool] = mapped_column(default=False)
    past_due_since: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(Text)
    """What a person should look at, e.g. a second subscription of the same customer."""
    stripe_customer_id: Mapped[str | None] = mapped_column(String(255), unique=True)
    stripe_subscription_id: Mapped[str | None] = mapped_column(String(255))
    sync_number: Mapped[int] = mapped_column(default=0)
    """Rises with each copy of Stripe's state: a slow reader of an older state does not overwrite a newer one."""
    updated_at: Mapped[datetime] = mapped_column(default=now)


class SubscriptionAddOn(Base):
    __tablename__ = "subscription_add_ons"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("subscriptions.tenant_id"), primary_key=True)
    add_on_version_id: Mapped[str] = mapped_column(ForeignKey("add_on_versions.id"), primary_key=True)
    quantity: Mapped[int]
