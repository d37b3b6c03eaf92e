"""What may be done, and who may do it: one table for the roles of members, one for the scopes of keys.

Data only. ``principal`` asks it for every request, the dashboard asks it what to show, docs/ARCHITECTURE.md and the
members page print it. A permission that ends in ``.read`` changes nothing.
"""

from typing import Final, Literal, get_args

from gateway.contract.table import Scope

Permission = Literal[
    "functions.read",
    "functions.write",
    "logs.read",
    "usage.read",
    "keys.read",
    "keys.write",
    "members.read",
    "members.write",
    "billing.read",
    "billing.write",
    "audit.read",
    "tenant.read",
    "tenant.delete",
]
Role = Literal["owner", "admin", "developer", "billing", "viewer"]

ALL_PERMISSIONS: Final[frozenset[Permission]] = frozenset(get_args(Permission))
ROLES: Final[tuple[Role, ...]] = get_args(Role)
ALL_SCOPES: Final[tuple[Scope, ...]] = ("deploy", "invoke", "read", "admin")

_VIEW: Final[frozenset[Permission]] = frozenset(
    {"functions.read", "logs.read", "usage.read", "keys.read", "members.read", "tenant.read"}
)

OF_ROLE: Final[dict[Role, frozenset[Permission]]] = {
    "owner": ALL_PERMISSIONS,
    "admin": ALL_PERMISSIONS - {"tenant.delete"},
    "developer": _VIEW | {"functions.write", "keys.write", "audit.read"},
    "billing": frozenset({"usage.read", "billing.read", "billing.write", "members.read", "tenant.read"}),
    "viewer": _VIEW,
}
"""Who has the role may do this. Owners and owners' rows are an owner's alone (``members.service``)."""

TO_CONFIRM: Final[frozenset[Permission]] = frozenset({"keys.write", "members.write", "tenant.delete"})
"""A person uses them only shortly after the password was given (``principal.check_confirmed``): what somebody with a
stolen session could make with them would outlive the session. Keys are not asked, they have no password."""

OF_SCOPE: Final[dict[Scope, frozenset[Permission]]] = {
    "admin": ALL_PERMISSIONS - {"tenant.delete"},
    "deploy": frozenset({"functions.read", "functions.write", "logs.read", "tenant.read"}),
    "read": frozenset({"functions.read", "logs.read", "usage.read", "keys.read", "tenant.read"}),
    "invoke": frozenset({"tenant.read"}),
}
"""A key may do what any of its scopes may. None deletes the tenant or makes owners: an admin may make admin keys."""

SCOPES_TO_GIVE: Final[dict[Role, frozenset[Scope]]] = {
    "owner": frozenset(ALL_SCOPES),
    "admin": frozenset(ALL_SCOPES),
    "developer": frozenset({"deploy", "invoke", "read"}),
    "billing": frozenset(),
    "viewer": frozenset(),
}
"""A key's scopes are at most what its maker could do anyway."""

WHAT_ROLES_DO: Final[dict[Role, str]] = {
    "owner": "everything, with deleting the tenant and making owners",
    "admin": "everything but deleting the tenant and making owners",
    "developer": "deploys functions, makes keys that deploy, invoke or read, sees usage, logs and the audit log",
    "billing": "sees usage, chooses the tier, pays",
    "viewer": "sees functions, usage, logs, keys and members, and changes nothing",
}


def of_scopes(scopes: frozenset[str]) -> frozenset[Permission]:
    return frozenset().union(*(OF_SCOPE[scope] for scope in ALL_SCOPES if scope in scopes))


def scopes_with(permission: Permission) -> list[Scope]:
    return [scope for scope in ALL_SCOPES if permission in OF_SCOPE[scope]]


def roles_with(permission: Permission) -> list[Role]:
    return [role for role in ROLES if permission in OF_ROLE[role]]
