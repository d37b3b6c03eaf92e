"""Rules about keys: made with a token that is shown once, revoked for good and everywhere."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository, tokens
from control_plane.auth.schemas import KeyCreate, KeyCreated, KeyOut
from control_plane.ids import new_id
from control_plane.models import Key, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem, not_found


async def create_key(session: AsyncSession, tenant_id: str, request: KeyCreate, *, keys_max: int) -> KeyCreated:
    if await repository.count_live_keys(session, tenant_id) >= keys_max:
        raise Problem("conflict", f"The tenant has {keys_max} keys, the most allowed; revoke one that is not needed.")
    return await add_key(session, tenant_id, request.name, list(request.scopes), request.expires_at)


async def add_key(
    session: AsyncSession, tenant_id: str, name: str, scopes: list[str], expires_at: datetime | None = None
) -> KeyCreated:
    token = tokens.new_key_token()
    key = Key(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        sha256=tokens.hash_token(token),
        last_four=token[-4:],
        scopes=scopes,
        created_at=now(),
        expires_at=expires_at,
        revoked_at=None,
    )
    session.add(key)
    await outbox.append(session, tenant_id, "key-created", key.id)
    return KeyCreated(**KeyOut.of(key).model_dump(), token=token)


async def revoke_key(session: AsyncSession, tenant_id: str, key_id: str) -> None:
    """Revoking twice is no error: what the caller wants holds."""
    if await repository.get_key(session, tenant_id, key_id) is None:
        raise not_found("key", key_id)
    if await repository.revoke(session, tenant_id, key_id, now()):
        await repository.delete_sessions_of_key(session, tenant_id, key_id)
        await outbox.append(session, tenant_id, "key-revoked", key_id)
