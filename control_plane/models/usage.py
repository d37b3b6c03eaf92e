"""usage_hourly: what was used, by the hour, in whole units; usage_hours says which revision of an hour is open.

Written by the consumer of usage records through ``usage.hourly.add``, read by billing (``billing.metering`` closes an
hour and makes meter events of it) and by whoever shows usage. A ledger: rows outlive the functions and the tenant
that they speak of, so nothing is a foreign key.
"""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base


class UsageHourly(Base):
    """Usage that arrives after its hour was closed goes into the next revision: a closed row never changes."""

    __tablename__ = "usage_hourly"
    __table_args__ = (Index("ix_usage_hourly_tenant_id_hour", "tenant_id", "hour"),)

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    function: Mapped[str] = mapped_column(String(63), primary_key=True)
    version_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    """Its beginning, UTC"""
    revision: Mapped[int] = mapped_column(primary_key=True)
    """Of the tenant's hour, from 0"""
    invocations: Mapped[int]
    """That are billed"""
    errors: Mapped[int] = mapped_column(default=0, server_default="0")
    """Of them, those that did not answer 2xx or 3xx"""
    cpu_us: Mapped[int]
    mib_us: Mapped[int]
    """Peak memory × wall time"""


class UsageHour(Base):
    """One row per tenant and hour; its lock orders who adds and who closes."""

    __tablename__ = "usage_hours"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    open_revision: Mapped[int] = mapped_column(default=0)
    """Usage that arrives now is counted here; all below are closed."""
    dirty: Mapped[bool] = mapped_column(default=True, index=True)
    """Whether the open revision has rows."""
