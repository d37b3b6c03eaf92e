"""functions → versions → aliases, the history of the aliases, and what nodes reported."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class Function(Base):
    __tablename__ = "functions"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(63))
    public: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Version(Base):
    """One immutable build. What is not immutable (status and what follows) is what nodes said about it."""

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("function_id", "sha256"),
        Index("ix_versions_tenant_id_id", "tenant_id", "id"),
        CheckConstraint("status in ('preparing', 'ready', 'failed')", name="status"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    function_id: Mapped[str] = mapped_column(ForeignKey("functions.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    bundle_bytes: Mapped[int]
    handler: Mapped[str] = mapped_column(String(300))
    env: Mapped[dict[str, str]]
    limits: Mapped[dict[str, Any]]
    lock: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    deployed_by: Mapped[str | None] = mapped_column(String(254))
    """Who made it: an e-mail address or a key's name. None: it was made before that was kept."""

    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often it was deployed again after it had failed."""
    status: Mapped[str] = mapped_column(String(16), default="preparing")
    style: Mapped[str | None] = mapped_column(String(16))
    state: Mapped[str | None] = mapped_column(String(16))
    """What its workers really do; what was asked for is in ``limits``."""
    state_reason: Mapped[str | None] = mapped_column(Text)
    start_us: Mapped[int | None]
    operation: Mapped[dict[str, Any] | None]
    schemas: Mapped[dict[str, Any] | None]
    error_type: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    reported_at: Mapped[datetime | None]


class Alias(Base):
    """A pointer to a version: the desired one; a gateway serves it once a worker of it is ready."""

    __tablename__ = "aliases"

    function_id: Mapped[str] = mapped_column(ForeignKey("functions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    move_id: Mapped[str] = mapped_column(ForeignKey("alias_moves.id"))
    updated_at: Mapped[datetime] = mapped_column(default=now)


class AliasMove(Base):
    """Append-only: every move of an alias. ``parent_id`` is the move that a rollback returns to."""

    __tablename__ = "alias_moves"
    __table_args__ = (Index("ix_alias_moves_function_id_alias", "function_id", "alias", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    function_id: Mapped[str] = mapped_column(ForeignKey("functions.id"))
    alias: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("alias_moves.id"))
    cause: Mapped[str] = mapped_column(String(16))
    """``deploy``, ``set``, ``rollback`` or ``failed``"""
    created_at: Mapped[datetime] = mapped_column(default=now)


class NodeReport(Base):
    """The last word of one node about one version."""

    __tablename__ = "node_reports"

    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    node: Mapped[str] = mapped_column(String(200), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16))
    reported_at: Mapped[datetime] = mapped_column(default=now)
