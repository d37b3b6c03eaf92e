"""One's own log-in: password, second factor, sessions."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from control_plane import ids
from control_plane.auth import repository as auth
from control_plane.auth import totp
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import (
    ConfirmedPost,
    ConfirmedVisitor,
    SignedInPost,
    SignedInVisitor,
    Visitor,
    go,
    safe_next,
    secret,
)
from control_plane.models import now
from control_plane.people import repository, service
from control_plane.people.schemas import CodeCheck, Confirmation, PasswordChange, PasswordCheck, SessionOut
from control_plane.problems import Problem

router = APIRouter(prefix="/security")
SessionId = Annotated[str, Path(pattern=ids.pattern("ses"))]
Next = Annotated[str, Query(max_length=500)]


@router.get("")
async def security_page(request: Request, context: ContextDependency, visitor: SignedInVisitor) -> Response:
    return await _security_page(request, context, visitor)


@router.post("/password")
async def change_password(request: Request, context: ContextDependency, posted: SignedInPost) -> Response:
    form, errors = posted.parse(PasswordChange)
    if form is None:
        return await _security_page(request, context, posted.who, status=422, errors=errors)
    try:
        await service.change_password(
            context, posted.who.signed_in, secret(form.current_password), secret(form.password)
        )
    except Problem as problem:
        errors = pages.errors_of(problem)
        return await _security_page(
            request, context, posted.who, status=problem.status, errors=errors, error=problem.detail
        )
    return await go(context, posted.who, "/security", "Your password is changed; your other sessions have ended.")


@router.post("/sessions/{session_id}/end")
async def end_session(session_id: SessionId, context: ContextDependency, posted: SignedInPost) -> Response:
    async with context.writing() as session:
        if not await auth.delete_session(session, posted.who.signed_in.person.id, session_id):
            raise Problem("not-found", "There is no such session of yours; it may have ended already.")
    return await go(context, posted.who, "/security", "The session has ended.")


@router.post("/sessions/end-others")
async def end_other_sessions(context: ContextDependency, posted: SignedInPost) -> Response:
    signed_in = posted.who.signed_in
    async with context.writing() as session:
        await auth.delete_sessions(session, signed_in.person.id, but=signed_in.session.id)
    return await go(context, posted.who, "/security", "All your other sessions have ended.")


@router.get("/confirm")
async def confirm_page(
    request: Request,
    context: ContextDependency,
    visitor: SignedInVisitor,
    next: Next = "/",  # noqa: A002 - in the URL
) -> Response:
    """Asks for the password again, then goes on to ``next``."""
    return _confirm_page(request, context, visitor, safe_next(next))


@router.post("/confirm")
async def confirm(request: Request, context: ContextDependency, posted: SignedInPost) -> Response:
    onward = safe_next(posted.text("next"))
    form, errors = posted.parse(Confirmation)
    if form is None:
        return _confirm_page(request, context, posted.who, onward, status=422, errors=errors)
    try:
        await service.confirm_session(context, posted.who.signed_in, secret(form.password), form.code)
    except Problem as problem:
        # The service speaks of the current password; this form has one field for it.
        errors = {name.removeprefix("current_"): text for name, text in pages.errors_of(problem).items()}
        response = _confirm_page(
            request, context, posted.who, onward, status=422, errors=errors, error="" if errors else problem.detail
        )
        response.headers.update(problem.headers)
        return response
    return await go(context, None, onward)


@router.post("/second-factor")
async def begin_second_factor(context: ContextDependency, posted: ConfirmedPost) -> Response:
    await service.begin_second_factor(context, posted.who.signed_in)
    return await go(context, posted.who, "/security/second-factor")


@router.get("/second-factor")
async def second_factor_page(request: Request, context: ContextDependency, visitor: ConfirmedVisitor) -> Response:
    return await _enrol_page(request, context, visitor)


@router.post("/second-factor/confirm")
async def confirm_second_factor(request: Request, context: ContextDependency, posted: ConfirmedPost) -> Response:
    """The recovery codes are in this answer and nowhere else."""
    form, errors = posted.parse(CodeCheck)
    if form is None:
        return await _enrol_page(request, context, posted.who, status=422, errors=errors)
    try:
        codes = await service.confirm_second_factor(context, posted.who.signed_in, form.code)
    except Problem as problem:
        return await _enrol_page(
            request, context, posted.who, status=422, errors=pages.errors_of(problem) or {"code": problem.detail}
        )
    return pages.render(request, context, posted.who, "security/recovery_codes.html", section="security", codes=codes)


@router.get("/second-factor/off")
async def second_factor_off_page(request: Request, context: ContextDependency, visitor: ConfirmedVisitor) -> Response:
    return pages.render(request, context, visitor, "security/second_factor_off.html", section="security")


@router.post("/second-factor/off")
async def end_second_factor(request: Request, context: ContextDependency, posted: ConfirmedPost) -> Response:
    form, errors = posted.parse(PasswordCheck)
    if form is not None:
        try:
            await service.end_second_factor(context, posted.who.signed_in, secret(form.password))
            return await go(context, posted.who, "/security", "The second factor is off.", "warn")
        except Problem as problem:
            errors = {"password": problem.detail}
    return pages.render(
        request, context, posted.who, "security/second_factor_off.html", section="security", status=422, errors=errors
    )


def _confirm_page(request: Request, context: Context, visitor: Visitor, onward: str, **values: Any) -> Response:
    person = visitor.signed_in.person
    return pages.render(
        request, context, visitor, "security/confirm.html", section="security", person=person, next=onward, **values
    )


async def _security_page(request: Request, context: Context, visitor: Visitor, **values: Any) -> Response:
    person = visitor.signed_in.person
    at = now()
    async with context.reading() as session:
        rows = await auth.list_sessions(session, person.id, at, at - context.settings.session_idle_timeout)
        codes_left = await repository.count_recovery_codes(session, person.id)
    sessions = [SessionOut.of(row, visitor.signed_in.session.id) for row in rows]
    return pages.render(
        request, context, visitor, "security/security.html", section="security", person=person, sessions=sessions,
        codes_left=codes_left, **values,
    )  # fmt: skip


async def _enrol_page(request: Request, context: Context, visitor: Visitor, **values: Any) -> Response:
    begun = service.begun_secret(context, visitor.signed_in.person)
    if begun is None:
        return await go(context, visitor, "/security")
    uri = totp.uri(begun, visitor.email)
    # Ours, made from our own text: nothing of it comes from outside.
    qr = Markup(totp.qr_svg(uri))  # noqa: S704
    return pages.render(
        request, context, visitor, "security/second_factor.html", section="security", qr=qr,
        secret=totp.secret_text(begun), **values,
    )  # fmt: skip
