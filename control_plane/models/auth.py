"""keys (credentials of a tenant) and the answers kept for repeated requests."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class Key(Base):
    """A token is kept only as its SHA-256: it has over 250 random bits, so no slow hash is needed."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    last_four: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """Of this API to within ``KEY_USE_INTERVAL``: noting each use would make every read a write. Of functions as
    gateways report it (outbox/reports.py)."""
    created_by: Mapped[str] = mapped_column(String(254), default="", server_default=text("''"))
    """Who made it, for people."""


class IdempotencyRecord(Base):
    """The answer to a POST with an Idempotency-Key. ``sealed_answer`` can only be read with the caller's token."""

    __tablename__ = "idempotency_records"

    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    """The tenant's id, or ``operator``."""
    idempotency_key: Mapped[str] = mapped_column(String(128), primary_key=True)
    caller: Mapped[str] = mapped_column(String(40))
    """The key's id, or ``operator``."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    salt: Mapped[bytes] = mapped_column(LargeBinary(16))
    sealed_answer: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
