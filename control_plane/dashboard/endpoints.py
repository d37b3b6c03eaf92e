"""The pages: sign in, functions, one function, keys. Plain HTML and forms; the styles are one file, scripts none."""

import secrets
from typing import Annotated, Any, Final

from fastapi import APIRouter, Cookie, Depends, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from control_plane.auth import repository as auth
from control_plane.auth.schemas import KeyOut
from control_plane.auth.tokens import TOKEN_CHARACTERS_MAX
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import service
from control_plane.dashboard.service import SESSION_COOKIE, SIGN_IN_COOKIE, Visitor
from control_plane.functions import repository as functions
from control_plane.functions import views
from control_plane.models import now
from control_plane.pagination import PageDependency
from control_plane.problems import Problem

router = APIRouter(include_in_schema=False)

_environment: Final = Environment(
    loader=PackageLoader("control_plane.dashboard"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

SessionCookie = Annotated[str | None, Cookie(alias=SESSION_COOKIE)]
SignInCookie = Annotated[str | None, Cookie(alias=SIGN_IN_COOKIE)]
CsrfField = Annotated[str, Form(max_length=100)]


async def _visitor(context: ContextDependency, cookie: SessionCookie = None) -> Visitor | None:
    return await service.find_visitor(context, cookie)


MaybeVisitor = Annotated[Visitor | None, Depends(_visitor)]


@router.get("/")
async def functions_page(context: ContextDependency, visitor: MaybeVisitor, page: PageDependency) -> Response:
    if visitor is None:
        return _sign_in_page(context)
    async with context.reading() as session:
        found = await functions.list_functions(session, visitor.tenant_id, page)
        items = await views.functions_out(
            session,
            found.items,
            tenant_id=visitor.tenant_id,
            tenant_name=visitor.tenant_name,
            gateway_url=context.settings.public_gateway_url,
        )
    return _page(
        "functions.html", visitor, "functions", functions=items, next_cursor=found.next_cursor, server=context.settings
    )


@router.get("/functions/{name}")
async def function_page(
    name: Annotated[str, Path(max_length=63)], context: ContextDependency, visitor: MaybeVisitor, page: PageDependency
) -> Response:
    if visitor is None:
        return _to("/")
    async with context.reading() as session:
        function = await functions.find_function(session, visitor.tenant_id, name)
        if function is None:
            return _page("missing.html", visitor, "functions", status=404, what=f"function {name!r}")
        [shown] = await views.functions_out(
            session,
            [function],
            tenant_id=visitor.tenant_id,
            tenant_name=visitor.tenant_name,
            gateway_url=context.settings.public_gateway_url,
        )
        found = await functions.list_versions(session, visitor.tenant_id, function.id, page)
        versions = await views.versions_out(session, function, found.items)
    return _page(
        "function.html", visitor, "functions", function=shown, versions=versions, next_cursor=found.next_cursor
    )


@router.get("/keys")
async def keys_page(context: ContextDependency, visitor: MaybeVisitor, page: PageDependency) -> Response:
    if visitor is None:
        return _to("/")
    if not visitor.scopes & {"read", "admin"}:
        return _page("missing.html", visitor, "keys", status=403, what="key with the scope read: keys are not shown")
    async with context.reading() as session:
        found = await auth.list_keys(session, visitor.tenant_id, page)
    return _page(
        "keys.html", visitor, "keys", keys=[KeyOut.of(key) for key in found.items], next_cursor=found.next_cursor
    )


@router.post("/sign-in")
async def sign_in(
    request: Request,
    context: ContextDependency,
    csrf_token: CsrfField,
    key: Annotated[str, Form(max_length=TOKEN_CHARACTERS_MAX)],
    sign_in_cookie: SignInCookie = None,
) -> Response:
    try:
        _check_origin(request, context)
        service.check_csrf(sign_in_cookie or "", csrf_token)
        cookie = await service.sign_in(context, key.strip())
    except Problem as problem:
        error = "This key is unknown, revoked or expired." if problem.slug == "unauthorized" else problem.detail
        return _sign_in_page(context, status=problem.status, error=error)
    response = _to("/")
    lifetime_s = int(context.settings.session_lifetime.total_seconds())
    _set_cookie(response, context, SESSION_COOKIE, cookie, lifetime_s)
    response.delete_cookie(SIGN_IN_COOKIE)
    return response


@router.post("/sign-out")
async def sign_out(
    request: Request,
    context: ContextDependency,
    visitor: MaybeVisitor,
    csrf_token: CsrfField,
    cookie: SessionCookie = None,
) -> Response:
    if visitor is not None and cookie is not None:
        _check_origin(request, context)
        service.check_csrf(visitor.csrf_token, csrf_token)
        await service.sign_out(context, cookie)
    response = _to("/")
    response.delete_cookie(SESSION_COOKIE)
    return response


def _check_origin(request: Request, context: Context) -> None:
    """A browser says where a form came from; it must be this server, under its public name or the one asked for."""
    origin = request.headers.get("origin")
    own = {context.settings.public_url, f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if origin is not None and origin not in own:
        detail = f"The form comes from another site ({origin}). Open {context.settings.public_url}/ and sign in there."
        raise Problem("forbidden", detail)


def _sign_in_page(context: Context, status: int = 200, error: str = "") -> Response:
    nonce = secrets.token_urlsafe(32)
    response = _page("sign_in.html", None, "", status=status, csrf_token=nonce, error=error)
    _set_cookie(response, context, SIGN_IN_COOKIE, nonce, max_age_s=3600)
    return response


def _set_cookie(response: Response, context: Context, name: str, value: str, max_age_s: int) -> None:
    is_https = context.settings.public_url.startswith("https://")
    response.set_cookie(name, value, max_age=max_age_s, httponly=True, samesite="strict", secure=is_https)


def _page(template: str, visitor: Visitor | None, section: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    content = _environment.get_template(template).render(visitor=visitor, section=section, now=now(), **values)
    return HTMLResponse(content, status_code=status)


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303)
