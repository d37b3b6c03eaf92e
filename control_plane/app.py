"""Puts the control plane together: routers, error answers, and the tasks that live as long as the process.

Called by ``__main__`` (to serve and to print the OpenAPI document). Nothing happens at import.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version as distribution_version
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from redis.asyncio import Redis
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from control_plane.alerts import endpoints as alerts
from control_plane.alerts.repository import forget_alerts
from control_plane.alerts.sender import AlertSender
from control_plane.alerts.watch import AlertWatch
from control_plane.audit import endpoints as audit
from control_plane.auth import endpoints as auth
from control_plane.auth.sealing import Sealer
from control_plane.billing import endpoints as billing
from control_plane.billing.background import in_background, make_client
from control_plane.billing.closing import books_closed
from control_plane.bundles.staging import sweep_staging
from control_plane.bundles.store import BundleStore
from control_plane.context import Context
from control_plane.dashboard import endpoints as dashboard
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Elsewhere, confirm_path, find_visitor
from control_plane.database import Database
from control_plane.function_logs import endpoints as function_logs
from control_plane.function_logs.consumer import LogConsumer
from control_plane.functions import endpoints as functions
from control_plane.mail.mailer import Mailer
from control_plane.members import endpoints as members
from control_plane.middleware import RequestFrame
from control_plane.openapi import describe
from control_plane.operators import endpoints as operators
from control_plane.outbox.relay import Relay
from control_plane.outbox.reports import ReportConsumer
from control_plane.people import endpoints as people
from control_plane.problems import Problem, render
from control_plane.secrets import endpoints as secrets
from control_plane.settings import Settings
from control_plane.system import endpoints as system
from control_plane.tenants import endpoints as tenants
from control_plane.tenants.removal import TenantRemover
from control_plane.tiers import endpoints as tiers
from control_plane.tiers.periods import PeriodWatch
from control_plane.usage import endpoints as usage
from control_plane.usage.pruning import Pruner, forget_tenant

log = structlog.get_logger(__name__)

_ERRORS_MAX: Final = 20
_TASK_RESTART_S: Final = 1.0
_SLUG_OF_STATUS: Final = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "content-too-large"}


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(
        title="Tailcut control plane",
        version=distribution_version("tailcut-server"),
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.settings = settings
    routers = (
        system.router,
        people.router,
        tenants.router,
        tiers.router,
        billing.router,
        members.router,
        auth.router,
        audit.router,
        functions.router,
        operators.router,
        secrets.router,
        function_logs.router,
        usage.router,
        alerts.router,
        dashboard.router,
    )
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=pages.STATIC_DIR), name="static")
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(Elsewhere, _answer_elsewhere)
    app.add_exception_handler(IntegrityError, _answer_collision)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_middleware(RequestFrame, settings=settings)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    settings.prepare_data_dir()
    sweep_staging(settings.staging_dir)
    context = Context(
        settings=settings,
        database=Database(settings.effective_database_url),
        bundles=BundleStore(settings.effective_bundle_store_url),
        operator_token=settings.load_operator_token(),
        sealer=Sealer(settings.load_sealing_key()),
        uploads=asyncio.Semaphore(settings.uploads_max),
        stripe=make_client(settings),
    )
    app.state.context = context
    # A reply that does not come is an error after a while; the stream's reader blocks for a second of it.
    app.state.redis = redis = (
        Redis.from_url(settings.redis_url, socket_connect_timeout=2, socket_timeout=5) if settings.redis_url else None
    )
    tasks = [
        asyncio.create_task(_keep_running("mailer", Mailer(context).run)),
        asyncio.create_task(
            _keep_running("removal", TenantRemover(context, [books_closed, forget_tenant, forget_alerts]).run)
        ),
    ]
    tasks += [
        asyncio.create_task(_keep_running("alerts", AlertWatch(context, redis).run)),
        asyncio.create_task(_keep_running("webhooks", AlertSender(context).run)),
        asyncio.create_task(_keep_running("pruning", Pruner(context).run)),
    ]
    if redis is None:
        log.warning("redis-not-set", message="REDIS_URL is not set: no gateway will hear of changes")
    else:
        tasks += [
            asyncio.create_task(_keep_running("relay", Relay(context, redis).run)),
            asyncio.create_task(_keep_running("reports", ReportConsumer(context, redis).run)),
            asyncio.create_task(_keep_running("logs", LogConsumer(context, redis).run)),
            asyncio.create_task(_keep_running("periods", PeriodWatch(context).run)),
        ]
    tasks += [asyncio.create_task(_keep_running(name, run)) for name, run in in_background(context, redis)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if redis is not None:
            with contextlib.suppress(OSError):
                await redis.aclose()
        await context.database.close()


async def _keep_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A defect in a task must not silence the gateways for good: say it and begin again."""
    while True:
        try:
            await run()
        except Exception as error:
            log.error("task-failed", task=name, exc_info=error)
            await asyncio.sleep(_TASK_RESTART_S)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - the handler is registered for it
    return await _render(request, error)


async def _answer_collision(request: Request, error: Exception) -> Response:
    """Two requests passed the same check and one was quicker (PostgreSQL; SQLite's writers take turns)."""
    log.warning("collision", request_id=request.scope["tailcut_request_id"], error=type(error).__name__)
    detail = "Somebody else did the same at this very moment; nothing was done here. Look, and try again."
    return await _render(request, Problem("conflict", detail))


async def _answer_elsewhere(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Elsewhere)  # noqa: S101 - the handler is registered for it
    return RedirectResponse(error.path, status_code=303)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """What was sent is not repeated in the answer: it may be a secret."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for it
    errors = [
        {"field": ".".join(str(part) for part in each["loc"]), "message": str(each["msg"])}
        for each in error.errors()[:_ERRORS_MAX]
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return await _render(request, Problem("bad-request", "The body is not a JSON document."))
    detail = f"{errors[0]['field']}: {errors[0]['message']}."
    return await _render(request, Problem("invalid-request", detail, errors=errors))


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for it
    slug = _SLUG_OF_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
    details = {
        "not-found": "There is nothing at this path.",
        "method-not-allowed": f"This path does not know the method {request.method[:20]!r}.",
    }
    problem = Problem(slug, details.get(slug, str(error.detail)), headers=error.headers)
    return await _render(request, problem, status=error.status_code)


async def _render(request: Request, problem: Problem, status: int | None = None) -> Response:
    """A problem document; a page for whoever looks with a browser."""
    settings: Settings = request.app.state.settings
    request_id = str(request.scope["tailcut_request_id"])
    is_for_eyes = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1")
    if is_for_eyes and problem.slug == "confirmation-required":
        return RedirectResponse(confirm_path(request), status_code=303)
    if is_for_eyes:
        context: Context = request.app.state.context
        visitor = await find_visitor(request, context)
        page: Response = pages.refusal(request, context, visitor, problem, status or problem.status)
        page.headers.update(problem.headers)
        return page
    return render(problem, public_url=settings.public_url, request_id=request_id, status=status)
