"""Rules about signing up, in and out.

What always holds: an answer, its time and its mail never tell a stranger whether an e-mail address is known; a link, a
code and a recovery code work once; a password is chosen only by whoever has followed a link in a mail to its address;
a log-in gives a fresh session, and a changed password ends all others.
"""

from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth import passwords, throttle, tokens, totp
from control_plane.auth import repository as auth
from control_plane.auth.principal import Actor, SignedIn, address_of, make_actor
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.mail import messages
from control_plane.models import Link, Person, Session, now
from control_plane.people import repository
from control_plane.problems import Problem
from control_plane.tenants import service as tenants

TOTP_PURPOSE: Final = "totp"
RECOVERY_CODES_COUNT: Final = 10
_LINK_REFUSED: Final = "This link is unknown, was used already or has expired. Ask for a new one."


@dataclass(frozen=True, slots=True)
class NewSession:
    row: Session
    person: Person
    token: str = field(repr=False)


# -- Signing up -------------------------------------------------------------------------------------------------------


async def ask_sign_up(context: Context, request: Request, email: str, tenant_name: str) -> None:
    """A mail with a link, whoever it is. The one thing said at once is whether the tenant's name is free: names are
    part of public URLs."""
    if not context.settings.sign_up_open:
        raise Problem("forbidden", "This server takes no sign-ups; ask its operator, or a member for an invitation.")
    await throttle.count_attempt(
        context, throttle.mail_bounds(context, email=email, address=address_of(context, request))
    )
    settings = context.settings
    async with context.writing() as session:
        await tenants.check_name_is_free(session, tenant_name)
        is_known = await repository.find_person(session, email) is not None
        # Written for somebody who is known, too, so that it takes as long; nobody ever reads that token.
        token = await _new_link(context, session, "sign-up", email, tenant_name)
        if is_known:
            subject, text = messages.sign_up_again(f"{settings.public_url}/sign-in", f"{settings.public_url}/reset")
        else:
            hours = int(settings.sign_up_link_lifetime.total_seconds() // 3600)
            link = f"{settings.public_url}/sign-up/finish?token={token}"
            subject, text = messages.sign_up(tenant_name, link, hours)
        messages.send(session, context.sealer, email, subject, text)


async def read_link(context: Context, purpose: str, token: str) -> Link:
    """Look at a link without using it, for the page behind it. Raises ``not-found``."""
    async with context.reading() as session:
        link = await repository.find_link(session, tokens.hash_token(token), purpose, now())
    if link is None:
        raise Problem("not-found", _LINK_REFUSED)
    return link


async def finish_sign_up(context: Context, request: Request, token: str, name: str, password: str) -> NewSession:
    """The person, the tenant and its owner, and a session."""
    link = await read_link(context, "sign-up", token)
    passwords.check_new_password(password, email=link.email)
    password_hash = await passwords.hash_password(context, password)
    async with context.writing() as session:
        if not await repository.use_link(session, link.sha256) or link.tenant_name is None:
            raise Problem("not-found", _LINK_REFUSED)
        if await repository.find_person(session, link.email) is not None:
            raise Problem("conflict", "This address has signed up meanwhile: sign in.")
        person = new_person(link.email, name, password_hash)
        session.add(person)
        await session.flush()
        actor = make_actor(context, request, person.id, person.email)
        tenant = await tenants.found(session, link.tenant_name, actor, owner=person)
        return await open_session(context, request, session, person, tenant_id=tenant.id)


def new_person(email: str, name: str, password_hash: str | None) -> Person:
    return Person(
        id=new_id("per"), email=email, name=name.strip() or email.partition("@")[0], password_hash=password_hash,
        created_at=now(), totp_step=0,
    )  # fmt: skip


# -- Signing in and out -----------------------------------------------------------------------------------------------


async def log_in(context: Context, request: Request, email: str, password: str, code: str | None) -> NewSession:
    """In one step, for programs. Raises ``unauthorized``, ``second-factor-required`` or ``too-many-attempts``."""
    person, bounds = await check_password(context, request, email, password)
    is_confirmed = person.totp_confirmed_at is not None
    if is_confirmed and code is None:
        raise Problem("second-factor-required", "The password is right; pass the authenticator's code as 'code'.")
    if is_confirmed:
        codes = throttle.second_factor_bounds(context, person_id=person.id)
        await throttle.count_attempt(context, codes)
        bounds += codes
    async with context.writing() as session:
        if is_confirmed:
            actor = make_actor(context, request, person.id, person.email)
            await _use_code(context, session, person, code or "", actor)
        await throttle.forgive(session, bounds)
        return await open_session(context, request, session, person, has_second_factor=is_confirmed)


async def begin_log_in(context: Context, request: Request, email: str, password: str) -> NewSession:
    """For the dashboard: with a second factor the session is pending until the code comes."""
    person, bounds = await check_password(context, request, email, password)
    is_pending = person.totp_confirmed_at is not None
    async with context.writing() as session:
        if not is_pending:
            await throttle.forgive(session, bounds)
        return await open_session(context, request, session, person, is_pending=is_pending)


async def give_second_factor(context: Context, request: Request, pending: SignedIn, code: str) -> NewSession:
    """The pending session ends, a fresh one begins: a token that existed before the code is worth nothing after."""
    bounds = throttle.log_in_bounds(context, email=pending.person.email, address=address_of(context, request))
    bounds += throttle.second_factor_bounds(context, person_id=pending.person.id)
    await throttle.count_attempt(context, bounds)
    async with context.writing() as session:
        await _use_code(context, session, pending.person, code, pending.actor)
        await throttle.forgive(session, bounds)
        await auth.delete_session(session, pending.person.id, pending.session.id)
        return await open_session(context, request, session, pending.person, has_second_factor=True)


async def check_password(
    context: Context, request: Request, email: str, password: str
) -> tuple[Person, list[throttle.Bound]]:
    bounds = throttle.log_in_bounds(context, email=email, address=address_of(context, request))
    await throttle.count_attempt(context, bounds)
    async with context.reading() as session:
        person = await repository.find_person(session, email)
    is_right = await passwords.verify_password(context, person.password_hash if person else None, password)
    if person is None or not is_right:
        raise Problem("unauthorized", "The e-mail address or the password is wrong.")
    if person.password_hash and passwords.is_outdated(person.password_hash):
        fresh = await passwords.hash_password(context, password)
        async with context.writing() as session:
            await repository.set_password(session, person.id, fresh)
    return person, bounds


async def open_session(
    context: Context,
    request: Request,
    session: AsyncSession,
    person: Person,
    *,
    tenant_id: str | None = None,
    is_pending: bool = False,
    has_second_factor: bool = False,
    is_confirmed: bool = True,
) -> NewSession:
    """``is_confirmed`` false: what makes this session is not all that a log-in would have asked for."""
    token = tokens.new_session_token()
    at = now()
    if tenant_id is None and not is_pending:
        memberships = await auth.memberships_of(session, person.id)
        tenant_id = memberships[0][1].id if memberships else None
    row = Session(
        sha256=tokens.hash_token(token),
        id=new_id("ses"),
        person_id=person.id,
        tenant_id=tenant_id,
        csrf_token=tokens.new_link_token(),
        is_pending=is_pending,
        has_second_factor=has_second_factor,
        confirmed_at=at if is_confirmed and not is_pending else None,
        flash=None,
        address=address_of(context, request),
        user_agent=request.headers.get("user-agent", "")[:200],
        created_at=at,
        seen_at=at,
        expires_at=at + (context.settings.log_in_window if is_pending else context.settings.session_lifetime),
    )
    session.add(row)
    if not is_pending:
        actor = make_actor(context, request, person.id, person.email)
        await session.flush()
        await audit.record_for_person(session, actor, "person.signed-in")
    return NewSession(row, person, token)


async def make_sign_in_link(context: Context, session: AsyncSession, email: str, tenant_name: str) -> str:
    """For the operator, who may do anything anyway: signs in as the person once, for the first look at a new server."""
    token = await _new_link(context, session, "sign-in", email, tenant_name)
    return f"{context.settings.public_url}/sign-in/link?token={token}"


async def use_sign_in_link(context: Context, request: Request, token: str) -> NewSession:
    link = await read_link(context, "sign-in", token)
    async with context.writing() as session:
        person = await repository.find_person(session, link.email)
        if person is None or not await repository.use_link(session, link.sha256):
            raise Problem("not-found", _LINK_REFUSED)
        memberships = await auth.memberships_of(session, person.id)
        tenant_id = next((tenant.id for _, tenant in memberships if tenant.name == link.tenant_name), None)
        # Somebody who has a password gives it before what is to be confirmed; the first look at a new server has none.
        is_bare = person.password_hash is None and person.totp_confirmed_at is None
        return await open_session(context, request, session, person, tenant_id=tenant_id, is_confirmed=is_bare)


# -- Passwords --------------------------------------------------------------------------------------------------------


async def ask_reset(context: Context, request: Request, email: str) -> None:
    await throttle.count_attempt(
        context, throttle.mail_bounds(context, email=email, address=address_of(context, request))
    )
    settings = context.settings
    async with context.writing() as session:
        # For an unknown address the same is written, so that it takes as long: a link that changes nobody's password
        # and a mail to nobody.
        is_known = await repository.find_person(session, email) is not None
        token = await _new_link(context, session, "reset", email, None)
        minutes = int(settings.reset_link_lifetime.total_seconds() // 60)
        subject, text = messages.reset(f"{settings.public_url}/reset/finish?token={token}", minutes)
        messages.send(session, context.sealer, email if is_known else messages.NOBODY, subject, text)


async def finish_reset(context: Context, request: Request, token: str, password: str) -> None:
    """A new password; the second factor stays as it is. Whoever was signed in no longer is."""
    link = await read_link(context, "reset", token)
    passwords.check_new_password(password, email=link.email)
    password_hash = await passwords.hash_password(context, password)
    async with context.writing() as session:
        person = await repository.find_person(session, link.email)
        if person is None or not await repository.use_link(session, link.sha256):
            raise Problem("not-found", _LINK_REFUSED)
        actor = make_actor(context, request, person.id, person.email)
        await _set_password(context, session, person, password_hash, actor, "person.password-reset", but=None)


async def change_password(context: Context, signed_in: SignedIn, current: str, password: str) -> None:
    await confirm_password(context, signed_in, current)
    person = signed_in.person
    passwords.check_new_password(password, email=person.email)
    password_hash = await passwords.hash_password(context, password)
    async with context.writing() as session:
        await _set_password(
            context, session, person, password_hash, signed_in.actor, "person.password-changed",
            but=signed_in.session.id,
        )  # fmt: skip


async def confirm_password(context: Context, signed_in: SignedIn, password: str) -> None:
    """Before what an unattended screen must not allow. Raises ``forbidden``."""
    person = signed_in.person
    bounds = throttle.log_in_bounds(context, email=person.email, address=signed_in.actor.address)
    await throttle.count_attempt(context, bounds)
    if not await passwords.verify_password(context, person.password_hash, password):
        raise Problem(
            "forbidden",
            "The current password is wrong.",
            errors=[{"field": "current_password", "message": "This is not your current password"}],
        )
    async with context.writing() as session:
        await throttle.forgive(session, bounds)


async def confirm_session(context: Context, signed_in: SignedIn, password: str, code: str | None) -> None:
    """All that a log-in asks for, once more: for a while the session may do what is to be confirmed. Raises
    ``forbidden``, ``second-factor-required``, ``unauthorized`` (the code) or ``too-many-attempts``."""
    person = signed_in.person
    await confirm_password(context, signed_in, password)
    is_enrolled = person.totp_confirmed_at is not None
    if is_enrolled and code is None:
        raise Problem(
            "second-factor-required",
            "The password is right; pass the authenticator's code as 'code'.",
            errors=[{"field": "code", "message": "Type the code that your authenticator shows"}],
        )
    codes = throttle.second_factor_bounds(context, person_id=person.id) if is_enrolled else []
    await throttle.count_attempt(context, codes)
    async with context.writing() as session:
        if is_enrolled:
            await _use_code(context, session, person, code or "", signed_in.actor)
            await auth.note_second_factor(session, person.id, signed_in.session.id)
        await throttle.forgive(session, codes)
        await auth.note_confirmed(session, person.id, signed_in.session.id, now())


async def _set_password(
    context: Context,
    session: AsyncSession,
    person: Person,
    password_hash: str,
    actor: Actor,
    action: str,
    *,
    but: str | None,
) -> None:
    await repository.set_password(session, person.id, password_hash)
    await auth.delete_sessions(session, person.id, but=but)
    await repository.delete_links(session, person.email, "reset")
    await audit.record_for_person(session, actor, action)
    subject, text = messages.password_changed(f"{context.settings.public_url}/reset")
    messages.send(session, context.sealer, person.email, subject, text)


async def _new_link(context: Context, session: AsyncSession, purpose: str, email: str, tenant_name: str | None) -> str:
    """Replaces earlier ones: the newest mail is the one that works."""
    lifetime = {
        "sign-up": context.settings.sign_up_link_lifetime,
        "reset": context.settings.reset_link_lifetime,
        "sign-in": context.settings.sign_in_link_lifetime,
    }[purpose]
    await repository.delete_links(session, email, purpose)
    token = tokens.new_link_token()
    at = now()
    session.add(
        Link(
            sha256=tokens.hash_token(token), purpose=purpose, email=email, tenant_name=tenant_name, created_at=at,
            expires_at=at + lifetime,
        )
    )  # fmt: skip
    return token


# -- The second factor ------------------------------------------------------------------------------------------------


async def begin_second_factor(context: Context, signed_in: SignedIn) -> bytes:
    """A fresh secret, in force once a code of it has been given."""
    if signed_in.person.totp_confirmed_at is not None:
        raise Problem("conflict", "The second factor is on already; turn it off first.")
    secret = totp.new_secret()
    async with context.writing() as session:
        person = await _person_again(session, signed_in)
        person.totp_sealed = context.sealer.seal(TOTP_PURPOSE, secret)
        person.totp_step = 0
    return secret


def begun_secret(context: Context, person: Person) -> bytes | None:
    """Of an enrolment under way, to show it again."""
    if person.totp_sealed is None or person.totp_confirmed_at is not None:
        return None
    return context.sealer.open(TOTP_PURPOSE, person.totp_sealed)


async def confirm_second_factor(context: Context, signed_in: SignedIn, code: str) -> list[str]:
    """→ the recovery codes. Other sessions end: they have shown a password only."""
    codes = totp.new_recovery_codes(RECOVERY_CODES_COUNT)
    async with context.writing() as session:
        person = await _person_again(session, signed_in)
        if person.totp_confirmed_at is not None:
            raise Problem("conflict", "The second factor is on already.")
        if person.totp_sealed is None:
            raise Problem("conflict", "Begin first: there is no secret to confirm.")
        await _take_code(context, session, person, code)
        person.totp_confirmed_at = now()
        hashes = [totp.recovery_hash(person.id, each) for each in codes]
        await repository.replace_recovery_codes(session, person.id, hashes)
        await auth.delete_sessions(session, person.id, but=signed_in.session.id)
        await auth.note_second_factor(session, person.id, signed_in.session.id)
        await audit.record_for_person(session, signed_in.actor, "person.second-factor-on")
        subject, text = messages.second_factor_changed(True, f"{context.settings.public_url}/security")
        messages.send(session, context.sealer, person.email, subject, text)
    return codes


async def end_second_factor(context: Context, signed_in: SignedIn, password: str) -> None:
    await confirm_password(context, signed_in, password)
    async with context.writing() as session:
        person = await _person_again(session, signed_in)
        person.totp_sealed = None
        person.totp_confirmed_at = None
        person.totp_step = 0
        await repository.replace_recovery_codes(session, person.id, [])
        await auth.forget_second_factor(session, person.id)
        await audit.record_for_person(session, signed_in.actor, "person.second-factor-off")
        subject, text = messages.second_factor_changed(False, f"{context.settings.public_url}/security")
        messages.send(session, context.sealer, person.email, subject, text)


async def _use_code(context: Context, session: AsyncSession, person: Person, code: str, actor: Actor) -> None:
    if len(code.replace(" ", "")) == totp.DIGITS:
        await _take_code(context, session, person, code)
    elif await repository.use_recovery_code(session, person.id, totp.recovery_hash(person.id, code)):
        await audit.record_for_person(session, actor, "person.recovery-code-used")
    else:
        raise _wrong_code()


async def _take_code(context: Context, session: AsyncSession, person: Person, code: str) -> None:
    secret = context.sealer.open(TOTP_PURPOSE, person.totp_sealed or b"")
    step = totp.matching_step(secret, code, after_step=person.totp_step)
    if step is None or not await repository.take_step(session, person.id, step):
        raise _wrong_code()


def _wrong_code() -> Problem:
    return Problem(
        "unauthorized",
        "The code is wrong, too old or was used already; wait for the next one.",
        errors=[{"field": "code", "message": "Wrong, too old or used already: wait for the next one"}],
    )


async def _person_again(session: AsyncSession, signed_in: SignedIn) -> Person:
    """The row in this transaction."""
    person = await repository.get_person(session, signed_in.person.id)
    if person is None:
        raise Problem("unauthorized", "This person is no longer here.")
    return person
