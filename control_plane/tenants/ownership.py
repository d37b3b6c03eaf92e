"""Where tenants and people meet: the owner whom the operator invites, sign-in links, deletion by an owner.

Apart from ``service``, which ``people`` and ``members`` build on.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth.principal import Actor, Principal, SignedIn
from control_plane.context import Context
from control_plane.mail import messages
from control_plane.members import repository as members
from control_plane.members import service as members_service
from control_plane.people import repository as people
from control_plane.people import service as people_service
from control_plane.problems import Problem
from control_plane.tenants import service
from control_plane.tenants.schemas import TenantOut


def invite_owner(context: Context, session: AsyncSession, tenant: TenantOut, actor: Actor, email: str | None) -> None:
    if email is not None:
        members_service.add_invitation(context, session, tenant.id, tenant.name, actor, email, "owner")


async def sign_in_link(context: Context, actor: Actor, tenant_id: str, email: str) -> str:
    """For the operator. Somebody who is not a member yet becomes an owner, without a password: a reset sets one."""
    async with context.writing() as session:
        tenant = await service.require_tenant(session, tenant_id)
        if tenant.status in ("deleting", "deleted"):
            raise Problem("conflict", f"The tenant {tenant.name!r} is {tenant.status}.")
        person = await people.find_person(session, email)
        if person is None:
            person = people_service.new_person(email, "", None)
            session.add(person)
            await session.flush()
        if await members.find_member_by_email(session, tenant_id, email) is None:
            members_service.add_member(session, tenant_id, person.id, "owner")
            await session.flush()
            members_service.note_owner_by_operator(session, tenant_id, actor, email)
        audit.record_operator(session, actor, "sign-in-link.made", email, about_tenant_id=tenant_id)
        return await people_service.make_sign_in_link(context, session, email, tenant.name)


async def delete_own(context: Context, caller: Principal, signed_in: SignedIn, name: str, password: str) -> TenantOut:
    if name != caller.tenant_name:
        raise Problem(
            "invalid-request",
            f"To delete it, type the tenant's name, {caller.tenant_name!r}; this was {name!r}.",
            errors=[{"field": "name", "message": f"Type {caller.tenant_name}"}],
        )
    await people_service.confirm_password(context, signed_in, password)
    async with context.writing() as session:
        tenant = await service.ask_deletion(session, caller.actor, caller.tenant_id)
        subject, text = messages.tenant_deleted(tenant.name, caller.actor.label)
        messages.send(session, context.sealer, signed_in.person.email, subject, text)
        return await service.tenant_out(session, tenant)
