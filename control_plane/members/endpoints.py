"""/v1/members and /v1/invitations"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from control_plane import ids
from control_plane.auth.principal import MemberReader, MemberWriter, PersonCaller
from control_plane.context import ContextDependency
from control_plane.members import repository, service
from control_plane.members.schemas import (
    InvitationAccept,
    InvitationCreate,
    InvitationFinish,
    InvitationOut,
    InvitationPage,
    MemberOut,
    MemberPage,
    MemberPatch,
)
from control_plane.pagination import PageDependency, page_fields
from control_plane.people.schemas import SessionCreated, SessionOut
from control_plane.problems import not_found

router = APIRouter(prefix="/v1", tags=["members"])
MemberId = Annotated[str, Path(pattern=ids.pattern("mem"))]
InvitationId = Annotated[str, Path(pattern=ids.pattern("ivt"))]


@router.get("/members", response_model=MemberPage)
async def list_members(context: ContextDependency, caller: MemberReader, page: PageDependency) -> dict[str, Any]:
    async with context.reading() as session:
        members = await repository.list_members(session, caller.tenant_id, page)
        people = await repository.people_of(session, caller.tenant_id, members.items)
    return page_fields(members.map(lambda member: MemberOut.of(member, people[member.person_id])))


@router.get("/members/{member_id}")
async def get_member(member_id: MemberId, context: ContextDependency, caller: MemberReader) -> MemberOut:
    async with context.reading() as session:
        found = await repository.get_member(session, caller.tenant_id, member_id)
    if found is None:
        raise not_found("member", member_id)
    return MemberOut.of(*found)


@router.patch("/members/{member_id}")
async def change_role(
    member_id: MemberId, patch: MemberPatch, context: ContextDependency, caller: MemberWriter
) -> MemberOut:
    """Give a member another role. Only an owner makes or unmakes owners; one always remains."""
    async with context.writing() as session:
        return MemberOut.of(*await service.change_role(session, caller, member_id, patch.role))


@router.delete("/members/{member_id}", status_code=204)
async def remove_member(member_id: MemberId, context: ContextDependency, caller: MemberReader) -> None:
    """Remove a member, or leave."""
    async with context.writing() as session:
        await service.remove(session, caller, member_id)


@router.post("/invitations", status_code=201)
async def invite(body: InvitationCreate, context: ContextDependency, caller: MemberWriter) -> InvitationOut:
    """Send a mail with a link that makes its reader a member. Again for the same address: the new link replaces it."""
    return InvitationOut.of(await service.invite(context, caller, body.email, body.role))


@router.get("/invitations", response_model=InvitationPage)
async def list_invitations(context: ContextDependency, caller: MemberReader, page: PageDependency) -> dict[str, Any]:
    async with context.reading() as session:
        found = await repository.list_invitations(session, caller.tenant_id, page)
    return page_fields(found.map(InvitationOut.of))


@router.delete("/invitations/{invitation_id}", status_code=204)
async def withdraw_invitation(invitation_id: InvitationId, context: ContextDependency, caller: MemberWriter) -> None:
    async with context.writing() as session:
        await service.withdraw(session, caller, invitation_id)


@router.post("/invitations/accept")
async def accept_invitation(body: InvitationAccept, context: ContextDependency, caller: PersonCaller) -> MemberOut:
    """Signed in with the address that was invited: become a member."""
    member = await service.accept(context, caller, body.token)
    return MemberOut.of(member, caller.person)


@router.post("/invitations/finish", status_code=201)
async def finish_invitation(body: InvitationFinish, request: Request, context: ContextDependency) -> SessionCreated:
    """Not signed up yet: choose a password, become a member, be signed in."""
    made = await service.finish(context, request, body.token, body.name, body.password.get_secret_value())
    return SessionCreated(**SessionOut.of(made.row, made.row.id).model_dump(), token=made.token)
