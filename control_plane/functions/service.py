"""Rules about functions: versions are immutable, aliases move, every move is remembered.

Called by the endpoints and by ``outbox.reports``. Each function here runs inside one transaction of its caller and
ends, when gateways must learn of it, with a row in the outbox.
"""

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth.principal import Actor
from control_plane.functions import repository
from control_plane.ids import new_id
from control_plane.models import Alias, AliasMove, Function, Version, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem, not_found
from control_plane.secrets import repository as secrets
from control_plane.tiers.views import FunctionsMax
from control_plane.usage import repository as usage
from gateway.contract.bundle import Manifest

LIVE: Final = "live"
ALIASES_MAX: Final = 50
"""Of one function."""
HISTORY_STEPS_MAX: Final = 1000
"""How far a rollback looks for a version that did not fail."""

Cause = Literal["deploy", "set", "rollback", "failed"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked archive that is in the store."""

    sha256: str
    bytes_count: int
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Deployment:
    function: Function
    version: Version
    is_new: bool


async def deploy(
    session: AsyncSession,
    tenant_id: str,
    name: str,
    bundle: Bundle,
    *,
    actor: Actor,
    alias: str,
    public: bool | None,
    functions_max: FunctionsMax,
) -> Deployment:
    """The same bytes for the same function are the same version; the alias moves to it either way."""
    function = await repository.find_function(session, tenant_id, name)
    if function is None:
        if await repository.count_functions(session, tenant_id) >= functions_max.count:
            raise functions_max.refusal
        function = Function(id=new_id("fn"), tenant_id=tenant_id, name=name, public=False, created_at=now())
        session.add(function)
        await session.flush()
    changed = public is not None and public != function.public
    if public is not None:
        function.public = public
    version = await repository.find_version_by_hash(session, tenant_id, function.id, bundle.sha256)
    is_new = version is None
    if version is None:
        version = _new_version(function, bundle, actor)
        session.add(version)
        await session.flush()
        await usage.note_version(session, version.id, tenant_id, function.name)
    elif version.status == "failed":
        await _try_again(session, version)
        changed = True
    before = await repository.find_alias(session, tenant_id, function.id, alias)
    if before is None or before.version_id != version.id:
        await move_alias(session, function, alias, version, "deploy")
        changed = True
    if changed:
        audit.record(session, tenant_id, actor, "function.deployed", name, version=version.id, alias=alias)
        await outbox.append(session, tenant_id, "version-deployed", version.id)
    return Deployment(function, version, is_new)


def _new_version(function: Function, bundle: Bundle, actor: Actor) -> Version:
    return Version(
        id=new_id("ver"),
        tenant_id=function.tenant_id,
        function_id=function.id,
        sha256=bundle.sha256,
        bundle_bytes=bundle.bytes_count,
        handler=bundle.manifest.handler,
        env=bundle.manifest.env,
        limits=bundle.manifest.limits.model_dump(),
        lock=bundle.manifest.lock,
        deployed_by=actor.label[:254],
        attempt=0,
        status="preparing",
        created_at=now(),
    )


async def _try_again(session: AsyncSession, version: Version) -> None:
    """A failed version deployed again: what was wrong may have been the node."""
    await repository.forget_reports(session, version.id)
    version.attempt += 1
    version.status = "preparing"
    version.error_type = version.error_message = version.error_traceback = None


async def move_alias(session: AsyncSession, function: Function, name: str, version: Version, cause: Cause) -> Alias:
    """Point the alias to the version; a rollback will come back to where it pointed before."""
    alias = await repository.find_alias(session, function.tenant_id, function.id, name)
    if alias is not None and alias.version_id == version.id:
        return alias
    if alias is None and len(await repository.list_aliases(session, function.tenant_id, [function.id])) >= ALIASES_MAX:
        raise Problem("conflict", f"The function has {ALIASES_MAX} aliases, the most allowed; delete one first.")
    return await _record_move(session, function, name, alias, version, cause, alias.move_id if alias else None)


async def _record_move(
    session: AsyncSession,
    function: Function,
    name: str,
    alias: Alias | None,
    version: Version,
    cause: Cause,
    parent_id: str | None,
) -> Alias:
    move = AliasMove(
        id=new_id("mov"),
        tenant_id=function.tenant_id,
        function_id=function.id,
        alias=name,
        version_id=version.id,
        parent_id=parent_id,
        cause=cause,
        created_at=now(),
    )
    session.add(move)
    await session.flush()
    if alias is None:
        alias = Alias(function_id=function.id, name=name, tenant_id=function.tenant_id)
        session.add(alias)
    alias.version_id = version.id
    alias.move_id = move.id
    alias.updated_at = now()
    await session.flush()
    return alias


async def set_alias(
    session: AsyncSession, tenant_id: str, name: str, alias_name: str, version_id: str, *, actor: Actor
) -> Alias:
    function = await require_function(session, tenant_id, name)
    version = await require_version(session, tenant_id, function, version_id)
    if version.status == "failed":
        raise Problem(
            "conflict",
            f"The version {version_id} failed to start ({version.error_type}); an alias cannot point to it. "
            "Deploy it again if the cause is gone.",
        )
    alias = await move_alias(session, function, alias_name, version, "set")
    audit.record(session, tenant_id, actor, "alias.moved", f"{name}@{alias_name}", version=version_id)
    await outbox.append(session, tenant_id, "alias-set", f"{name}@{alias_name}")
    return alias


async def delete_alias(session: AsyncSession, tenant_id: str, name: str, alias_name: str, *, actor: Actor) -> None:
    function = await require_function(session, tenant_id, name)
    if alias_name == LIVE:
        raise Problem("conflict", "The alias 'live' cannot be deleted; delete the function, or move the alias.")
    if await repository.find_alias(session, tenant_id, function.id, alias_name) is None:
        raise not_found("alias", f"{name}@{alias_name}")
    await repository.delete_alias(session, tenant_id, function.id, alias_name)
    audit.record(session, tenant_id, actor, "alias.deleted", f"{name}@{alias_name}")
    await outbox.append(session, tenant_id, "alias-deleted", f"{name}@{alias_name}")


async def rollback(session: AsyncSession, tenant_id: str, name: str, *, actor: Actor) -> tuple[Function, str, str]:
    """``live`` back to the version it pointed to before. → (function, version now, version left)"""
    function = await require_function(session, tenant_id, name)
    alias = await repository.find_alias(session, tenant_id, function.id, LIVE)
    if alias is None:
        raise Problem(
            "nothing-to-roll-back", f"The function {name!r} has no alias 'live'; it was never deployed there."
        )
    left = alias.version_id
    if not await go_back(session, function, alias, "rollback"):
        raise Problem(
            "nothing-to-roll-back",
            f"'live' of {name!r} points to {left}, and there is no earlier version that did not fail.",
        )
    audit.record(session, tenant_id, actor, "function.rolled-back", name, version=alias.version_id, left=left)
    await outbox.append(session, tenant_id, "rolled-back", name)
    return function, alias.version_id, left


async def go_back(session: AsyncSession, function: Function, alias: Alias, cause: Cause) -> bool:
    """Follow the parents of the alias's last move to another version that did not fail. False: there is none.

    The new move's parent is that of the move it returns to, so that a second rollback goes on further back.
    """
    step = await _earlier(session, function, alias)
    if step is None:
        return False
    await _record_move(session, function, alias.name, alias, step[1], cause, step[0].parent_id)
    return True


async def rollback_target(session: AsyncSession, function: Function) -> str | None:
    """Where a rollback of ``live`` would lead."""
    alias = await repository.find_alias(session, function.tenant_id, function.id, LIVE)
    step = None if alias is None else await _earlier(session, function, alias)
    return None if step is None else step[1].id


async def _earlier(session: AsyncSession, function: Function, alias: Alias) -> tuple[AliasMove, Version] | None:
    step = await repository.get_move(session, function.tenant_id, alias.move_id)
    for _ in range(HISTORY_STEPS_MAX):
        if step is None or step[0].parent_id is None:
            return None
        step = await repository.get_move(session, function.tenant_id, step[0].parent_id)
        if step is not None and step[1].id != alias.version_id and step[1].status != "failed":
            return step
    return None


async def set_public(session: AsyncSession, tenant_id: str, name: str, public: bool, *, actor: Actor) -> Function:
    function = await require_function(session, tenant_id, name)
    if function.public != public:
        function.public = public
        audit.record(session, tenant_id, actor, f"function.made-{'public' if public else 'private'}", name)
        await outbox.append(session, tenant_id, "function-public" if public else "function-private", name)
    return function


async def delete_function(session: AsyncSession, tenant_id: str, name: str, *, actor: Actor) -> None:
    function = await require_function(session, tenant_id, name)
    await secrets.delete_of_function(session, tenant_id, function.id)
    await repository.delete_function(session, tenant_id, function.id)
    audit.record(session, tenant_id, actor, "function.deleted", name)
    await outbox.append(session, tenant_id, "function-deleted", name)


async def require_function(session: AsyncSession, tenant_id: str, name: str) -> Function:
    function = await repository.find_function(session, tenant_id, name)
    if function is None:
        raise not_found("function", name)
    return function


async def require_version(session: AsyncSession, tenant_id: str, function: Function, version_id: str) -> Version:
    version = await repository.get_version(session, tenant_id, function.id, version_id)
    if version is None:
        raise not_found("version", f"{function.name}@{version_id}")
    return version
