"""A function's secrets: which there are, setting one, deleting one. A value goes in and never comes out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from control_plane.context import Context, ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.function_pages import load
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.problems import Problem
from control_plane.secrets import repository, service
from control_plane.secrets.schemas import SecretOut
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/functions/{name}/secrets")
Writer = Annotated[Visitor, Depends(see("functions.write"))]
Post = Annotated[Posted, Depends(post("functions.write"))]
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
SecretName = Annotated[str, Path(pattern=service.NAME_PATTERN)]


class SecretForm(BaseModel):
    secret: Annotated[str, Field(pattern=service.NAME_PATTERN)]
    value: Annotated[str, Field(min_length=1, max_length=service.VALUE_CHARACTERS_MAX, repr=False)]


@router.get("")
async def secrets_page(request: Request, name: FunctionName, context: ContextDependency, visitor: Writer) -> Response:
    return await _page(request, name, context, visitor, {}, {})


@router.post("")
async def set_secret(request: Request, name: FunctionName, context: ContextDependency, posted: Post) -> Response:
    form, errors = posted.parse(SecretForm)
    if form is not None:
        try:
            async with context.writing() as session:
                await service.set_secret(
                    session, context.sealer, posted.who.tenant_id, name, form.secret, form.value,
                    actor=posted.who.tenant.actor,
                )  # fmt: skip
            said = f"{form.secret} is set. Workers that ran with the old one are being replaced."
            return await go(context, posted.who, f"/functions/{name}/secrets", said)
        except Problem as problem:
            if problem.slug == "not-found":
                raise
            errors = pages.errors_of(problem) or {"": problem.detail}
    return await _page(request, name, context, posted.who, {"secret": posted.text("secret")}, errors)


@router.get("/{secret}/delete")
async def delete_page(
    request: Request, name: FunctionName, secret: SecretName, context: ContextDependency, visitor: Writer
) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        row = await repository.find_secret(session, visitor.tenant_id, function.id, secret)
    if row is None:
        raise Problem("not-found", f"{name} has no secret {secret!r}.")
    return pages.render(
        request, context, visitor, "functions/delete_secret.html", section="functions", function=shown, secret=secret
    )


@router.post("/{secret}/delete")
async def delete_secret(name: FunctionName, secret: SecretName, context: ContextDependency, posted: Post) -> Response:
    async with context.writing() as session:
        await service.delete_secret(session, posted.who.tenant_id, name, secret, actor=posted.who.tenant.actor)
    return await go(context, posted.who, f"/functions/{name}/secrets", f"{secret} is deleted.")


async def _page(
    request: Request, name: str, context: Context, visitor: Visitor, values: dict[str, str], errors: dict[str, str]
) -> Response:
    async with context.reading() as session:
        function, shown = await load(session, context, visitor, name)
        found = await repository.list_secrets(session, visitor.tenant_id, function.id)
    return pages.render(
        request, context, visitor, "functions/secrets.html", section="functions", tab="secrets", function=shown,
        secrets=[SecretOut.of(secret, name) for secret in found], values=values, errors=errors,
        error=errors.get("", ""), status=422 if errors else 200,
    )  # fmt: skip
