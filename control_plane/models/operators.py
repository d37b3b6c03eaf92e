"""operator_entries: what operators did, to whomever; append-only for ever (migration 0013). reconciliations: each
comparison with Stripe, and what it found.

Whether somebody is an operator is a column of ``people``. The entries are the operators' own log: unlike a tenant's it
outlives the tenant, so nothing in it is a foreign key.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now


class OperatorEntry(Base):
    __tablename__ = "operator_entries"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    actor_id: Mapped[str] = mapped_column(String(40), index=True)
    """A person's, or ``operator`` for whoever holds the machine's token."""
    actor: Mapped[str] = mapped_column(String(254))
    action: Mapped[str] = mapped_column(String(40))
    """Of ``audit/actions.py``"""
    subject: Mapped[str] = mapped_column(String(254))
    about_tenant_id: Mapped[str | None] = mapped_column(String(40), index=True)
    """Whose it was; None: the system's."""
    details: Mapped[dict[str, Any]]
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(default=now)


class Reconciliation(Base):
    """Asked for (by a person, or because the last one is a day old), then run by whichever control plane takes it."""

    __tablename__ = "reconciliations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    asked_by: Mapped[str] = mapped_column(String(254))
    asked_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    differences: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list)
    """tenant_id, what, ours, theirs; the first so many."""
    differences_count: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    """Why it could not be finished."""
