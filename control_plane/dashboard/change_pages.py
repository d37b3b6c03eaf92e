"""Changing a function: move an alias, roll back, open or close it, delete it. What takes something away asks first."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from control_plane import ids
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.function_pages import load, newest
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.functions import service
from control_plane.problems import Problem
from gateway.contract.table import NAME_PATTERN, Name

router = APIRouter(prefix="/functions/{name}")
Writer = Annotated[Visitor, Depends(see("functions.write"))]
Post = Annotated[Posted, Depends(post("functions.write"))]
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
AliasName = Annotated[str, Path(pattern=NAME_PATTERN)]


class AliasForm(BaseModel):
    alias: Name
    version: Annotated[str, Field(pattern=ids.pattern("ver"))]


class NameForm(BaseModel):
    name: Annotated[str, Field(max_length=63)]


# -- Aliases ----------------------------------------------------------------------------------------------------------


@router.get("/aliases")
async def aliases_page(request: Request, name: FunctionName, context: ContextDependency, visitor: Writer) -> Response:
    return await _aliases_page(request, name, context, visitor)


@router.post("/aliases")
async def move_alias(request: Request, name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    form, errors = posted.parse(AliasForm)
    if form is not None:
        try:
            async with context.writing() as session:
                await service.set_alias(
                    session, posted.who.tenant_id, name, form.alias, form.version, actor=posted.who.tenant.actor
                )
            return await go(context, posted.who, f"/functions/{name}", f"{form.alias} points to {form.version} now.")
        except Problem as problem:
            if problem.slug == "not-found":
                raise
            errors = {"version": problem.detail}
    return await _aliases_page(request, name, context, posted.who, posted, errors)


@router.get("/aliases/{alias}/delete")
async def delete_alias_page(
    request: Request, name: FunctionName, alias: AliasName, context: ContextDependency, visitor: Writer
) -> Response:
    async with context.reading() as session:
        _, shown = await load(session, context, visitor, name)
    if alias not in shown.aliases:
        raise Problem("not-found", f"{name} has no alias {alias!r}.")
    return pages.render(
        request, context, visitor, "functions/delete_alias.html", section="functions", function=shown, alias=alias
    )


@router.post("/aliases/{alias}/delete")
async def delete_alias(name: FunctionName, alias: AliasName, context: ContextDependency, posted: Post) -> Response:
    async with context.writing() as session:
        await service.delete_alias(session, posted.who.tenant_id, name, alias, actor=posted.who.tenant.actor)
    return await go(context, posted.who, f"/functions/{name}", f"The alias {alias} is deleted.")


async def _aliases_page(
    request: Request,
    name: str,
    context: ContextDependency,
    visitor: Visitor,
    posted: Posted | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        versions = await newest(session, visitor, function)
    values = posted.values() if posted else {"alias": service.LIVE, "version": request.query_params.get("version", "")}
    return pages.render(
        request, context, visitor, "functions/aliases.html", section="functions", function=shown,
        versions=[version for version in versions if version.status != "failed"], values=values,
        errors=errors or {}, status=422 if errors else 200,
    )  # fmt: skip


# -- Rollback ---------------------------------------------------------------------------------------------------------


@router.get("/rollback")
async def rollback_page(request: Request, name: FunctionName, context: ContextDependency, visitor: Writer) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        target = await service.rollback_target(session, function)
        versions = {version.id: version for version in await newest(session, visitor, function)}
    return pages.render(
        request, context, visitor, "functions/rollback.html", section="functions", function=shown,
        target=target, versions=versions, live=shown.aliases.get(service.LIVE, ""),
    )  # fmt: skip


@router.post("/rollback")
async def rollback(name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    try:
        async with context.writing() as session:
            _, version_id, _ = await service.rollback(
                session, posted.who.tenant_id, name, actor=posted.who.tenant.actor
            )
    except Problem as problem:
        if problem.slug != "nothing-to-roll-back":
            raise
        return await go(context, posted.who, f"/functions/{name}", problem.detail, "warn")
    return await go(context, posted.who, f"/functions/{name}", f"live is back at {version_id}.")


# -- Access, deletion -------------------------------------------------------------------------------------------------


@router.get("/settings")
async def settings_page(request: Request, name: FunctionName, context: ContextDependency, visitor: Writer) -> Response:
    async with context.reading() as session:
        _, shown = await load(session, context, visitor, name)
    return pages.render(
        request, context, visitor, "functions/settings.html", section="functions", tab="settings", function=shown
    )


@router.post("/settings")
async def set_access(name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    is_public = posted.text("access") == "public"
    async with context.writing() as session:
        await service.set_public(session, posted.who.tenant_id, name, is_public, actor=posted.who.tenant.actor)
    said = "Anybody may call it now." if is_public else "Only callers with a key of yours may call it now."
    return await go(context, posted.who, f"/functions/{name}/settings", said)


@router.get("/delete")
async def delete_page(request: Request, name: FunctionName, context: ContextDependency, visitor: Writer) -> Response:
    async with context.reading() as session:
        _, shown = await load(session, context, visitor, name)
    return pages.render(request, context, visitor, "functions/delete.html", section="functions", function=shown)


@router.post("/delete")
async def delete_function(request: Request, name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    async with context.reading() as session:
        _, shown = await load(session, context, posted.who, name)
    form, errors = posted.parse(NameForm)
    if form is None or form.name != name:
        errors = errors or {"name": f"That is not {name}"}
        return pages.render(
            request, context, posted.who, "functions/delete.html", section="functions", status=422, function=shown,
            errors=errors, values=posted.values(),
        )  # fmt: skip
    async with context.writing() as session:
        await service.delete_function(session, posted.who.tenant_id, name, actor=posted.who.tenant.actor)
    return await go(context, posted.who, "/functions", f"{name} is deleted.")
