"""Rules about keys: made with a token that is shown once, revoked for good and everywhere."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth import permissions, repository, tokens
from control_plane.auth.principal import Principal
from control_plane.auth.schemas import KeyCreate, KeyCreated, KeyOut
from control_plane.ids import new_id
from control_plane.models import Key, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem, not_found


async def create_key(session: AsyncSession, caller: Principal, request: KeyCreate, *, keys_max: int) -> KeyCreated:
    """A person gives a key no scope that goes beyond the own role."""
    if caller.role is not None:
        beyond = set(request.scopes) - permissions.SCOPES_TO_GIVE[caller.role]
        if beyond:
            allowed = ", ".join(sorted(permissions.SCOPES_TO_GIVE[caller.role])) or "none"
            raise Problem(
                "forbidden",
                f"The role {caller.role} makes keys with the scopes {allowed}; not {', '.join(sorted(beyond))}.",
                errors=[{"field": "scopes", "message": f"Your role allows: {allowed}"}],
            )
    if await repository.count_live_keys(session, caller.tenant_id) >= keys_max:
        raise Problem("conflict", f"The tenant has {keys_max} keys, the most allowed; revoke one that is not needed.")
    scopes: list[str] = list(request.scopes)
    created = await add_key(session, caller.tenant_id, request.name, scopes, request.expires_at, caller.actor.label)
    audit.record(session, caller.tenant_id, caller.actor, "key.created", request.name, id=created.id, scopes=scopes)
    return created


async def add_key(
    session: AsyncSession,
    tenant_id: str,
    name: str,
    scopes: list[str],
    expires_at: datetime | None = None,
    created_by: str = "",
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
        last_used_at=None,
        created_by=created_by,
    )
    session.add(key)
    await outbox.append(session, tenant_id, "key-created", key.id)
    return KeyCreated(**KeyOut.of(key).model_dump(), token=token)


async def revoke_key(session: AsyncSession, caller: Principal, key_id: str) -> None:
    """Revoking twice is no error: what the caller wants holds."""
    key = await repository.get_key(session, caller.tenant_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    if caller.role is not None and not permissions.SCOPES_TO_GIVE[caller.role].issuperset(key.scopes):
        raise Problem("forbidden", f"The role {caller.role} does not revoke a key with the scopes of this one.")
    if await repository.revoke(session, caller.tenant_id, key_id, now()):
        audit.record(session, caller.tenant_id, caller.actor, "key.revoked", key.name, id=key_id)
        await outbox.append(session, caller.tenant_id, "key-revoked", key_id)
