"""Writes the audit log, in the transaction of what it tells: there is never one without the other.

Called by every service whose change somebody may want to know of later. Details are names, ids and roles; never a
token, a password or an environment.
"""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.actions import ACTIONS, OPERATOR_ACTIONS
from control_plane.auth import repository as auth
from control_plane.auth.principal import OPERATOR, Actor
from control_plane.ids import new_id
from control_plane.models import AuditEntry, OperatorEntry, now

_TEXT_MAX: Final = 254


def record(session: AsyncSession, tenant_id: str, actor: Actor, action: str, subject: str = "", **details: Any) -> None:
    """What an operator does stands in the operators' log, too; the tenant is not told which of them it was."""
    assert action in ACTIONS, f"add {action!r} to control_plane/audit/actions.py"  # noqa: S101 - our own callers
    if actor.is_operator:
        record_operator(session, actor, action, subject, about_tenant_id=tenant_id, **details)
        actor = Actor(OPERATOR, actor.public_label, "", actor.request_id)
    session.add(
        AuditEntry(
            id=new_id("aud"),
            tenant_id=tenant_id,
            actor_id=actor.id,
            actor=actor.label[:_TEXT_MAX],
            action=action,
            subject=subject[:_TEXT_MAX],
            details=details,
            address=actor.address,
            request_id=actor.request_id,
            at=now(),
        )
    )


def record_operator(
    session: AsyncSession,
    actor: Actor,
    action: str,
    subject: str = "",
    *,
    about_tenant_id: str | None = None,
    **details: Any,
) -> None:
    assert action in ACTIONS or action in OPERATOR_ACTIONS, f"add {action!r} to audit/actions.py"  # noqa: S101 - likewise
    session.add(
        OperatorEntry(
            id=new_id("ope"),
            actor_id=actor.id,
            actor=actor.label[:_TEXT_MAX],
            action=action,
            subject=subject[:_TEXT_MAX],
            about_tenant_id=about_tenant_id,
            details=details,
            address=actor.address,
            request_id=actor.request_id,
            at=now(),
        )
    )


async def record_for_person(session: AsyncSession, actor: Actor, action: str, subject: str = "") -> None:
    """What a person does to its own log-in concerns every tenant that it may act for; an operator's, the operators."""
    if await auth.is_operator(session, actor.id):
        record_operator(session, actor, action, subject)
    for _, tenant in await auth.memberships_of(session, actor.id):
        if tenant.status != "deleted":
            record(session, tenant.id, actor, action, subject)


def system(label: str = "Tailcut") -> Actor:
    """For what nobody asked for at this moment: background steps."""
    return Actor("system", label, "", "")
