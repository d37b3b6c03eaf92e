"""/v1/sign-up, /v1/sessions, /v1/password-resets and /v1/person: for people, whatever tenants they belong to."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from control_plane import ids
from control_plane.auth import permissions, totp
from control_plane.auth import repository as auth
from control_plane.auth.principal import ConfirmedCaller, PersonCaller
from control_plane.context import ContextDependency
from control_plane.models import now
from control_plane.people import repository, service
from control_plane.people.schemas import (
    CodeCheck,
    Confirmation,
    LogIn,
    MailSent,
    PasswordChange,
    PasswordCheck,
    PersonOut,
    PersonTenant,
    RecoveryCodes,
    ResetAsk,
    ResetFinish,
    SecondFactorBegun,
    SessionCreated,
    SessionList,
    SessionOut,
    SignUp,
    SignUpFinish,
)
from control_plane.people.service import NewSession
from control_plane.problems import Problem

router = APIRouter(prefix="/v1", tags=["people"])
SessionId = Annotated[str, Path(pattern=ids.pattern("ses"))]
_SENT = MailSent(message="If this address can be used for that, a mail with a link is on its way.")


@router.post("/sign-up", status_code=202)
async def sign_up(body: SignUp, request: Request, context: ContextDependency) -> MailSent:
    """Ask for a tenant of one's own. A mail brings the link to go on with."""
    await service.ask_sign_up(context, request, body.email, body.tenant)
    return _SENT


@router.post("/sign-up/finish", status_code=201)
async def finish_sign_up(body: SignUpFinish, request: Request, context: ContextDependency) -> SessionCreated:
    """With the link's token: make the person and the tenant, and sign in."""
    made = await service.finish_sign_up(context, request, body.token, body.name, body.password.get_secret_value())
    return _created(made)


@router.post("/sessions", status_code=201)
async def log_in(body: LogIn, request: Request, context: ContextDependency) -> SessionCreated:
    """Sign in. The answer and its time are the same for an unknown address and a wrong password."""
    return _created(await service.log_in(context, request, body.email, body.password.get_secret_value(), body.code))


@router.get("/sessions")
async def list_sessions(context: ContextDependency, caller: PersonCaller) -> SessionList:
    """Where the person is signed in, the last used first."""
    at = now()
    async with context.reading() as session:
        rows = await auth.list_sessions(session, caller.person.id, at, at - context.settings.session_idle_timeout)
    return SessionList(items=[SessionOut.of(row, caller.session.id) for row in rows])


@router.delete("/sessions/current", status_code=204)
async def log_out(context: ContextDependency, caller: PersonCaller) -> None:
    """End the session that asks."""
    async with context.writing() as session:
        await auth.delete_session(session, caller.person.id, caller.session.id)


@router.post("/sessions/current/confirm", status_code=204)
async def confirm_session(body: Confirmation, context: ContextDependency, caller: PersonCaller) -> None:
    """The password again, with the second factor's code where it is on: before keys, members, the second factor."""
    await service.confirm_session(context, caller, body.password.get_secret_value(), body.code)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: SessionId, context: ContextDependency, caller: PersonCaller) -> None:
    async with context.writing() as session:
        if not await auth.delete_session(session, caller.person.id, session_id):
            raise Problem("not-found", f"There is no session {session_id!r} of yours.")


@router.post("/password-resets", status_code=202)
async def ask_reset(body: ResetAsk, request: Request, context: ContextDependency) -> MailSent:
    await service.ask_reset(context, request, body.email)
    return _SENT


@router.post("/password-resets/finish", status_code=204)
async def finish_reset(body: ResetFinish, request: Request, context: ContextDependency) -> None:
    """With the link's token: choose a new password. All sessions end."""
    await service.finish_reset(context, request, body.token, body.password.get_secret_value())


@router.get("/person")
async def get_person(context: ContextDependency, caller: PersonCaller) -> PersonOut:
    """Who is signed in, and the tenants that they are a member of."""
    person = caller.person
    async with context.reading() as session:
        memberships = await auth.memberships_of(session, person.id)
        codes_left = await repository.count_recovery_codes(session, person.id)
    return PersonOut(
        id=person.id,
        email=person.email,
        name=person.name,
        second_factor=person.totp_confirmed_at is not None,
        recovery_codes_left=codes_left,
        created_at=person.created_at,
        tenants=[
            PersonTenant.model_validate(
                {
                    "id": tenant.id,
                    "name": tenant.name,
                    "status": tenant.status,
                    "role": member.role,
                    "permissions": sorted(permissions.OF_ROLE[member.role]),  # type: ignore[index]
                }
            )
            for member, tenant in memberships
        ],
    )


@router.put("/person/password", status_code=204)
async def change_password(body: PasswordChange, context: ContextDependency, caller: PersonCaller) -> None:
    """All other sessions end."""
    current, fresh = body.current_password.get_secret_value(), body.password.get_secret_value()
    await service.change_password(context, caller, current, fresh)


@router.post("/person/second-factor", status_code=201)
async def begin_second_factor(context: ContextDependency, caller: ConfirmedCaller) -> SecondFactorBegun:
    """A secret for an authenticator, in force after /confirm."""
    secret = await service.begin_second_factor(context, caller)
    uri = totp.uri(secret, caller.person.email)
    return SecondFactorBegun(secret=totp.secret_text(secret), uri=uri, qr_svg=totp.qr_svg(uri))


@router.post("/person/second-factor/confirm")
async def confirm_second_factor(body: CodeCheck, context: ContextDependency, caller: ConfirmedCaller) -> RecoveryCodes:
    return RecoveryCodes(recovery_codes=await service.confirm_second_factor(context, caller, body.code))


@router.post("/person/second-factor/off", status_code=204)
async def end_second_factor(body: PasswordCheck, context: ContextDependency, caller: ConfirmedCaller) -> None:
    """Turn it off, with the password."""
    await service.end_second_factor(context, caller, body.password.get_secret_value())


def _created(made: NewSession) -> SessionCreated:
    out = SessionOut.of(made.row, made.row.id)
    return SessionCreated(**out.model_dump(), token=made.token)
