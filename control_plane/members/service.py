"""Rules about members: owners are made and unmade by owners, there is always one, and one may always leave.

An invitation is for its e-mail address: its link makes a person of somebody who is none yet; somebody who is one
accepts it signed in. It is worth what its inviter may grant when it is accepted, not when it was sent: who is removed
or demoted takes along what they can no longer give, and a revoked key's invitations are worth nothing.
"""

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth import passwords, permissions, throttle, tokens
from control_plane.auth import repository as auth
from control_plane.auth.permissions import Role
from control_plane.auth.principal import OPERATOR, Actor, Principal, SignedIn, check_permission, is_live, make_actor
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.mail import messages
from control_plane.members import repository
from control_plane.models import Invitation, Member, Person, Tenant, now
from control_plane.people import repository as people
from control_plane.people import service as people_service
from control_plane.people.service import NewSession
from control_plane.problems import Problem, not_found

_REFUSED = "This invitation is unknown, was used or withdrawn, or has expired. Ask for a new one."
_INVITER_GONE = "Whoever sent this invitation may no longer give this role. Ask for a new one."


async def invite(context: Context, caller: Principal, email: str, role: Role) -> Invitation:
    """Inviting again replaces the invitation, and its link."""
    _check_owner_matters(caller, role)
    await throttle.count_attempt(
        context, throttle.mail_bounds(context, email=email, address=f"{caller.tenant_id} {caller.actor.address}")
    )
    async with context.writing() as session:
        if await repository.find_member_by_email(session, caller.tenant_id, email) is not None:
            raise Problem(
                "conflict",
                f"{email} is a member already; change the role there.",
                errors=[{"field": "email", "message": "Is a member already"}],
            )
        await repository.delete_invitation_of(session, caller.tenant_id, email)
        members_max = context.settings.members_per_tenant_max
        count = await repository.count_members(session, caller.tenant_id)
        if count + await repository.count_invitations(session, caller.tenant_id) >= members_max:
            raise Problem("conflict", f"The tenant has {members_max} members and invitations, the most allowed.")
        return add_invitation(context, session, caller.tenant_id, caller.tenant_name, caller.actor, email, role)


def add_invitation(
    context: Context, session: AsyncSession, tenant_id: str, tenant_name: str, actor: Actor, email: str, role: Role
) -> Invitation:
    token = tokens.new_link_token()
    at = now()
    lifetime = context.settings.invitation_lifetime
    invitation = Invitation(
        id=new_id("ivt"),
        tenant_id=tenant_id,
        email=email,
        role=role,
        sha256=tokens.hash_token(token),
        invited_by=actor.public_label,
        inviter_id=actor.id,
        is_by_operator=actor.is_operator,
        created_at=at,
        expires_at=at + lifetime,
    )
    session.add(invitation)
    audit.record(session, tenant_id, actor, "invitation.created", email, id=invitation.id, role=role)
    link = f"{context.settings.public_url}/invitation?token={token}"
    subject, text = messages.invitation(tenant_name, actor.public_label, role, link, lifetime.days)
    messages.send(session, context.sealer, email, subject, text)
    return invitation


async def withdraw(session: AsyncSession, caller: Principal, invitation_id: str) -> None:
    invitation = await repository.get_invitation(session, caller.tenant_id, invitation_id)
    if invitation is None:
        raise not_found("invitation", invitation_id)
    await repository.delete_invitation_of(session, caller.tenant_id, invitation.email)
    audit.record(session, caller.tenant_id, caller.actor, "invitation.withdrawn", invitation.email, id=invitation_id)


async def read_invitation(context: Context, token: str) -> tuple[Invitation, Tenant, Person | None]:
    """For the page behind the link: the tenant, and the person if the address is somebody's already."""
    async with context.reading() as session:
        found = await repository.find_invitation_by_hash(session, tokens.hash_token(token), now())
        if found is None:
            raise Problem("not-found", _REFUSED)
        await _check_inviter(session, found[0])
        return *found, await people.find_person(session, found[0].email)


async def accept(context: Context, signed_in: SignedIn, token: str) -> Member:
    invitation, tenant, _ = await read_invitation(context, token)
    if signed_in.person.email != invitation.email:
        raise Problem(
            "forbidden",
            f"The invitation is for {invitation.email}, and you are signed in as {signed_in.person.email}.",
        )
    async with context.writing() as session:
        member = await _become_member(session, invitation, signed_in.person, signed_in.actor)
        await auth.set_session_tenant(session, signed_in.person.id, signed_in.session.id, tenant.id)
        return member


async def finish(context: Context, request: Request, token: str, name: str, password: str) -> NewSession:
    """For an address that is nobody's yet: the person, the membership and a session."""
    invitation, tenant, person = await read_invitation(context, token)
    if person is not None:
        raise Problem("conflict", f"{invitation.email} has signed up already: sign in, then accept.")
    passwords.check_new_password(password, email=invitation.email)
    password_hash = await passwords.hash_password(context, password)
    async with context.writing() as session:
        person = people_service.new_person(invitation.email, name, password_hash)
        session.add(person)
        await session.flush()
        await _become_member(session, invitation, person, make_actor(context, request, person.id, person.email))
        return await people_service.open_session(context, request, session, person, tenant_id=tenant.id)


async def _become_member(session: AsyncSession, invitation: Invitation, person: Person, actor: Actor) -> Member:
    # The tenant's row is locked: who is being demoted at this moment is waited for, or waits.
    await repository.lock_and_count_owners(session, invitation.tenant_id)
    if not await repository.use_invitation(session, invitation.sha256):
        raise Problem("not-found", _REFUSED)
    await _check_inviter(session, invitation)
    if await repository.find_member_by_email(session, invitation.tenant_id, person.email) is not None:
        raise Problem("conflict", "You are a member already; an owner can change your role.")
    member = add_member(session, invitation.tenant_id, person.id, invitation.role)  # type: ignore[arg-type]
    await session.flush()
    audit.record(session, invitation.tenant_id, actor, "invitation.accepted", invitation.role, member=member.id)
    return member


async def _check_inviter(session: AsyncSession, invitation: Invitation) -> None:
    """Of a person the role now, of a key its scopes now, of an operator whether it is one now."""
    inviter_id, tenant_id = invitation.inviter_id, invitation.tenant_id
    if invitation.is_by_operator:
        may = inviter_id == OPERATOR or await auth.is_operator(session, inviter_id)
    elif (key := await auth.get_key(session, tenant_id, inviter_id)) is not None:
        may = (
            is_live(key)
            and "members.write" in permissions.of_scopes(frozenset(key.scopes))
            and invitation.role != "owner"
        )
    else:
        member = await repository.find_member_by_person(session, tenant_id, inviter_id)
        may = member is not None and _may_grant(member.role, invitation.role)
    if not may:
        raise Problem("not-found", _INVITER_GONE)


async def _withdraw_beyond(session: AsyncSession, caller: Principal, person: Person, role: str | None) -> None:
    """The invitations of somebody who has ``role`` now (None: no member any more) that such a one could not send."""
    for invitation in await repository.invitations_by(session, caller.tenant_id, person.id):
        if role is None or not _may_grant(role, invitation.role):
            await repository.delete_invitation_of(session, caller.tenant_id, invitation.email)
            audit.record(
                session, caller.tenant_id, caller.actor, "invitation.withdrawn", invitation.email, id=invitation.id,
                invited_by=invitation.invited_by,
            )  # fmt: skip


def _may_grant(role: str, granted: str) -> bool:
    return "members.write" in permissions.OF_ROLE[role] and (granted != "owner" or role == "owner")  # type: ignore[index]


def add_member(session: AsyncSession, tenant_id: str, person_id: str, role: Role) -> Member:
    member = Member(id=new_id("mem"), tenant_id=tenant_id, person_id=person_id, role=role, created_at=now())
    session.add(member)
    return member


def note_owner_by_operator(session: AsyncSession, tenant_id: str, actor: Actor, email: str) -> None:
    audit.record(session, tenant_id, actor, "member.added", email, role="owner")


async def change_role(session: AsyncSession, caller: Principal, member_id: str, role: Role) -> tuple[Member, Person]:
    owners_count = await repository.lock_and_count_owners(session, caller.tenant_id)
    member, person = await _require_member(session, caller, member_id)
    if member.role == role:
        return member, person
    _check_owner_matters(caller, role)
    _check_owner_matters(caller, member.role)
    if member.role == "owner" and owners_count == 1:
        raise Problem("conflict", "This is the only owner; make another one first.")
    before, member.role = member.role, role
    await _withdraw_beyond(session, caller, person, role)
    audit.record(
        session, caller.tenant_id, caller.actor, "member.role-changed", person.email, before=before, after=role
    )
    return member, person


async def remove(session: AsyncSession, caller: Principal, member_id: str) -> None:
    """One may always leave; to remove others needs the permission."""
    owners_count = await repository.lock_and_count_owners(session, caller.tenant_id)
    member, person = await _require_member(session, caller, member_id)
    is_self = caller.role is not None and caller.actor.id == person.id
    if not is_self:
        if not caller.may("members.write"):
            raise Problem("forbidden", f"The role {caller.role} removes nobody but itself.")
        check_permission(caller, "members.write")
        _check_owner_matters(caller, member.role)
    if member.role == "owner" and owners_count == 1:
        raise Problem("conflict", "This is the only owner: make another one first, or delete the tenant.")
    await session.delete(member)
    await auth.leave_tenant(session, caller.tenant_id, person.id)
    await _withdraw_beyond(session, caller, person, None)
    audit.record(session, caller.tenant_id, caller.actor, "member.removed", person.email, role=member.role)


async def _require_member(session: AsyncSession, caller: Principal, member_id: str) -> tuple[Member, Person]:
    found = await repository.get_member(session, caller.tenant_id, member_id)
    if found is None:
        raise not_found("member", member_id)
    return found


def _check_owner_matters(caller: Principal, role: str) -> None:
    if role == "owner" and caller.role != "owner":
        raise Problem("forbidden", "Only an owner, signed in, makes, changes or removes owners.", required=["owner"])
