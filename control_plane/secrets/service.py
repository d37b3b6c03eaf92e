"""Rules about secrets: written, replaced, deleted, listed by name; never read again by anybody but workers.

A value is sealed in the database (``auth.sealing``), goes to gateways in the routing table, into the environment of
every version of its function, over a variable of the version's own with that name. A change replaces the workers.
"""

import json
import re
from collections import defaultdict
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth.principal import Actor
from control_plane.auth.sealing import Sealer
from control_plane.functions import repository as functions
from control_plane.models import Function, Secret, now
from control_plane.outbox import repository as outbox
from control_plane.problems import Problem, not_found
from control_plane.secrets import repository

log = structlog.get_logger(__name__)

NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
VALUE_CHARACTERS_MAX: Final = 4096
SECRETS_MAX: Final = 50
"""Of one function."""
BYTES_MAX: Final = 12 * 1024
"""Of all values of a function, as JSON: they share the spawn document with the version's own environment."""
_PURPOSE: Final = "function secret"
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)


async def set_secret(
    session: AsyncSession, sealer: Sealer, tenant_id: str, function: str, name: str, value: str, *, actor: Actor
) -> Secret:
    owner = await _function(session, tenant_id, function)
    if _NAME.fullmatch(name) is None:
        raise _invalid("name", "A name has letters, digits and _, and does not begin with a digit.")
    if "\0" in value or not 1 <= len(value) <= VALUE_CHARACTERS_MAX:
        raise _invalid("value", f"A value has 1 to {VALUE_CHARACTERS_MAX} characters, and no NUL.")
    held = await repository.list_secrets(session, tenant_id, owner.id)
    others = {each.name: _value(sealer, each) for each in held if each.name != name}
    if len(others) >= SECRETS_MAX:
        raise Problem("conflict", f"The function has {SECRETS_MAX} secrets, the most allowed; delete one first.")
    size = len(json.dumps({**others, name: value}))
    if size > BYTES_MAX:
        raise _invalid("value", f"All secrets of the function take {size} bytes as JSON then; at most {BYTES_MAX}.")
    row = next((each for each in held if each.name == name), None)
    if row is None:
        row = Secret(function_id=owner.id, name=name, tenant_id=tenant_id)
        session.add(row)
    row.sealed = sealer.seal(_PURPOSE, value.encode())
    row.updated_at = now()
    row.updated_by = actor.label[:254]
    await session.flush()
    audit.record(session, tenant_id, actor, "secret.set", f"{function}: {name}")
    await outbox.append(session, tenant_id, "secret-set", function)
    return row


async def delete_secret(session: AsyncSession, tenant_id: str, function: str, name: str, *, actor: Actor) -> None:
    owner = await _function(session, tenant_id, function)
    if await repository.find_secret(session, tenant_id, owner.id, name) is None:
        raise not_found("secret", f"{function}: {name}")
    await repository.delete_secret(session, tenant_id, owner.id, name)
    audit.record(session, tenant_id, actor, "secret.deleted", f"{function}: {name}")
    await outbox.append(session, tenant_id, "secret-deleted", function)


async def all_values(session: AsyncSession, sealer: Sealer) -> dict[str, dict[str, str]]:
    """Function id → name → value, for the routing table. One that does not open is left out, and said."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for secret in await repository.all_secrets(session):
        try:
            found[secret.function_id][secret.name] = _value(sealer, secret)
        except ValueError as error:
            log.error("secret-not-opened", function=secret.function_id, name=secret.name, message=str(error))
    return found


def _value(sealer: Sealer, secret: Secret) -> str:
    return sealer.open(_PURPOSE, secret.sealed).decode()


async def _function(session: AsyncSession, tenant_id: str, name: str) -> Function:
    function = await functions.find_function(session, tenant_id, name)
    if function is None:
        raise not_found("function", name)
    return function


def _invalid(field: str, message: str) -> Problem:
    return Problem("invalid-request", message, errors=[{"field": field, "message": message}])
