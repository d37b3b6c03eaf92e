"""/v1/runtime, /healthz, /readyz and /errors/{slug}"""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse

from control_plane.auth.principal import AnyKey
from control_plane.context import ContextDependency
from control_plane.problems import Problem
from control_plane.system import error_pages, service
from control_plane.system.schemas import Health, Readiness, Runtime

router = APIRouter(tags=["system"])


@router.get("/v1/runtime")
async def get_runtime(context: ContextDependency, _caller: AnyKey) -> Runtime:
    """What to build bundles for, and how large they and a function's limits may be."""
    return service.describe_runtime(context.settings)


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response, context: ContextDependency) -> Readiness:
    """The process can take changes."""
    readiness = await service.check_readiness(context, request.app.state.redis)
    if not readiness.ready:
        response.status_code = 503
    return readiness


@router.get("/errors", response_class=HTMLResponse, include_in_schema=False)
async def error_index(request: Request, context: ContextDependency) -> Response:
    return error_pages.render_index(request, context)


@router.get("/errors/{slug}", response_class=HTMLResponse, include_in_schema=False)
async def error_page(
    request: Request, context: ContextDependency, slug: Annotated[str, Path(max_length=100)]
) -> Response:
    """What a problem's ``type`` points to."""
    page = error_pages.render_page(request, context, slug)
    if page is None:
        raise Problem("not-found", "There is no error of this name; /errors lists them all.")
    return page
