"""Deploying without a command line: paste code, or upload a .py file or a zip of sources.

The version that comes of it is the same as one of ``tailcut deploy`` without dependencies: packed
(``functions.packing``), checked, stored and started by the gateway, whose progress the function's page shows.
"""

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile

from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Posted, Visitor, go, post_files, see
from control_plane.functions import packing, repository, source
from control_plane.functions.deploying import deploy_archive
from control_plane.problems import Problem
from control_plane.tiers import service as tiers
from gateway.contract.bundle import Manifest
from gateway.contract.table import NAME_PATTERN, Limits, Name
from gateway.contract.worker import State

router = APIRouter(prefix="/deploy")
Writer = Annotated[Visitor, Depends(see("functions.write"))]
Post = Annotated[Posted, Depends(post_files("functions.write"))]

EXAMPLE: Final = '''\
def hello(name: str = "world", times: int = 1) -> dict:
    """Greets. Parameters are what callers send, the result is what they get."""
    return {"greeting": f"Hello, {name}!", "times": times}
'''
_MIB: Final = 2**20
_CHUNK_BYTES: Final = 2**18
_ENV_LINE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,127})=(.*)", re.ASCII | re.DOTALL)


class DeployForm(BaseModel):
    function: Name
    way: Literal["paste", "upload"] = "paste"
    code: Annotated[str, Field(max_length=packing.CODE_BYTES_MAX)] = ""
    handler: Annotated[str, Field(max_length=200, pattern=r"^([A-Za-z_][\w.]*:)?[A-Za-z_]\w*$")] = ""
    timeout_ms: Annotated[int, Field(ge=10, le=900_000)] = 3_000
    cpu_ms: Annotated[int, Field(ge=10, le=900_000)] = 3_000
    memory_mib: Annotated[int, Field(ge=16, le=65_536)] = 256
    concurrency_max: Annotated[int, Field(ge=1, le=256)] = 16
    state: State = "fresh"
    access: Literal["private", "public"] = "private"
    env: Annotated[str, Field(max_length=32 * 1024)] = ""
    alias: Name = "live"


@router.get("")
async def deploy_page(
    request: Request,
    context: ContextDependency,
    visitor: Writer,
    function: Annotated[str, Query(max_length=63, pattern=f"^$|{NAME_PATTERN}")] = "",
    way: Annotated[str, Query(max_length=10)] = "paste",
) -> Response:
    """With ``function``: a new version of it, which begins as its newest one is."""
    async with context.reading() as session:
        values = await _values_of(session, context, visitor, function) if function else {"code": EXAMPLE}
    values["way"] = "upload" if way == "upload" or values.get("way") == "upload" else "paste"
    return await _form(request, context, visitor, values, {})


@router.get("/versions")
async def deploy_again() -> Response:
    """The address of a form that was refused, loaded again."""
    return RedirectResponse("/deploy", status_code=303)


@router.post("/versions")
async def deploy(request: Request, context: ContextDependency, posted: Post) -> Response:
    visitor = posted.who
    form, errors = posted.parse(DeployForm)
    if form is None:
        return await _form(request, context, visitor, posted.values(), errors)
    try:
        env = _environment(form.env)
        with _staged(context, 2) as (uploaded, archive):
            note = await _pack(form, env, posted.files.get("file"), uploaded, archive, context)
            done = await deploy_archive(
                context, visitor.tenant, form.function, archive, alias=form.alias, public=form.access == "public"
            )
    except Problem as problem:
        if problem.slug == "tier-limit" and problem.members.get("limit") == "functions":
            raise
        return await _form(request, context, visitor, posted.values(), {_FIELDS.get(problem.slug, ""): problem.detail})
    said = f"{done.version.id} is uploaded{note}." if done.is_new else f"That very code is {done.version.id} already."
    return await go(context, visitor, f"/functions/{form.function}", said)


_FIELDS: Final = {"content-too-large": "file"}


async def _pack(
    form: DeployForm, env: dict[str, str], file: UploadFile | None, uploaded: Path, archive: Path, context: Context
) -> str:
    """→ what is to be said about it."""
    settings = context.settings
    if form.way == "paste":
        files = {"main.py": form.code.replace("\r\n", "\n").encode()}
    elif file is None:
        raise Problem("invalid-request", "Choose a file: one .py file, or a zip of sources.")
    else:
        await _save(file, uploaded, settings.archive_bytes_max)
        name = file.filename or ""
        if name.endswith(".py"):
            files = {"main.py": await asyncio.to_thread(uploaded.read_bytes)}
        elif await asyncio.to_thread(packing.is_bundle, uploaded):
            await asyncio.to_thread(packing.copy, uploaded, archive)
            return ", as its own tailcut.json says"
        else:
            files = await asyncio.to_thread(packing.read_zip, uploaded)
    manifest = Manifest(
        handler=packing.guess_handler(files, form.handler),
        python=settings.runtime_python,
        env=env,
        limits=Limits(
            timeout_ms=form.timeout_ms,
            cpu_ms=form.cpu_ms,
            memory_bytes=form.memory_mib * _MIB,
            concurrency_max=form.concurrency_max,
            state=form.state,
        ),
    )
    await asyncio.to_thread(packing.pack, files, manifest, archive)
    return ""


async def _save(file: UploadFile, target: Path, bytes_max: int) -> None:
    size = 0
    with target.open("xb") as output:
        while block := await file.read(_CHUNK_BYTES):
            size += len(block)
            if size > bytes_max:
                raise Problem("content-too-large", f"The file has more than the {bytes_max} bytes allowed.")
            await asyncio.to_thread(output.write, block)


def _environment(text: str) -> dict[str, str]:
    env: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _ENV_LINE.fullmatch(line.strip())
        if found is None:
            raise Problem("invalid-request", f"Line {number} of the environment is not NAME=value.")
        env[found[1]] = found[2]
    return env


@contextmanager
def _staged(context: Context, count: int) -> Iterator[list[Path]]:
    paths = [context.settings.staging_dir / f"{secrets.token_hex(16)}.zip" for _ in range(count)]
    try:
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


async def _values_of(session: AsyncSession, context: Context, visitor: Visitor, name: str) -> dict[str, Any]:
    function = await repository.find_function(session, visitor.tenant_id, name)
    if function is None:
        raise Problem("not-found", f"There is no function {name!r}.")
    latest = (await repository.latest_versions(session, visitor.tenant_id, [function.id])).get(function.id)
    if latest is None:
        return {"function": name, "code": EXAMPLE}
    limits = Limits.model_validate(latest.limits)
    values: dict[str, Any] = {
        "function": name,
        "known": "yes",
        "timeout_ms": limits.timeout_ms,
        "cpu_ms": limits.cpu_ms,
        "memory_mib": limits.memory_bytes // _MIB,
        "concurrency_max": limits.concurrency_max,
        "state": limits.state,
        "access": "public" if function.public else "private",
        "env": "\n".join(f"{key}={value}" for key, value in latest.env.items() if "\n" not in value),
    }
    read = await source.read_source(context.bundles, context.settings.staging_dir, latest, "")
    if len(read.files) == 1 and read.path == "main.py" and not read.packages_files and read.text is not None:
        return values | {"code": read.text, "handler": latest.handler.partition(":")[2]}
    return values | {"way": "upload", "handler": latest.handler, "code": ""}


async def _form(
    request: Request, context: Context, visitor: Visitor, values: dict[str, Any], errors: dict[str, str]
) -> Response:
    async with context.reading() as session:
        held = await tiers.entitlements_of(session, visitor.tenant_id)
    defaults = {"function": "", "way": "paste", "code": "", "state": "fresh", "access": "private"}
    limits = {"timeout_ms": 3000, "cpu_ms": min(1000, held.invocation.cpu_ms), "memory_mib": 128, "concurrency_max": 16}
    return pages.render(
        request, context, visitor, "functions/deploy.html", section="functions", status=422 if errors else 200,
        values=defaults | limits | values, errors=errors, error=errors.get("", ""), held=held,
    )  # fmt: skip
