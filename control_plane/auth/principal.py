"""Who is calling, as dependencies of endpoints: a tenant's key, a signed-in person in a tenant, or the operator.

What always holds: an endpoint with ``require(...)`` runs only for a key that is neither revoked nor expired, or for a
session that has not ended of somebody who is a member of the tenant now; and everything it does is for
``Principal.tenant_id``. A session comes as a bearer token here and never as a cookie: so no other site can make a
browser call the API (the dashboard, which has cookies, has its own check in ``dashboard.visitor``).
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control_plane.auth import permissions, repository
from control_plane.auth.permissions import Permission, Role
from control_plane.auth.tokens import KEY_PREFIX, SESSION_PREFIX, TOKEN_CHARACTERS_MAX, hash_token
from control_plane.context import Context, ContextDependency
from control_plane.models import Key, Member, Person, Session, Tenant, now
from control_plane.problems import Problem, not_found

OPERATOR: Final = "operator"
KEY_USE_INTERVAL: Final = timedelta(minutes=5)
SESSION_USE_INTERVAL: Final = timedelta(minutes=1)
"""How exactly the last use is noted."""
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Actor:
    """For the audit log: who, from where, in which request."""

    id: str
    label: str
    address: str
    request_id: str
    is_operator: bool = False
    """Acting as one: the operators' log has it in full, a tenant's log says "the operator"."""

    @property
    def public_label(self) -> str:
        return "the operator" if self.is_operator else self.label


@dataclass(frozen=True, slots=True)
class Principal:
    tenant_id: str
    tenant_name: str
    tenant_status: str
    key_id: str
    """The credential: a key's id or a session's."""
    actor: Actor
    permissions: frozenset[Permission]
    scopes: frozenset[str]
    """Of a key; empty for a person."""
    role: Role | None
    """Of a person; None for a key."""
    is_confirmed: bool
    """Of a person: the password was given lately. Always, of a key."""
    token: str = field(repr=False)

    @property
    def owner(self) -> str:
        return self.tenant_id

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person, in no tenant in particular."""

    person: Person
    session: Session
    actor: Actor
    is_confirmed: bool
    """The password, and the second factor where there is one, were given in this session lately."""
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever holds the machine's token, or a person whom ``tailcut-server operator add`` made one."""

    actor: Actor
    token: str = field(repr=False)
    owner: str = OPERATOR
    key_id: str = OPERATOR


_bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="A key of the tenant, `tck_…`, or a session's token, `tcs_…`"
)
_person_bearer = HTTPBearer(auto_error=False, scheme_name="session", description="A session's token, `tcs_…`")
_operator_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="operator",
    description="The operator's token, or a session's token, `tcs_…`, of an operator who has given a second factor",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
PersonCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_person_bearer)]
OperatorCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_operator_bearer)]
TenantHeader = Annotated[
    str | None,
    Header(alias="Tailcut-Tenant", max_length=63, description="With a session's token: the tenant to act for"),
]


def require(permission: Permission) -> Callable[..., Awaitable[Principal]]:
    async def dependency(
        request: Request, context: ContextDependency, credentials: Credentials, tailcut_tenant: TenantHeader = None
    ) -> Principal:
        token = credentials.credentials if credentials else ""
        principal = await authenticate(context, request, token, tailcut_tenant)
        check_permission(principal, permission)
        return principal

    dependency.permission = permission  # type: ignore[attr-defined]  # read by the tests of the table
    return dependency


async def require_signed_in(request: Request, context: ContextDependency, credentials: PersonCredentials) -> SignedIn:
    token = credentials.credentials if credentials else ""
    found = await find_session(context, request, token) if token.startswith(SESSION_PREFIX) else None
    if found is None:
        raise Problem(
            "unauthorized",
            "This needs a session's token as bearer, 'tcs_…', which POST /v1/sessions gives; this one is missing, "
            "unknown or has ended.",
            headers=_CHALLENGE,
        )
    return found


async def require_confirmed(signed_in: Annotated[SignedIn, Depends(require_signed_in)]) -> SignedIn:
    check_confirmed(signed_in)
    return signed_in


async def require_operator(request: Request, context: ContextDependency, credentials: OperatorCredentials) -> Operator:
    """To those who are somebody else here, what operators do is not there: 404. A person confirms before a change."""
    token = credentials.credentials if credentials else ""
    if is_machines_token(context, token):
        return Operator(make_actor(context, request, OPERATOR, "the operator's token", is_operator=True), token)
    signed_in = await find_session(context, request, token)
    if signed_in is not None:
        operator = operator_of(context, signed_in)
        if request.method != "GET":
            check_confirmed(signed_in)
        return operator
    if token.startswith(KEY_PREFIX):
        await authenticate(context, request, token)  # an unknown key is refused as anywhere
        raise _hidden()
    raise Problem(
        "unauthorized",
        "This needs the operator's token as bearer (it is in the file operator-token of the server's data folder), or "
        "a session's token of an operator.",
        headers=_CHALLENGE,
    )


def is_machines_token(context: Context, token: str) -> bool:
    return bool(token) and hmac.compare_digest(token.encode(), context.operator_token.encode())


def operator_of(context: Context, signed_in: SignedIn) -> Operator:
    """Raises ``not-found`` for somebody else, ``forbidden`` before the second factor was given."""
    if signed_in.person.operator_since is None:
        raise _hidden()
    if context.settings.operator_second_factor and not signed_in.session.has_second_factor:
        raise Problem(
            "forbidden",
            "Operators give a second factor: turn it on under Security, or sign in again with its code.",
        )
    actor = replace(signed_in.actor, is_operator=True)
    return Operator(actor, signed_in.token, key_id=signed_in.session.id)


def _hidden() -> Problem:
    return Problem("not-found", "There is nothing at this path.")


async def require_machine(operator: Annotated[Operator, Depends(require_operator)]) -> Operator:
    """What would let one operator act as somebody else is for the machine's token alone."""
    if operator.actor.id != OPERATOR:
        raise Problem("forbidden", "Only the operator's token does this, on the machine: `tailcut-server sign-in`.")
    return operator


def check_permission(principal: Principal, permission: Permission) -> None:
    if not principal.may(permission):
        needed: list[str]
        if principal.role is None and not permissions.scopes_with(permission):
            needed = list(permissions.roles_with(permission))
            held = f"a person with the role {' or '.join(needed)}, signed in; no key does it"
        elif principal.role is None:
            needed = list(permissions.scopes_with(permission))
            held = f"a key with the scope {' or '.join(needed)}; this key has {', '.join(sorted(principal.scopes))}"
        else:
            needed = list(permissions.roles_with(permission))
            held = f"the role {' or '.join(needed)}; yours is {principal.role}"
        raise Problem("forbidden", f"This needs {held}.", required=needed)
    check_status(principal.tenant_status, permission)
    if permission in permissions.TO_CONFIRM:
        check_confirmed(principal)


def check_confirmed(caller: Principal | SignedIn) -> None:
    """The one place that refuses somebody who has a session and has not given the password lately."""
    if not caller.is_confirmed:
        raise Problem(
            "confirmation-required",
            "Give your password again: POST it to /v1/sessions/current/confirm, with the code of your second factor if "
            "it is on. Then repeat this.",
        )


def check_status(status: str, permission: Permission) -> None:
    """A suspended tenant can be looked at, paid for and deleted; one that is being deleted can be looked at."""
    is_harmless = permission.endswith(".read") or (
        status == "suspended" and permission in ("billing.write", "tenant.delete")
    )
    if status != "active" and not is_harmless:
        word = "suspended" if status == "suspended" else "being deleted"
        raise Problem("tenant-suspended", f"The tenant is {word}: nothing of it can be changed.")


async def authenticate(context: Context, request: Request, token: str, tenant_name: str | None = None) -> Principal:
    if token.startswith(SESSION_PREFIX):
        signed_in = await find_session(context, request, token)
        if signed_in is not None:
            return await act_for(context, request, signed_in, tenant_name)
    elif token.startswith(KEY_PREFIX) and len(token) <= TOKEN_CHARACTERS_MAX and token.isascii():
        principal = await _authenticate_key(context, request, token)
        if principal is not None:
            if tenant_name not in (None, principal.tenant_name):
                raise not_found("tenant", str(tenant_name))
            return principal
    raise Problem(
        "unauthorized",
        "Pass a valid key as 'Authorization: Bearer tck_…'; this one is missing, unknown, revoked or expired.",
        headers=_CHALLENGE,
    )


async def act_for(context: Context, request: Request, signed_in: SignedIn, tenant_name: str | None) -> Principal:
    """The person in one of the tenants that it is a member of: the named one, else the session's, else the only one."""
    async with context.reading() as session:
        memberships = await repository.memberships_of(session, signed_in.person.id)
    for member, tenant in memberships:
        is_meant = (
            tenant.name == tenant_name
            if tenant_name is not None
            else (tenant.id == signed_in.session.tenant_id or len(memberships) == 1)
        )
        if is_meant:
            request.scope["tailcut_tenant"] = tenant.name  # for the access log
            return _principal_of(signed_in, member, tenant)
    if tenant_name is not None:
        raise not_found("tenant", tenant_name)
    raise Problem("bad-request", "Name the tenant to act for in the header Tailcut-Tenant; GET /v1/person lists yours.")


def _principal_of(signed_in: SignedIn, member: Member, tenant: Tenant) -> Principal:
    role: Role = member.role  # type: ignore[assignment]  # the column's check constraint
    return Principal(
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        tenant_status=tenant.status,
        key_id=signed_in.session.id,
        actor=signed_in.actor,
        permissions=permissions.OF_ROLE[role],
        scopes=frozenset(),
        role=role,
        is_confirmed=signed_in.is_confirmed,
        token=signed_in.token,
    )


async def _authenticate_key(context: Context, request: Request, token: str) -> Principal | None:
    async with context.reading() as session:
        found = await repository.find_key_by_hash(session, hash_token(token))
    if found is None or not is_live(found[0]) or found[1].status == "deleted":
        return None
    key, tenant = found
    if key.last_used_at is None or now() - key.last_used_at > KEY_USE_INTERVAL:
        async with context.writing() as session:
            await repository.note_key_use(session, tenant.id, key.id, now())
    request.scope["tailcut_tenant"] = tenant.name  # for the access log
    scopes = frozenset(key.scopes)
    return Principal(
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        tenant_status=tenant.status,
        key_id=key.id,
        actor=make_actor(context, request, key.id, key.name),
        permissions=permissions.of_scopes(scopes),
        scopes=scopes,
        role=None,
        is_confirmed=True,
        token=token,
    )


async def find_session(context: Context, request: Request, token: str) -> SignedIn | None:
    """A session that has not ended, whose second factor was given."""
    found = await find_any_session(context, request, token)
    return None if found is None or found.session.is_pending else found


async def find_any_session(context: Context, request: Request, token: str, *, is_use: bool = True) -> SignedIn | None:
    """``is_use`` false: a page that refreshes itself, which must not keep a forgotten session alive."""
    if not token.startswith(SESSION_PREFIX) or len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        return None
    at = now()
    async with context.reading() as session:
        found = await repository.find_session(session, hash_token(token), at)
    if found is None or at - found[0].seen_at > context.settings.session_idle_timeout:
        return None
    row, person = found
    if is_use and at - row.seen_at > SESSION_USE_INTERVAL:
        async with context.writing() as session:
            await repository.note_session_use(session, row.sha256, at)
    is_confirmed = row.confirmed_at is not None and at - row.confirmed_at < context.settings.confirmation_window
    return SignedIn(person, row, make_actor(context, request, person.id, person.email), is_confirmed, token)


def make_actor(context: Context, request: Request, actor_id: str, label: str, *, is_operator: bool = False) -> Actor:
    request_id = str(request.scope.get("tailcut_request_id", ""))
    return Actor(actor_id, label, address_of(context, request), request_id, is_operator)


def address_of(context: Context, request: Request) -> str:
    """The client's network address; behind proxies, what the outermost trusted one has seen."""
    count = context.settings.forwarded_for_count
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",") if hop.strip()]
    if count and len(hops) >= count:
        return hops[-count][:64]
    return (request.client.host if request.client else "")[:64]


def is_live(key: Key) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now())


AnyKey = Annotated[Principal, Depends(require("tenant.read"))]
Reader = Annotated[Principal, Depends(require("functions.read"))]
Deployer = Annotated[Principal, Depends(require("functions.write"))]
KeyReader = Annotated[Principal, Depends(require("keys.read"))]
KeyWriter = Annotated[Principal, Depends(require("keys.write"))]
MemberReader = Annotated[Principal, Depends(require("members.read"))]
MemberWriter = Annotated[Principal, Depends(require("members.write"))]
BillingReader = Annotated[Principal, Depends(require("billing.read"))]
BillingWriter = Annotated[Principal, Depends(require("billing.write"))]
UsageReader = Annotated[Principal, Depends(require("usage.read"))]
LogReader = Annotated[Principal, Depends(require("logs.read"))]
AuditReader = Annotated[Principal, Depends(require("audit.read"))]
TenantDeleter = Annotated[Principal, Depends(require("tenant.delete"))]
PersonCaller = Annotated[SignedIn, Depends(require_signed_in)]
ConfirmedCaller = Annotated[SignedIn, Depends(require_confirmed)]
OperatorCaller = Annotated[Operator, Depends(require_operator)]
MachineCaller = Annotated[Operator, Depends(require_machine)]
