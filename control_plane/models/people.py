"""people (who sign in), their sessions and second factor, and the members and invitations that tie them to tenants."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base, now

ROLE_CHECK = "role in ('owner', 'admin', 'developer', 'billing', 'viewer')"


class Person(Base):
    """Somebody with an e-mail address that is proven: a row is made only when a link sent there was followed."""

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    """In lower case."""
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str | None] = mapped_column(String(200))
    """argon2id with its parameters. None: no password yet (a development tenant's owner); a reset sets one."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    totp_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The shared secret of the second factor, readable only with the server's sealing key."""
    totp_confirmed_at: Mapped[datetime | None]
    """None: not enrolled; a secret alone is an enrolment that was begun."""
    totp_step: Mapped[int] = mapped_column(default=0, server_default="0")
    """Of the last code taken: neither it nor an earlier one is taken again."""
    operator_since: Mapped[datetime | None]
    """None: no operator. Given and taken on the machine only (``tailcut-server operator``)."""


class RecoveryCode(Base):
    """Stands in for a lost second factor, once. Random, so its hash need not be slow."""

    __tablename__ = "recovery_codes"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the person's id and the code."""
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)


class Session(Base):
    """Somebody signed in. The token is kept only as its hash; ``id`` is what lists show and what ends it."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    """The tenant that the dashboard shows; whether the person is still its member is asked each time."""
    csrf_token: Mapped[str] = mapped_column(String(64))
    is_pending: Mapped[bool]
    """The password was right and the second factor is still to come: good for nothing else."""
    has_second_factor: Mapped[bool] = mapped_column(default=False, server_default=false())
    """A code was given in it. A link that signs in gives none."""
    confirmed_at: Mapped[datetime | None]
    """When the password, and the second factor where there is one, were last given in it. None: never."""
    flash: Mapped[dict[str, Any] | None]
    """What the next page says once."""
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    """At the latest; without being used it ends sooner."""


class Member(Base):
    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("tenant_id", "person_id"), CheckConstraint(ROLE_CHECK, name="role"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Invitation(Base):
    """Its link went to ``email``; whoever follows it becomes a member. Gone once accepted or withdrawn."""

    __tablename__ = "invitations"
    __table_args__ = (UniqueConstraint("tenant_id", "email"), CheckConstraint(ROLE_CHECK, name="role"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    invited_by: Mapped[str] = mapped_column(String(254))
    """What its reader is told."""
    inviter_id: Mapped[str] = mapped_column(String(40), index=True)
    """A person, a key or ``operator``: what it may still grant is asked when somebody accepts."""
    is_by_operator: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]


class Link(Base):
    """A link in a mail (or printed by ``tailcut-server up``): used once, kept as a hash, short-lived."""

    __tablename__ = "links"
    __table_args__ = (CheckConstraint("purpose in ('sign-up', 'reset', 'sign-in')", name="purpose"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(16))
    email: Mapped[str] = mapped_column(String(254), index=True)
    tenant_name: Mapped[str | None] = mapped_column(String(63))
    """sign-up: the tenant to make; sign-in: the one to show."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]


class Throttle(Base):
    """Attempts in a window of time, by whom or against whom (hashed: a table of addresses is no use to anybody)."""

    __tablename__ = "throttles"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    attempts_count: Mapped[int]
    until_s: Mapped[int]
    """Unix time at which the count starts again."""


class Mail(Base):
    """A message on its way out; the row goes when the mail server has taken it. The text is sealed: it has links."""

    __tablename__ = "mails"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(String(200))
    sealed_text: Mapped[bytes] = mapped_column(LargeBinary)
    attempts_count: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(default=now, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
