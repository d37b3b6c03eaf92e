"""usage_shapes: percentiles and outcomes of a version by the hour and by the day; usage_minutes: a tenant's minutes.

Written by ``usage.rollup`` in the transaction that books the records, so they say the same as ``usage_records`` and
``usage_hourly``; read by ``usage.service``. Exact sums are in ``usage_hourly``: here are distributions. Hours are kept
for ``usage.pruning.HOURS_KEPT``, days for good; all go with their tenant.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base

SPANS = ("hour", "day")


class UsageShape(Base):
    __tablename__ = "usage_shapes"
    __table_args__ = (
        CheckConstraint(f"span in {SPANS}", name="span"),
        Index("ix_usage_shapes_span_start", "span", "start"),
    )

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    span: Mapped[str] = mapped_column(String(8), primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    """Of the hour or day, UTC"""
    function: Mapped[str] = mapped_column(String(63), primary_key=True)
    version_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    calls: Mapped[int]
    """Admitted, billed or not"""
    errors: Mapped[int]
    """Not answered 2xx or 3xx"""
    cold: Mapped[int]
    shape: Mapped[bytes] = mapped_column(LargeBinary)
    """``usage.shape.Shape``, with its version"""


class UsageMinutes(Base):
    """Sixty minutes of the whole tenant."""

    __tablename__ = "usage_minutes"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    minutes: Mapped[bytes] = mapped_column(LargeBinary)
    """``usage.minutes.Minutes``"""
