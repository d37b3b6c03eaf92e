"""secrets: values that a function finds in its environment and that nobody can read again here."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class Secret(Base):
    __tablename__ = "secrets"

    function_id: Mapped[str] = mapped_column(ForeignKey("functions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """``auth.sealing``: a copy of the database tells nobody."""
    updated_at: Mapped[datetime] = mapped_column(default=now)
    updated_by: Mapped[str] = mapped_column(String(254))
