"""All pages: the routers of the files beside this one, and what belongs to none of them."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from control_plane.context import ContextDependency
from control_plane.dashboard import (
    access_pages,
    admin_billing_pages,
    admin_pages,
    admin_tenant_pages,
    audit_pages,
    billing_pages,
    change_pages,
    deploy_pages,
    function_pages,
    key_pages,
    log_pages,
    member_pages,
    overview_pages,
    pages,
    purchase_pages,
    secret_pages,
    security_pages,
    spend_cap_pages,
    tenant_pages,
    try_pages,
    usage_pages,
)
from control_plane.dashboard.visitor import check_origin, safe_next

_FOREVER: Final = "public, max-age=31536000, immutable"
_YEAR_S: Final = 365 * 24 * 3600

router = APIRouter(include_in_schema=False)
PARTS: Final = (
    access_pages,
    admin_billing_pages,
    admin_pages,
    admin_tenant_pages,
    audit_pages,
    billing_pages,
    change_pages,
    deploy_pages,
    function_pages,
    key_pages,
    log_pages,
    member_pages,
    overview_pages,
    purchase_pages,
    secret_pages,
    security_pages,
    spend_cap_pages,
    tenant_pages,
    try_pages,
    usage_pages,
)
for part in PARTS:
    router.include_router(part.router)


@router.get("/static/htmx.js")
async def htmx(request: Request) -> Response:
    """Third-party source that we do not keep: it lies in its package."""
    headers = {"Cache-Control": _FOREVER if request.url.query else "no-cache"}
    return FileResponse(pages.htmx_file(), media_type="text/javascript", headers=headers)


@router.post("/theme")
async def set_theme(request: Request, context: ContextDependency) -> Response:
    """Light, dark or as the system says. It changes only a cookie: a foreign Origin is all that is refused."""
    check_origin(request, context)
    form = await request.form(max_files=0, max_fields=3)
    theme = str(form.get("theme", ""))
    response = RedirectResponse(safe_next(str(form.get("next", "/"))), status_code=303)
    if theme in pages.THEMES:
        response.set_cookie(
            pages.THEME_COOKIE, theme, max_age=_YEAR_S, samesite="lax", secure=context.settings.is_https, httponly=True
        )
    return response
