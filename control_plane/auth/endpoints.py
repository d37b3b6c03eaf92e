"""/v1/keys"""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane import ids
from control_plane.auth import repository, service
from control_plane.auth.idempotency import Answer, IdempotencyKey, answer_once, fingerprint_of
from control_plane.auth.principal import KeyReader, KeyWriter
from control_plane.auth.schemas import KeyCreate, KeyCreated, KeyOut, KeyPage
from control_plane.context import ContextDependency
from control_plane.pagination import PageDependency, page_fields
from control_plane.problems import not_found

router = APIRouter(prefix="/v1/keys", tags=["keys"])
KeyId = Annotated[str, Path(pattern=ids.pattern("key"))]


@router.post("", status_code=201, response_model=KeyCreated)
async def create_key(
    request: KeyCreate, context: ContextDependency, caller: KeyWriter, idempotency_key: IdempotencyKey
) -> JSONResponse:
    """Make a key; its token is in this answer and nowhere else."""

    async def act(session: AsyncSession) -> Answer:
        created = await service.create_key(session, caller, request, keys_max=context.settings.keys_per_tenant_max)
        return Answer(201, created.model_dump(mode="json"))

    fingerprint = fingerprint_of("POST", "/v1/keys", request.model_dump(mode="json"))
    return (await answer_once(context, caller, idempotency_key, fingerprint, act)).response()


@router.get("", response_model=KeyPage)
async def list_keys(context: ContextDependency, caller: KeyReader, page: PageDependency) -> dict[str, Any]:
    async with context.reading() as session:
        keys = await repository.list_keys(session, caller.tenant_id, page)
    return page_fields(keys.map(KeyOut.of))


@router.get("/{key_id}")
async def get_key(key_id: KeyId, context: ContextDependency, caller: KeyReader) -> KeyOut:
    async with context.reading() as session:
        key = await repository.get_key(session, caller.tenant_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    return KeyOut.of(key)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(key_id: KeyId, context: ContextDependency, caller: KeyWriter) -> None:
    """Revoke a key, here and on every gateway. Revoking it again is no error."""
    async with context.writing() as session:
        await service.revoke_key(session, caller, key_id)
