"""/v1/functions: deploy, list, point aliases, roll back, delete."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane import ids
from control_plane.auth.idempotency import Answer, IdempotencyKey, answer_once, fingerprint_of
from control_plane.auth.principal import Deployer, Principal, Reader
from control_plane.bundles.check import check_bundle
from control_plane.bundles.staging import FILE_FIELD, receive_upload
from control_plane.context import Context, ContextDependency
from control_plane.functions import repository, service, views
from control_plane.functions.schemas import (
    AliasOut,
    AliasSet,
    Deployed,
    DeployFields,
    FunctionOut,
    FunctionPage,
    FunctionPatch,
    RolledBack,
    VersionOut,
    VersionPage,
)
from control_plane.functions.service import Bundle
from control_plane.models import Function
from control_plane.pagination import PageDependency
from control_plane.problems import Problem
from control_plane.tiers import views as tiers
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/v1/functions", tags=["functions"])
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
AliasName = Annotated[str, Path(pattern=NAME_PATTERN)]
VersionId = Annotated[str, Path(pattern=ids.pattern("ver"))]

_UPLOAD_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILE_FIELD],
                    "properties": {
                        FILE_FIELD: {"type": "string", "format": "binary", "description": "The zip archive"},
                        "public": {"type": "boolean", "description": "Absent: as it was; a new function is private"},
                        "alias": {"type": "string", "pattern": NAME_PATTERN, "default": service.LIVE},
                    },
                }
            }
        },
    }
}


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=Deployed,
    responses={200: {"model": Deployed, "description": "These bytes are a version of this function already"}},
    openapi_extra=_UPLOAD_BODY,
)
async def deploy(
    name: FunctionName, request: Request, context: ContextDependency, caller: Deployer, idempotency_key: IdempotencyKey
) -> JSONResponse:
    """Upload a bundle: a new version, and the alias points to it. Gateways serve it once a worker of it is ready."""
    settings = context.settings
    async with (
        context.upload_slot(),
        receive_upload(request, settings, frozenset(DeployFields.model_fields)) as upload,
    ):
        fields = _deploy_fields(upload.fields)
        checked = await asyncio.to_thread(check_bundle, upload.path, runtime_python=settings.runtime_python)
        await context.bundles.put(upload.sha256, upload.path)
        bundle = Bundle(upload.sha256, upload.bytes_count, checked.manifest)

    async def act(session: AsyncSession) -> Answer:
        deployment = await service.deploy(
            session,
            caller.tenant_id,
            name,
            bundle,
            actor=caller.actor,
            alias=fields.alias,
            public=fields.public,
            functions_max=await tiers.functions_max(session, caller.tenant_id, settings),
        )
        deployed = Deployed.model_validate(
            {
                "function": name,
                "function_id": deployment.function.id,
                "version": deployment.version.id,
                "sha256": deployment.version.sha256,
                "alias": fields.alias,
                "status": deployment.version.status,
                "url": views.function_url(settings.public_gateway_url, caller.tenant_name, name, fields.alias),
                "public": deployment.function.public,
                "created_at": deployment.version.created_at,
            }
        )
        return Answer(201 if deployment.is_new else 200, deployed.model_dump(mode="json"))

    content = [bundle.sha256, fields.model_dump(mode="json")]
    fingerprint = fingerprint_of("POST", request.url.path, content)
    return (await answer_once(context, caller, idempotency_key, fingerprint, act)).response()


def _deploy_fields(fields: dict[str, str]) -> DeployFields:
    try:
        return DeployFields.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        errors = [
            {"field": str(each["loc"][0]), "message": each["msg"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        first = errors[0]
        raise Problem("invalid-request", f"Form field {first['field']}: {first['message']}.", errors=errors) from None


@router.get("", response_model=FunctionPage)
async def list_functions(context: ContextDependency, caller: Reader, page: PageDependency) -> dict[str, Any]:
    async with context.reading() as session:
        functions = await repository.list_functions(session, caller.tenant_id, page)
        items = await _functions_out(session, context, caller, list(functions.items))
    return {"items": items, "next_cursor": functions.next_cursor}


@router.get("/{name}")
async def get_function(name: FunctionName, context: ContextDependency, caller: Reader) -> FunctionOut:
    async with context.reading() as session:
        function = await service.require_function(session, caller.tenant_id, name)
        return (await _functions_out(session, context, caller, [function]))[0]


@router.patch("/{name}")
async def patch_function(
    name: FunctionName, patch: FunctionPatch, context: ContextDependency, caller: Deployer
) -> FunctionOut:
    """Make the function public or private."""
    async with context.writing() as session:
        function = await service.set_public(session, caller.tenant_id, name, patch.public, actor=caller.actor)
        return (await _functions_out(session, context, caller, [function]))[0]


@router.delete("/{name}", status_code=204)
async def delete_function(name: FunctionName, context: ContextDependency, caller: Deployer) -> None:
    """Delete the function with its versions and aliases."""
    async with context.writing() as session:
        await service.delete_function(session, caller.tenant_id, name, actor=caller.actor)


@router.get("/{name}/versions", response_model=VersionPage)
async def list_versions(
    name: FunctionName, context: ContextDependency, caller: Reader, page: PageDependency
) -> dict[str, Any]:
    """The newest first."""
    async with context.reading() as session:
        function = await service.require_function(session, caller.tenant_id, name)
        versions = await repository.list_versions(session, caller.tenant_id, function.id, page)
        items = await views.versions_out(session, function, versions.items)
    return {"items": items, "next_cursor": versions.next_cursor}


@router.get("/{name}/versions/{version_id}")
async def get_version(
    name: FunctionName, version_id: VersionId, context: ContextDependency, caller: Reader
) -> VersionOut:
    async with context.reading() as session:
        function = await service.require_function(session, caller.tenant_id, name)
        version = await service.require_version(session, caller.tenant_id, function, version_id)
        return (await views.versions_out(session, function, [version]))[0]


@router.put("/{name}/aliases/{alias}")
async def set_alias(
    name: FunctionName, alias: AliasName, body: AliasSet, context: ContextDependency, caller: Deployer
) -> AliasOut:
    """Point an alias to a version; an alias that is not there is made."""
    async with context.writing() as session:
        row = await service.set_alias(session, caller.tenant_id, name, alias, body.version, actor=caller.actor)
        function = await service.require_function(session, caller.tenant_id, name)
        version = await service.require_version(session, caller.tenant_id, function, row.version_id)
        return views.alias_out(
            row,
            function,
            version,
            tenant_name=caller.tenant_name,
            gateway_url=context.settings.public_gateway_url,
        )


@router.delete("/{name}/aliases/{alias}", status_code=204)
async def delete_alias(name: FunctionName, alias: AliasName, context: ContextDependency, caller: Deployer) -> None:
    """Delete an alias; not ``live``."""
    async with context.writing() as session:
        await service.delete_alias(session, caller.tenant_id, name, alias, actor=caller.actor)


@router.post("/{name}/rollback", response_model=RolledBack)
async def rollback(
    name: FunctionName, context: ContextDependency, caller: Deployer, idempotency_key: IdempotencyKey
) -> JSONResponse:
    """Point ``live`` to the version it pointed to before; again: one further back."""

    async def act(session: AsyncSession) -> Answer:
        function, version_id, left = await service.rollback(session, caller.tenant_id, name, actor=caller.actor)
        rolled_back = RolledBack(
            function=function.name,
            alias=service.LIVE,
            version=version_id,
            previous=left,
            url=views.function_url(context.settings.public_gateway_url, caller.tenant_name, name),
        )
        return Answer(200, rolled_back.model_dump(mode="json"))

    fingerprint = fingerprint_of("POST", f"/v1/functions/{name}/rollback", None)
    return (await answer_once(context, caller, idempotency_key, fingerprint, act)).response()


async def _functions_out(
    session: AsyncSession, context: Context, caller: Principal, functions: list[Function]
) -> list[FunctionOut]:
    return await views.functions_out(
        session,
        functions,
        tenant_id=caller.tenant_id,
        tenant_name=caller.tenant_name,
        gateway_url=context.settings.public_gateway_url,
    )
