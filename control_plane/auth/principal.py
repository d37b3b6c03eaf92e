"""Who is calling, as dependencies of endpoints: a tenant's key with the right scope, or the operator.

``admin`` includes every scope. What always holds: an endpoint with ``require(...)`` runs only for a key that is
neither revoked nor expired, and everything it does is for ``Principal.tenant_id``.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control_plane.auth import repository
from control_plane.auth.tokens import KEY_PREFIX, TOKEN_CHARACTERS_MAX, hash_token
from control_plane.context import Context, ContextDependency
from control_plane.models import Key, now
from control_plane.problems import Problem
from gateway.contract.table import Scope

OPERATOR: Final = "operator"
ALL_SCOPES: Final[tuple[Scope, ...]] = ("deploy", "invoke", "read", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    tenant_id: str
    tenant_name: str
    key_id: str
    scopes: frozenset[str]
    token: str = field(repr=False)

    @property
    def owner(self) -> str:
        return self.tenant_id


@dataclass(frozen=True, slots=True)
class Operator:
    token: str = field(repr=False)
    owner: str = OPERATOR
    key_id: str = OPERATOR


_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key of the tenant, `tck_…`")
_operator_bearer = HTTPBearer(auto_error=False, scheme_name="operator", description="The operator's token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
OperatorCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_operator_bearer)]


def require(*scopes: Scope) -> Callable[..., Awaitable[Principal]]:
    """Any one of ``scopes`` is enough; none given: any valid key."""

    async def dependency(request: Request, context: ContextDependency, credentials: Credentials) -> Principal:
        principal = await authenticate(context, credentials.credentials if credentials else "")
        request.scope["tailcut_tenant"] = principal.tenant_name  # for the access log
        check_scopes(principal.scopes, scopes)
        return principal

    dependency.scopes = scopes  # type: ignore[attr-defined]  # read by the test of the table of scopes
    return dependency


async def require_operator(context: ContextDependency, credentials: OperatorCredentials) -> Operator:
    token = credentials.credentials if credentials else ""
    if not hmac.compare_digest(token.encode(), context.operator_token.encode()):
        raise Problem(
            "unauthorized",
            "This needs the operator's token as bearer; it is in the file operator-token of the server's data folder.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Operator(token)


def check_scopes(held: frozenset[str], wanted: tuple[Scope, ...]) -> None:
    if wanted and "admin" not in held and not held.intersection(wanted):
        raise Problem(
            "forbidden",
            f"This needs a key with the scope {' or '.join(wanted)}; this key has {', '.join(sorted(held)) or 'none'}.",
            required=list(wanted),
        )


async def authenticate(context: Context, token: str) -> Principal:
    refusal = Problem(
        "unauthorized",
        "Pass a valid key as 'Authorization: Bearer tck_…'; this one is missing, unknown, revoked or expired.",
        headers={"WWW-Authenticate": "Bearer"},
    )
    if not token.startswith(KEY_PREFIX) or len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        raise refusal
    async with context.reading() as session:
        found = await repository.find_key_by_hash(session, hash_token(token))
    if found is None or not is_live(found[0]):
        raise refusal
    key, tenant = found
    return Principal(tenant.id, tenant.name, key.id, frozenset(key.scopes), token)


def is_live(key: Key) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now())


AnyKey = Annotated[Principal, Depends(require())]
Reader = Annotated[Principal, Depends(require("read", "deploy"))]
KeyReader = Annotated[Principal, Depends(require("read"))]
Deployer = Annotated[Principal, Depends(require("deploy"))]
Admin = Annotated[Principal, Depends(require("admin"))]
OperatorCaller = Annotated[Operator, Depends(require_operator)]
