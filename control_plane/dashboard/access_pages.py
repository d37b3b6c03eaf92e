"""Pages before the sign-in: sign up, sign in, second factor, reset, invitation, and the links in mails.

A link's page only shows a form; the form uses the link. Mail programs that open links to look at them spend nothing.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from control_plane.auth import repository as auth
from control_plane.auth.permissions import WHAT_ROLES_DO
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard import visitor as visitors
from control_plane.dashboard.visitor import AnybodysPost, MaybeVisitor, Pending, Posted, SignedInPost, go, safe_next
from control_plane.members import service as members
from control_plane.members.schemas import InvitationAccept, InvitationFinish
from control_plane.people import service
from control_plane.people.schemas import CodeCheck, LogIn, ResetAsk, ResetFinish, SignUp, SignUpFinish
from control_plane.people.service import NewSession
from control_plane.problems import Problem

router = APIRouter()
Token = Annotated[str, Query(max_length=200)]
Next = Annotated[str, Query(max_length=500)]


# -- Sign up ----------------------------------------------------------------------------------------------------------


@router.get("/sign-up")
async def sign_up_page(request: Request, context: ContextDependency, visitor: MaybeVisitor) -> Response:
    if visitor is not None:
        return RedirectResponse("/tenants", status_code=303)
    return pages.render(request, context, None, "access/sign_up.html")


@router.post("/sign-up")
async def sign_up(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    form, errors = posted.parse(SignUp)
    if form is None:
        return _again(request, context, "access/sign_up.html", posted, errors=errors)
    try:
        await service.ask_sign_up(context, request, form.email, form.tenant)
    except Problem as problem:
        return _refused(request, context, "access/sign_up.html", posted, problem)
    return _mail_sent(request, context, form.email, "to go on")


@router.get("/sign-up/finish")
async def finish_sign_up_page(request: Request, context: ContextDependency, token: Token = "") -> Response:
    link = await service.read_link(context, "sign-up", token)
    return pages.render(request, context, None, "access/sign_up_finish.html", link=link, token=token)


@router.post("/sign-up/finish")
async def finish_sign_up(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    token = posted.text("token")
    link = await service.read_link(context, "sign-up", token)
    template = "access/sign_up_finish.html"
    form, errors = posted.parse(SignUpFinish)
    if form is None:
        return _again(request, context, template, posted, errors=errors, link=link, token=token)
    try:
        made = await service.finish_sign_up(context, request, token, form.name, visitors.secret(form.password))
    except Problem as problem:
        return _refused(request, context, template, posted, problem, link=link, token=token)
    return _signed_in(context, made, "/")


# -- Sign in and out --------------------------------------------------------------------------------------------------


@router.get("/sign-in")
async def sign_in_page(
    request: Request,
    context: ContextDependency,
    visitor: MaybeVisitor,
    next: Next = "/",  # noqa: A002 - in the URL
) -> Response:
    if visitor is not None:
        return RedirectResponse(safe_next(next), status_code=303)
    return pages.render(request, context, None, "access/sign_in.html", next=safe_next(next))


@router.post("/sign-in")
async def sign_in(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    onward = safe_next(posted.text("next"))
    form, errors = posted.parse(LogIn)
    if form is None:
        return _again(request, context, "access/sign_in.html", posted, errors=errors, next=onward)
    try:
        made = await service.begin_log_in(context, request, form.email, visitors.secret(form.password))
    except Problem as problem:
        return _refused(request, context, "access/sign_in.html", posted, problem, next=onward)
    if made.row.is_pending:
        response: Response = pages.render(request, context, None, "access/second_factor.html", next=onward)
        lifetime_s = int(context.settings.log_in_window.total_seconds())
        name = visitors.session_cookie(context.settings)
        visitors.set_cookie(response, context, name, made.token, lifetime_s)
        return response
    return _signed_in(context, made, onward)


@router.post("/sign-in/second-factor")
async def second_factor(
    request: Request, context: ContextDependency, posted: AnybodysPost, pending: Pending
) -> Response:
    if pending is None:
        return RedirectResponse("/sign-in", status_code=303)
    onward = safe_next(posted.text("next"))
    form, errors = posted.parse(CodeCheck)
    if form is None:
        return _again(request, context, "access/second_factor.html", posted, errors=errors, next=onward)
    try:
        made = await service.give_second_factor(context, request, pending, form.code)
    except Problem as problem:
        return _refused(request, context, "access/second_factor.html", posted, problem, next=onward)
    return _signed_in(context, made, onward)


@router.get("/sign-in/link")
async def sign_in_link_page(request: Request, context: ContextDependency, token: Token = "") -> Response:
    link = await service.read_link(context, "sign-in", token)
    return pages.render(request, context, None, "access/sign_in_link.html", link=link, token=token)


@router.post("/sign-in/link")
async def use_sign_in_link(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    return _signed_in(context, await service.use_sign_in_link(context, request, posted.text("token")), "/")


@router.post("/sign-out")
async def sign_out(context: ContextDependency, posted: SignedInPost) -> Response:
    signed_in = posted.who.signed_in
    async with context.writing() as session:
        await auth.delete_session(session, signed_in.person.id, signed_in.session.id)
    response = RedirectResponse("/sign-in", status_code=303)
    visitors.drop_cookie(response, context, visitors.session_cookie(context.settings))
    return response


# -- Reset ------------------------------------------------------------------------------------------------------------


@router.get("/reset")
async def reset_page(request: Request, context: ContextDependency) -> Response:
    return pages.render(request, context, None, "access/reset.html")


@router.post("/reset")
async def reset(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    form, errors = posted.parse(ResetAsk)
    if form is None:
        return _again(request, context, "access/reset.html", posted, errors=errors)
    try:
        await service.ask_reset(context, request, form.email)
    except Problem as problem:
        return _refused(request, context, "access/reset.html", posted, problem)
    return _mail_sent(request, context, form.email, "to choose a new password, if the address has signed up")


@router.get("/reset/finish")
async def finish_reset_page(request: Request, context: ContextDependency, token: Token = "") -> Response:
    link = await service.read_link(context, "reset", token)
    return pages.render(request, context, None, "access/reset_finish.html", link=link, token=token)


@router.post("/reset/finish")
async def finish_reset(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    token = posted.text("token")
    link = await service.read_link(context, "reset", token)
    template = "access/reset_finish.html"
    form, errors = posted.parse(ResetFinish)
    if form is None:
        return _again(request, context, template, posted, errors=errors, link=link, token=token)
    try:
        await service.finish_reset(context, request, token, visitors.secret(form.password))
    except Problem as problem:
        return _refused(request, context, template, posted, problem, link=link, token=token)
    return pages.render(
        request, context, None, "access/sign_in.html", next="/", done="Your password is changed. Sign in with it."
    )


# -- Invitations ------------------------------------------------------------------------------------------------------


@router.get("/invitation")
async def invitation_page(
    request: Request, context: ContextDependency, visitor: MaybeVisitor, token: Token = ""
) -> Response:
    return await _invitation_page(request, context, visitor, token)


@router.post("/invitation")
async def finish_invitation(request: Request, context: ContextDependency, posted: AnybodysPost) -> Response:
    """For somebody new."""
    token = posted.text("token")
    form, errors = posted.parse(InvitationFinish)
    if form is None:
        return await _invitation_page(request, context, None, token, status=422, errors=errors, values=posted.values())
    try:
        password = visitors.secret(form.password)
        made = await members.finish(context, request, token, form.name, password)
    except Problem as problem:
        return await _invitation_page(
            request, context, None, token, status=problem.status, errors=pages.errors_of(problem),
            error=problem.detail, values=posted.values(),
        )  # fmt: skip
    return _signed_in(context, made, "/")


@router.post("/invitation/accept")
async def accept_invitation(context: ContextDependency, posted: SignedInPost) -> Response:
    """For somebody signed in."""
    form, _ = posted.parse(InvitationAccept)
    token = form.token if form is not None else ""
    await members.accept(context, posted.who.signed_in, token)
    return await go(context, posted.who, "/", "You are a member now.")


async def _invitation_page(
    request: Request, context: Context, visitor: visitors.Visitor | None, token: str, **values: Any
) -> Response:
    invitation, tenant, person = await members.read_invitation(context, token)
    return pages.render(
        request, context, visitor, "access/invitation.html",
        invitation=invitation, tenant=tenant, is_known=person is not None, token=token,
        does=WHAT_ROLES_DO[invitation.role], **values,  # type: ignore[index]
    )  # fmt: skip


# -- Shared -----------------------------------------------------------------------------------------------------------


def _signed_in(context: Context, made: NewSession, path: str) -> Response:
    response = RedirectResponse(path, status_code=303)
    lifetime_s = int(context.settings.session_lifetime.total_seconds())
    visitors.set_cookie(response, context, visitors.session_cookie(context.settings), made.token, lifetime_s)
    visitors.drop_cookie(response, context, visitors.form_cookie(context.settings))
    return response


def _mail_sent(request: Request, context: Context, email: str, why: str) -> Response:
    return pages.render(request, context, None, "access/mail_sent.html", email=email, why=why)


def _again(request: Request, context: Context, template: str, posted: Posted, **values: Any) -> Response:
    return pages.render(request, context, None, template, status=422, values=posted.values(), **values)


def _refused(
    request: Request, context: Context, template: str, posted: Posted, problem: Problem, **values: Any
) -> Response:
    response = pages.render(
        request, context, None, template, status=problem.status, values=posted.values(),
        errors=pages.errors_of(problem), error=problem.detail, **values,
    )  # fmt: skip
    response.headers.update(problem.headers)
    return response
