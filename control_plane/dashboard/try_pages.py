"""Calling a function from the dashboard: a form made from its signature, and the answer with what it cost.

The call is made by the control plane (``functions.trying``), so no key is in any page. It runs, is limited, counted and
billed like every other call.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from control_plane import ids
from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages, signature_form
from control_plane.dashboard.function_pages import load, newest
from control_plane.dashboard.visitor import Posted, Visitor, post, see
from control_plane.functions import service, trying
from control_plane.functions.schemas import FunctionOut, VersionOut
from control_plane.models import Version
from control_plane.problems import Problem
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/functions/{name}/try")
Writer = Annotated[Visitor, Depends(see("functions.write"))]
Post = Annotated[Posted, Depends(post("functions.write"))]
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
_TARGET: Final = rf"{NAME_PATTERN}|{ids.pattern('ver')}"


class RequestForm(BaseModel):
    """Of a function that is not typed, and of a body written by hand."""

    method: Annotated[str, Field(pattern=f"^({'|'.join(trying.METHODS)})$")] = "POST"
    path: Annotated[str, Field(max_length=2_000)] = ""
    content_type: Annotated[str, Field(max_length=100, pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w-]+)?$")] = (
        "application/json"
    )
    body: Annotated[str, Field(max_length=512 * 1024)] = ""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the page is about."""

    function: FunctionOut
    version: Version
    target: str
    """An alias or a version's id, as it stands behind the @."""
    versions: list[VersionOut]
    fields: list[signature_form.ArgumentField] | None


@router.get("")
async def try_page(
    request: Request,
    name: FunctionName,
    context: ContextDependency,
    visitor: Writer,
    target: Annotated[str, Query(pattern=_TARGET)] = service.LIVE,
    way: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    stage = await _stage(context, visitor, name, target)
    return _page(request, context, visitor, stage, {"way": way}, {})


@router.post("")
async def try_function(request: Request, name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    visitor = posted.who
    stage = await _stage(context, visitor, name, posted.text("target") or service.LIVE)
    values = posted.values()
    if stage.fields is not None and posted.text("way") != "raw":
        body, errors = signature_form.body_of(stage.fields, {key: str(value) for key, value in values.items()})
        form = RequestForm(body=json.dumps(body, ensure_ascii=False))
    else:
        parsed, errors = posted.parse(RequestForm)
        form = parsed or RequestForm()
    if errors:
        return _page(request, context, visitor, stage, values, errors)
    try:
        tried = await _call(context, visitor, stage, form)
    except Problem as problem:
        return _page(request, context, visitor, stage, values, {"": problem.detail})
    return _page(request, context, visitor, stage, values, {}, tried, form.body)


async def _call(context: Context, visitor: Visitor, stage: _Stage, form: RequestForm) -> trying.Tried:
    base = f"{context.settings.public_gateway_url}/{visitor.tenant_name}/{stage.function.name}@{stage.target}"
    path = quote(form.path.lstrip("/"), safe="/?&=%+:@,;~-._")
    url = base + (path if path.startswith("?") else f"/{path}" if path else "")
    has_body = form.method not in ("GET", "HEAD") and (form.body != "" or stage.fields is not None)
    limit_s = float(stage.version.limits.get("timeout_ms", 3_000)) / 1000
    return await trying.call(
        url,
        trying.token_of(context.sealer, visitor.tenant_id),
        method=form.method,
        headers={"Content-Type": form.content_type, "Accept": "*/*"} if has_body else {"Accept": "*/*"},
        content=form.body.encode() if has_body else None,
        limit_s=limit_s,
    )


async def _stage(context: Context, visitor: Visitor, name: str, target: str) -> _Stage:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        version_id = shown.aliases.get(target, target)
        if not version_id.startswith("ver_"):
            raise Problem("not-found", f"{name} has no alias {target[:63]!r}.")
        version = await service.require_version(session, visitor.tenant_id, function, version_id)
        versions = await newest(session, visitor, function)
    fields = signature_form.fields_of(version.operation, version.schemas) if version.style == "typed" else None
    return _Stage(shown, version, target, versions, fields)


def _page(
    request: Request,
    context: Context,
    visitor: Visitor,
    stage: _Stage,
    values: dict[str, Any],
    errors: dict[str, str],
    tried: trying.Tried | None = None,
    sent: str = "",
) -> Response:
    answer = _answer(tried) if tried is not None else None
    return pages.render(
        request, context, visitor, "functions/try.html", section="functions", tab="try", stage=stage,
        function=stage.function, status=422 if errors else 200, answer=answer, sent=sent, methods=trying.METHODS,
        values={"method": "POST", "path": "", "content_type": "application/json", "body": "", "way": ""} | values,
        errors=errors, error=errors.get("", ""),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    is_good: bool
    facts: list[tuple[str, str]]
    body: str
    is_cut: bool
    is_binary: bool
    content_type: str
    problem: dict[str, Any] | None
    error: str
    """What the handler raised: "ValueError: …"."""
    traceback: str
    request_id: str
    headers: list[tuple[str, str]]


def _answer(tried: trying.Tried) -> _Answer:
    kind = tried.headers.get("content-type", "").partition(";")[0].strip()
    document = _json_of(tried) if kind.endswith("json") else None
    problem = document if kind == "application/problem+json" and isinstance(document, dict) else None
    body = tried.text if document is None else json.dumps(document, indent=2, ensure_ascii=False)
    return _Answer(
        status=tried.status,
        reason=_reason(tried.status),
        is_good=tried.status < 400,
        facts=_facts(tried),
        body=body,
        is_cut=tried.is_cut,
        is_binary=b"\0" in tried.content,
        content_type=kind,
        problem=problem,
        error=_error(problem),
        traceback=str(problem.get("traceback", "")) if problem else "",
        request_id=tried.headers.get("tailcut-request-id", ""),
        headers=sorted(tried.headers.items()),
    )


def _error(problem: dict[str, Any] | None) -> str:
    raised = problem.get("error") if problem else None
    return f"{raised.get('type', '')}: {raised.get('message', '')}"[:2000] if isinstance(raised, dict) else ""


def _json_of(tried: trying.Tried) -> Any:
    try:
        return json.loads(tried.content)
    except (ValueError, RecursionError):
        return None


def _facts(tried: trying.Tried) -> list[tuple[str, str]]:
    """What the call cost, from the headers of the gateway."""
    facts = [("Round trip", f"{tried.duration_us / 1000:.1f} ms")]
    for header, label, unit in (
        ("tailcut-cpu-us", "CPU", "µs"),
        ("tailcut-queue-us", "Queue", "µs"),
        ("tailcut-memory-bytes", "Memory", "B"),
    ):
        text = tried.headers.get(header, "")
        if text.isdecimal():
            number = int(text)
            shown = f"{number / 2**20:.1f} MiB" if unit == "B" else f"{number / 1000:.2f} ms"
            facts.append((label, shown))
    for header, label in (("tailcut-start", "Start"), ("tailcut-version", "Version")):
        if header in tried.headers:
            facts.append((label, tried.headers[header][:60]))
    return facts


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
