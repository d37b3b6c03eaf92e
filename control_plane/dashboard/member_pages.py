"""Members and invitations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from control_plane import ids
from control_plane.auth.permissions import ROLES, Role
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.members import repository, service
from control_plane.members.schemas import InvitationCreate, InvitationOut, MemberOut, MemberPatch
from control_plane.pagination import LIMIT_MAX, PageDependency, PageRequest
from control_plane.problems import Problem, not_found

router = APIRouter()
Reader = Annotated[Visitor, Depends(see("members.read"))]
Writer = Annotated[Visitor, Depends(see("members.write"))]
ReaderPost = Annotated[Posted, Depends(post("members.read"))]
WriterPost = Annotated[Posted, Depends(post("members.write"))]
MemberId = Annotated[str, Path(pattern=ids.pattern("mem"))]
InvitationId = Annotated[str, Path(pattern=ids.pattern("ivt"))]


@router.get("/members")
async def members_page(request: Request, context: ContextDependency, visitor: Reader, page: PageDependency) -> Response:
    async with context.reading() as session:
        found = await repository.list_members(session, visitor.tenant_id, page)
        people = await repository.people_of(session, visitor.tenant_id, found.items)
        invitations = await repository.list_invitations(session, visitor.tenant_id, PageRequest(LIMIT_MAX, None))
    return pages.render(
        request, context, visitor, "members/list.html", section="members",
        members=[MemberOut.of(member, people[member.person_id]) for member in found.items],
        invitations=[InvitationOut.of(each) for each in invitations.items],
        next_cursor=found.next_cursor,
    )  # fmt: skip


@router.get("/members/invite")
async def invite_page(request: Request, context: ContextDependency, visitor: Writer) -> Response:
    return pages.render(request, context, visitor, "members/invite.html", section="members", given=roles_of(visitor))


@router.post("/members/invite")
async def invite(request: Request, context: ContextDependency, posted: WriterPost) -> Response:
    visitor = posted.who
    form, errors = posted.parse(InvitationCreate)
    error, status = "", 422
    if form is not None:
        try:
            await service.invite(context, visitor.tenant, form.email, form.role)
            return await go(context, visitor, "/members", f"A mail is on its way to {form.email}.")
        except Problem as problem:
            errors, error, status = pages.errors_of(problem), problem.detail, problem.status
    return pages.render(
        request, context, visitor, "members/invite.html", section="members", status=status, given=roles_of(visitor),
        values=posted.values(), errors=errors, error=error,
    )  # fmt: skip


@router.get("/members/{member_id}")
async def member_page(request: Request, member_id: MemberId, context: ContextDependency, visitor: Reader) -> Response:
    """Change the role, or remove."""
    return await _member_page(request, context, visitor, member_id)


@router.post("/members/{member_id}/role")
async def change_role(
    request: Request, member_id: MemberId, context: ContextDependency, posted: WriterPost
) -> Response:
    form, _ = posted.parse(MemberPatch)
    if form is None:
        return await _member_page(request, context, posted.who, member_id, error="Choose a role.", status=422)
    try:
        async with context.writing() as session:
            _, person = await service.change_role(session, posted.who.tenant, member_id, form.role)
    except Problem as problem:
        return await _member_page(request, context, posted.who, member_id, error=problem.detail, status=problem.status)
    return await go(context, posted.who, "/members", f"{person.email} is {form.role} now.")


@router.post("/members/{member_id}/remove")
async def remove(request: Request, member_id: MemberId, context: ContextDependency, posted: ReaderPost) -> Response:
    try:
        async with context.writing() as session:
            await service.remove(session, posted.who.tenant, member_id)
    except Problem as problem:
        if problem.slug == "confirmation-required":
            raise
        return await _member_page(request, context, posted.who, member_id, error=problem.detail, status=problem.status)
    return await go(context, posted.who, "/members", "Removed from the tenant.")


@router.post("/members/invitations/{invitation_id}/withdraw")
async def withdraw(invitation_id: InvitationId, context: ContextDependency, posted: WriterPost) -> Response:
    async with context.writing() as session:
        await service.withdraw(session, posted.who.tenant, invitation_id)
    return await go(context, posted.who, "/members", "The invitation is withdrawn; its link no longer works.")


async def _member_page(
    request: Request, context: Context, visitor: Visitor, member_id: str, *, error: str = "", status: int = 200
) -> Response:
    async with context.reading() as session:
        found = await repository.get_member(session, visitor.tenant_id, member_id)
    if found is None:
        raise not_found("member", member_id)
    member = MemberOut.of(*found)
    return pages.render(
        request, context, visitor, "members/member.html", section="members", status=status, error=error,
        member=member, given=roles_of(visitor), is_self=member.person_id == visitor.signed_in.person.id,
    )  # fmt: skip


def roles_of(visitor: Visitor) -> list[Role]:
    """Those that the visitor may give."""
    return [role for role in ROLES if role != "owner" or visitor.tenant.role == "owner"]
