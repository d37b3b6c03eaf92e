"""What passes between us and Stripe: objects made from the catalogue, purchases, events, meter events, invoices.

Money is in integer minor units of ``currency``. Rows about money carry the tenant's id without a foreign key: they
outlive the tenant.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now

EVENT_STATES = ("stored", "handled", "ignored", "failed")
METER_EVENT_STATES = ("new", "sending", "acknowledged", "unbilled", "ambiguous", "refused")
PURCHASE_STATES = ("started", "offered", "completed", "expired", "failed")


class StripeObject(Base):
    """A product, price or meter that ``billing.stripe_sync`` made, by our own name of it."""

    __tablename__ = "stripe_objects"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    """For a price its ``lookup_key``."""
    kind: Mapped[str] = mapped_column(String(16))
    """``product``, ``price`` or ``meter``"""
    stripe_id: Mapped[str] = mapped_column(String(255), index=True)
    version_id: Mapped[str | None] = mapped_column(String(40), index=True)
    """Of a price: the tier's or add-on's version that it sells."""
    role: Mapped[str | None] = mapped_column(String(16))
    """Of a price: ``tier``, ``add-on``, or the meter's name."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class StripeEvent(Base):
    """A webhook as it came, stored once by Stripe's id."""

    __tablename__ = "stripe_events"
    __table_args__ = (
        CheckConstraint(f"state in {EVENT_STATES}", name="state"),
        Index("ix_stripe_events_state_received_at", "state", "received_at"),
    )

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    type: Mapped[str] = mapped_column(String(100))
    payload: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="stored")
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    """As Stripe says."""
    received_at: Mapped[datetime] = mapped_column(default=now)
    retry_at: Mapped[datetime] = mapped_column(default=now)
    handled_at: Mapped[datetime | None]


class Purchase(Base):
    """Somebody wants a tier: the row is there before Stripe hears of it, so that a restart can go on."""

    __tablename__ = "purchases"
    __table_args__ = (CheckConstraint(f"state in {PURCHASE_STATES}", name="state"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    tier_version_id: Mapped[str] = mapped_column(ForeignKey("tier_versions.id"))
    add_ons: Mapped[dict[str, Any]]
    """Version id → quantity"""
    state: Mapped[str] = mapped_column(String(16), default="started")
    stripe_session_id: Mapped[str | None] = mapped_column(String(255), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class BillingTurn(Base):
    """Who changes the tenant's subscription at Stripe just now: ``billing.turns``."""

    __tablename__ = "billing_turns"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(40))
    until: Mapped[datetime]
    """Moved on while the holder lives."""


class Invoice(Base):
    """A copy of Stripe's."""

    __tablename__ = "invoices"
    __table_args__ = (Index("ix_invoices_tenant_id_id", "tenant_id", "id"),)

    stripe_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    """Ours; sorts by time."""
    tenant_id: Mapped[str] = mapped_column(String(40))
    number: Mapped[str | None] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(32))
    currency: Mapped[str] = mapped_column(String(3))
    total_minor: Mapped[int]
    tax_minor: Mapped[int]
    paid_minor: Mapped[int]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    url: Mapped[str | None] = mapped_column(Text)
    pdf_url: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(default=now)


class BillingNote(Base):
    """A refund or a dispute: noted, for a person to look at."""

    __tablename__ = "billing_notes"

    stripe_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    tenant_id: Mapped[str | None] = mapped_column(String(40), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """``refund`` or ``dispute``"""
    status: Mapped[str] = mapped_column(String(64))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    reason: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(default=now)


class MeterEvent(Base):
    """What Stripe is told about one tenant's hour; the identifier is fixed when the row is made."""

    __tablename__ = "meter_events"
    __table_args__ = (
        CheckConstraint(f"state in {METER_EVENT_STATES}", name="state"),
        Index("ix_meter_events_state_hour", "state", "hour"),
        Index("ix_meter_events_tenant_id_hour", "tenant_id", "hour"),
    )

    identifier: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40))
    stripe_customer_id: Mapped[str | None] = mapped_column(String(255))
    meter: Mapped[str] = mapped_column(String(16))
    hour: Mapped[datetime]
    revision: Mapped[int]
    occurred_at: Mapped[datetime]
    """What Stripe is told: within the hour, so that it falls into the right month."""
    raw: Mapped[int]
    """Invocations, CPU-µs or MiB·µs, as in ``usage_hourly``"""
    value: Mapped[int]
    """In the meter's unit; what is left of ``raw`` is carried to the tenant's next event (``meter_carries``)."""
    state: Mapped[str] = mapped_column(String(16), default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    sending_since: Mapped[datetime | None]
    """Of the first attempt: Stripe knows the identifier for 24 hours from then."""
    acknowledged_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)


class MeterCarry(Base):
    """What a tenant has used of a meter in all, so that rounding to its unit never adds up."""

    __tablename__ = "meter_carries"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    meter: Mapped[str] = mapped_column(String(16), primary_key=True)
    raw_total: Mapped[int] = mapped_column(default=0)


class SpendCap(Base):
    """What a tenant wants to pay at most, in a month, for usage over the included."""

    __tablename__ = "spend_caps"
    __table_args__ = (CheckConstraint("action in ('stop', 'alert')", name="action"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    function: Mapped[str] = mapped_column(String(63), primary_key=True, default="")
    """Empty: the whole tenant."""
    amount_minor: Mapped[int]
    action: Mapped[str] = mapped_column(String(8))
    updated_at: Mapped[datetime] = mapped_column(default=now)
