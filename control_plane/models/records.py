"""Usage records as they come from the journals of nodes, one row per admitted invocation, and how far each was read.

Written by ``usage.consumer``; read by whoever shows single invocations. A ledger like ``usage_hourly``: nothing is a
foreign key. Rows are kept as long as the tenant's tier keeps logs.
"""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base


class UsageRecordRow(Base):
    __tablename__ = "usage_records"
    __table_args__ = (
        Index("ix_usage_records_tenant_id_arrived_at", "tenant_id", "arrived_at"),
        Index("ix_usage_records_invocation_id", "invocation_id"),
    )

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Node, epoch and reactor"""
    segment: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    """With these three a record is known for ever, however often it is sent."""
    invocation_id: Mapped[str] = mapped_column(String(32))
    tenant_id: Mapped[str] = mapped_column(String(40))
    function: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str] = mapped_column(String(40))
    arrived_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(String(32))
    status: Mapped[int]
    billed: Mapped[bool]
    cold: Mapped[bool]
    deadline: Mapped[bool]
    queue_us: Mapped[int]
    start_us: Mapped[int]
    wall_us: Mapped[int]
    cpu_us: Mapped[int]
    memory_bytes: Mapped[int]
    mib_us: Mapped[int]
    request_bytes: Mapped[int]
    response_bytes: Mapped[int]
    log_bytes: Mapped[int]


class UsageStream(Base):
    """The watermark: everything before it is booked, nothing behind it is."""

    __tablename__ = "usage_streams"

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    segment: Mapped[int]
    offset: Mapped[int]
    updated_at: Mapped[datetime]


class UsageVersion(Base):
    """Whose a version is or was: versions and functions may be deleted before their last usage arrives."""

    __tablename__ = "usage_versions"

    version_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    function: Mapped[str] = mapped_column(String(63))


class UsageDeadLetter(Base):
    """A record that cannot be booked: kept for a person to look at, counted as an alarm."""

    __tablename__ = "usage_dead_letters"

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str] = mapped_column(String(200))
    noted_at: Mapped[datetime]
