"""The outbox: each change that gateways must learn of, numbered in the order of commits."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class RevisionCounter(Base):
    """One row. A writer holds its lock until it commits, so a higher revision never commits before a lower one
    (a sequence would not promise that, and the relay would skip a change).

    It begins at the Unix time in milliseconds: a database that was made anew still counts above its forerunner,
    whose table may lie in Redis and on the disks of gateways.
    """

    __tablename__ = "revision_counter"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    revision: Mapped[int]


class OutboxRow(Base):
    __tablename__ = "outbox"

    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    change: Mapped[str] = mapped_column(String(32))
    """What happened, for people: ``key-revoked``, ``version-deployed``, …"""
    subject: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
    relayed_at: Mapped[datetime | None] = mapped_column(index=True)
