"""The functions, and one of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import RedirectResponse, Response

from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.navigation import first_path
from control_plane.dashboard.visitor import SignedInVisitor, Visitor, see
from control_plane.functions import repository as functions
from control_plane.functions import views
from control_plane.pagination import PageDependency
from control_plane.problems import Problem

router = APIRouter()
Reader = Annotated[Visitor, Depends(see("functions.read"))]


@router.get("/")
async def functions_page(
    request: Request, context: ContextDependency, visitor: SignedInVisitor, page: PageDependency
) -> Response:
    if not visitor.may("functions.read"):
        return RedirectResponse(first_path(visitor), status_code=303)
    async with context.reading() as session:
        found = await functions.list_functions(session, visitor.tenant_id, page)
        items = await views.functions_out(
            session,
            found.items,
            tenant_id=visitor.tenant_id,
            tenant_name=visitor.tenant_name,
            gateway_url=context.settings.public_gateway_url,
        )
    return pages.render(
        request, context, visitor, "functions.html", section="functions", functions=items,
        next_cursor=found.next_cursor,
    )  # fmt: skip


@router.get("/functions/{name}")
async def function_page(
    request: Request,
    name: Annotated[str, Path(max_length=63)],
    context: ContextDependency,
    visitor: Reader,
    page: PageDependency,
) -> Response:
    async with context.reading() as session:
        function = await functions.find_function(session, visitor.tenant_id, name)
        if function is None:
            raise Problem("not-found", f"There is no function {name!r}.")
        [shown] = await views.functions_out(
            session,
            [function],
            tenant_id=visitor.tenant_id,
            tenant_name=visitor.tenant_name,
            gateway_url=context.settings.public_gateway_url,
        )
        found = await functions.list_versions(session, visitor.tenant_id, function.id, page)
        versions = await views.versions_out(session, function, found.items)
    return pages.render(
        request, context, visitor, "function.html", section="functions", function=shown, versions=versions,
        next_cursor=found.next_cursor,
    )  # fmt: skip
