"""Operators at the pages under /admin: who may look, and whether a form is really theirs.

``OperatorLook`` is for pages, ``OperatorPost`` for what changes something; both have an ``Operator`` whose actor goes
into the operators' log. To everybody else who is signed in these pages are not there (404); whoever is not signed in
signs in.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from control_plane.auth.principal import Operator, check_confirmed, operator_of
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import operator_figures, pages
from control_plane.dashboard.visitor import Posted, Visitor, find_visitor, post_signed_in, require_visitor
from control_plane.problems import Problem


@dataclass(frozen=True, slots=True)
class Looking:
    visitor: Visitor
    operator: Operator


@dataclass(frozen=True, slots=True)
class Posting(Looking):
    posted: Posted


async def look(request: Request, context: ContextDependency) -> Looking:
    if request.headers.get("hx-request") and await find_visitor(request, context) is None:
        # A page that refreshes itself: let the browser load it whole, which leads to the sign-in.
        raise Problem("unauthorized", "The session has ended.", headers={"HX-Refresh": "true"})
    visitor = await require_visitor(request, context)
    return Looking(visitor, operator_of(context, visitor.signed_in))


async def post(context: ContextDependency, posted: Annotated[Posted, Depends(post_signed_in)]) -> Posting:
    operator = operator_of(context, posted.who.signed_in)
    check_confirmed(posted.who.signed_in)
    return Posting(posted.who, operator, posted)


def render(
    request: Request,
    context: Context,
    looking: Looking,
    template: str,
    *,
    section: str,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """``section``: of ``operator_sections.SECTIONS``."""
    return pages.render(
        request, context, looking.visitor, f"admin/{template}", section=section, status=status,
        path=request.url.path + (f"?{request.url.query}" if request.url.query else ""), show=operator_figures,
        sections=SECTIONS, **values,
    )  # fmt: skip


SECTIONS = (
    ("admin-overview", "Overview", "/admin", "overview"),
    ("admin-tenants", "Tenants", "/admin/tenants", "members"),
    ("admin-nodes", "Nodes", "/admin/nodes", "nodes"),
    ("admin-usage", "Usage", "/admin/usage", "usage"),
    ("admin-webhooks", "Webhooks", "/admin/webhooks", "hook"),
    ("admin-reconciliation", "Reconciliation", "/admin/reconciliation", "compare"),
    ("admin-settings", "Settings", "/admin/settings", "settings"),
    ("admin-audit", "Operators' log", "/admin/audit", "audit"),
    ("admin-runbook", "Runbook", "/admin/runbook", "book"),
)
"""(id, label, path, icon), in the order of the navigation."""

OperatorLook = Annotated[Looking, Depends(look)]
OperatorPost = Annotated[Posting, Depends(post)]
