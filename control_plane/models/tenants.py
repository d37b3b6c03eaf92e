"""tenants: who pays; owns everything else."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class Tenant(Base):
    """``active`` → ``suspended`` (by the operator) and back; ``deleting`` → ``deleted``, which is final.

    Only an active tenant is served. A deleted tenant's row stays: invoices point to it, and its name, which is part of
    URLs that others may still call, is never given to somebody else.
    """

    __tablename__ = "tenants"
    __table_args__ = (CheckConstraint("status in ('active', 'suspended', 'deleting', 'deleted')", name="status"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    status: Mapped[str] = mapped_column(String(16), default="active", server_default="active")
    status_reason: Mapped[str] = mapped_column(String(300), default="", server_default=text("''"))
    """Why it is suspended; its members read it."""
    status_at: Mapped[datetime | None]
    """Since when the status holds."""
