"""/v1/functions/{name}/secrets: set, list by name, delete."""

from typing import Annotated

from fastapi import APIRouter, Path

from control_plane.auth.principal import Deployer, Reader
from control_plane.context import ContextDependency
from control_plane.functions import service as functions
from control_plane.secrets import repository, service
from control_plane.secrets.schemas import SecretList, SecretOut, SecretSet
from gateway.contract.table import NAME_PATTERN

router = APIRouter(prefix="/v1/functions/{name}/secrets", tags=["secrets"])
FunctionName = Annotated[str, Path(pattern=NAME_PATTERN)]
SecretName = Annotated[str, Path(pattern=service.NAME_PATTERN)]


@router.get("")
async def list_secrets(name: FunctionName, context: ContextDependency, caller: Reader) -> SecretList:
    """Names and when they were set; values cannot be read."""
    async with context.reading() as session:
        function = await functions.require_function(session, caller.tenant_id, name)
        found = await repository.list_secrets(session, caller.tenant_id, function.id)
    return SecretList(items=[SecretOut.of(secret, name) for secret in found])


@router.put("/{secret}")
async def set_secret(
    name: FunctionName, secret: SecretName, body: SecretSet, context: ContextDependency, caller: Deployer
) -> SecretOut:
    """Every version of the function finds it in its environment; workers that run now are replaced."""
    async with context.writing() as session:
        row = await service.set_secret(
            session, context.sealer, caller.tenant_id, name, secret, body.value, actor=caller.actor
        )
        return SecretOut.of(row, name)


@router.delete("/{secret}", status_code=204)
async def delete_secret(name: FunctionName, secret: SecretName, context: ContextDependency, caller: Deployer) -> None:
    async with context.writing() as session:
        await service.delete_secret(session, caller.tenant_id, name, secret, actor=caller.actor)
