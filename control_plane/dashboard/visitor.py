"""Who is looking at the dashboard, and whether a form is really theirs.

A page takes ``see(permission)``: somebody signed in who may see it. What changes something takes ``post(permission)``,
which has also checked where the form comes from (the Origin header, RFC 6454, and a token in the form that another
site cannot know) and has read its fields. Forms before the sign-in carry the value of a cookie of their own instead of
the session's token. The session's cookie is never accepted by the API.
"""

import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, SecretStr, ValidationError
from starlette.datastructures import URL, FormData, UploadFile
from starlette.responses import Response

from control_plane.auth import repository as auth
from control_plane.auth.permissions import Permission
from control_plane.auth.principal import (
    Principal,
    SignedIn,
    act_for,
    check_confirmed,
    check_permission,
    find_any_session,
)
from control_plane.context import Context, ContextDependency
from control_plane.models import Member, Tenant
from control_plane.problems import Problem
from control_plane.settings import Settings

FIELDS_MAX: Final = 100
FILES_MAX: Final = 1
CSRF_FIELD: Final = "csrf_token"


class Elsewhere(Exception):  # noqa: N818 - not an error: where to go instead
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody signed in, and the tenant that they look at; None if they are a member of none."""

    signed_in: SignedIn
    principal: Principal | None
    memberships: list[tuple[Member, Tenant]]
    csrf_token: str = field(repr=False)
    flash: dict[str, Any] | None = None

    @property
    def tenant(self) -> Principal:
        """Raises Elsewhere: to the page for people without a tenant."""
        if self.principal is None:
            raise Elsewhere("/tenants")
        return self.principal

    @property
    def tenant_id(self) -> str:
        return self.tenant.tenant_id

    @property
    def tenant_name(self) -> str:
        return self.tenant.tenant_name

    @property
    def email(self) -> str:
        return self.signed_in.person.email

    @property
    def is_operator(self) -> bool:
        """For what the navigation offers; ``operator_visitor`` decides."""
        return self.signed_in.person.operator_since is not None

    def may(self, permission: Permission) -> bool:
        return self.principal is not None and self.principal.may(permission)


@dataclass(frozen=True, slots=True)
class Posted:
    """A form that was checked. ``visitor`` is None before the sign-in."""

    visitor: Visitor | None
    fields: dict[str, list[str]] = field(repr=False)
    files: dict[str, UploadFile] = field(default_factory=dict, repr=False)
    """Only ``post_files`` takes any."""

    @property
    def who(self) -> Visitor:
        if self.visitor is None:
            raise Elsewhere("/sign-in")
        return self.visitor

    def text(self, name: str) -> str:
        return next(iter(self.fields.get(name, [])), "")

    def values(self) -> dict[str, Any]:
        """To show the form again. Not what must not be shown: the template leaves passwords empty."""
        return {name: given[0] for name, given in self.fields.items() if given}

    def parse[Form: BaseModel](self, model: type[Form]) -> tuple[Form | None, dict[str, str]]:
        """→ the form, or None and field → what is wrong."""
        given: dict[str, Any] = {}
        for name, about in model.model_fields.items():
            values = self.fields.get(name, [])
            is_list = getattr(about.annotation, "__origin__", None) is list
            if is_list:
                given[name] = values
            elif values and values[0] != "":
                given[name] = values[0]
        try:
            return model.model_validate(given), {}
        except ValidationError as error:
            return None, {str(each["loc"][0]) if each["loc"] else "": _plain(each) for each in error.errors()}


def _plain(error: Any) -> str:
    kind = error["type"]
    if kind == "missing":
        return "Fill this in"
    if kind == "string_pattern_mismatch":
        return "This is not in the form asked for"
    return str(error["msg"]).removeprefix("Value error, ").capitalize()


def session_cookie(settings: Settings) -> str:
    """Over https the browser itself keeps a ``__Host-`` cookie from other paths, subdomains and plain http."""
    return "__Host-tailcut_session" if settings.is_https else "tailcut_session"


def form_cookie(settings: Settings) -> str:
    return "__Host-tailcut_form" if settings.is_https else "tailcut_form"


def set_cookie(response: Response, context: Context, name: str, value: str, max_age_s: int | None) -> None:
    """Lax, not strict: links in mails must find their reader signed in; changes are protected by the form's token."""
    response.set_cookie(
        name, value, max_age=max_age_s, httponly=True, samesite="lax", secure=context.settings.is_https, path="/"
    )


def drop_cookie(response: Response, context: Context, name: str) -> None:
    response.delete_cookie(name, path="/", secure=context.settings.is_https, httponly=True, samesite="lax")


async def pending_visitor(request: Request, context: ContextDependency) -> SignedIn | None:
    """Somebody whose second factor is still to come."""
    token = request.cookies.get(session_cookie(context.settings), "")
    found = await find_any_session(context, request, token)
    return found if found is not None and found.session.is_pending else None


async def find_visitor(request: Request, context: ContextDependency) -> Visitor | None:
    token = request.cookies.get(session_cookie(context.settings), "")
    found = await find_any_session(context, request, token, is_use=not is_poll(request))
    if found is None or found.session.is_pending:
        return None
    async with context.reading() as session:
        memberships = await auth.memberships_of(session, found.person.id)
    principal = None
    if memberships:
        names = {tenant.id: tenant.name for _, tenant in memberships}
        name = names.get(found.session.tenant_id or "", memberships[0][1].name)
        principal = await act_for(context, request, found, name)
    flash = None if is_poll(request) else found.session.flash
    if flash is not None:
        async with context.writing() as session:
            await auth.set_flash(session, found.person.id, found.session.id, None)
    return Visitor(found, principal, memberships, found.session.csrf_token, flash)


async def require_visitor(request: Request, context: ContextDependency) -> Visitor:
    visitor = await find_visitor(request, context)
    if visitor is None:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        is_get = request.method == "GET" and path != "/"
        raise Elsewhere(f"/sign-in?next={quote(path)}" if is_get else "/sign-in")
    return visitor


def see(permission: Permission) -> Callable[..., Awaitable[Visitor]]:
    async def dependency(visitor: Annotated[Visitor, Depends(require_visitor)]) -> Visitor:
        check_permission(visitor.tenant, permission)
        return visitor

    return dependency


def post(permission: Permission) -> Callable[..., Awaitable[Posted]]:
    async def dependency(posted: Annotated[Posted, Depends(post_signed_in)]) -> Posted:
        check_permission(posted.who.tenant, permission)
        return posted

    return dependency


def post_files(permission: Permission) -> Callable[..., AsyncIterator[Posted]]:
    """A form with files. Nothing is read before it is known that the visitor may send them; they go when it is done."""

    async def dependency(request: Request, context: ContextDependency) -> AsyncIterator[Posted]:
        visitor = await require_visitor(request, context)
        check_permission(visitor.tenant, permission)
        check_origin(request, context)
        async with context.upload_slot(), request.form(max_files=FILES_MAX, max_fields=FIELDS_MAX) as form:
            posted = _posted(form, visitor, visitor.csrf_token)
            files = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
            yield Posted(visitor, posted.fields, {name: file for name, file in files.items() if file.filename})

    return dependency


async def post_signed_in(request: Request, context: ContextDependency) -> Posted:
    visitor = await require_visitor(request, context)
    return await _checked(request, context, visitor, visitor.csrf_token)


async def require_confirmed(visitor: Annotated[Visitor, Depends(require_visitor)]) -> Visitor:
    """Somebody who has given the password lately; else ``app`` leads to the page that asks for it."""
    check_confirmed(visitor.signed_in)
    return visitor


async def post_confirmed(posted: Annotated[Posted, Depends(post_signed_in)]) -> Posted:
    check_confirmed(posted.who.signed_in)
    return posted


async def post_anybody(request: Request, context: ContextDependency) -> Posted:
    """A form before the sign-in."""
    expected = request.cookies.get(form_cookie(context.settings), "")
    return await _checked(request, context, None, expected)


async def _checked(request: Request, context: Context, visitor: Visitor | None, expected: str) -> Posted:
    check_origin(request, context)
    return _posted(await request.form(max_files=0, max_fields=FIELDS_MAX), visitor, expected)


def _posted(form: FormData, visitor: Visitor | None, expected: str) -> Posted:
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    given = next(iter(fields.pop(CSRF_FIELD, [])), "")
    check_csrf(expected, given)
    return Posted(visitor, fields)


def check_origin(request: Request, context: Context) -> None:
    """A browser says where a form came from; it must be this server, under its public name or the one asked for."""
    origin = request.headers.get("origin")
    own = {context.settings.public_url, f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if (origin is not None and origin not in own) or request.headers.get("sec-fetch-site") == "cross-site":
        where = f" ({origin})" if origin else ""
        raise Problem(
            "forbidden", f"The form comes from another site{where}. Open {context.settings.public_url}/ and try there."
        )


def is_poll(request: Request) -> bool:
    """A page that refreshes a part of itself, by htmx: nobody has looked, nobody has done anything."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def check_csrf(expected: str, given: str) -> None:
    """``expected`` empty (no cookie) never matches."""
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Problem("forbidden", "The form is too old or comes from another page. Load the page again and retry.")


def new_form_token() -> str:
    return secrets.token_urlsafe(32)


def secret(value: SecretStr) -> str:
    return value.get_secret_value()


def confirm_path(request: Request) -> str:
    """The page that asks for the password, and comes back: to this page, or to the one whose form was sent."""
    back = request.url
    if request.method != "GET":
        back = URL(request.headers.get("referer", ""))
        if back.netloc != request.headers.get("host", ""):
            return "/security/confirm"
    return f"/security/confirm?next={quote(back.path + (f'?{back.query}' if back.query else ''))}"


def safe_next(path: str) -> str:
    """Where to go after the sign-in: a path of this server, or the first page."""
    is_path = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_path else "/"


async def go(context: Context, visitor: Visitor | None, path: str, text: str = "", tone: str = "good") -> Response:
    """After a change: to a page, which says ``text`` once."""
    if visitor is not None and text:
        async with context.writing() as session:
            person_id, session_id = visitor.signed_in.person.id, visitor.signed_in.session.id
            await auth.set_flash(session, person_id, session_id, {"text": text, "tone": tone})
    return RedirectResponse(path, status_code=303)


MaybeVisitor = Annotated[Visitor | None, Depends(find_visitor)]
SignedInVisitor = Annotated[Visitor, Depends(require_visitor)]
Pending = Annotated[SignedIn | None, Depends(pending_visitor)]
AnybodysPost = Annotated[Posted, Depends(post_anybody)]
SignedInPost = Annotated[Posted, Depends(post_signed_in)]
ConfirmedVisitor = Annotated[Visitor, Depends(require_confirmed)]
ConfirmedPost = Annotated[Posted, Depends(post_confirmed)]
