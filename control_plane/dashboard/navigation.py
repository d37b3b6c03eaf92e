"""The sections of the dashboard, in order: what the navigation shows, to whom.

A page says with ``section=`` which one it belongs to. To add one, add a line here and its icon to
``templates/icons.html``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from control_plane.auth.permissions import Permission

if TYPE_CHECKING:
    from control_plane.dashboard.visitor import Visitor


@dataclass(frozen=True, slots=True)
class Section:
    id: str
    """Also the name of its icon."""
    label: str
    path: str
    permission: Permission
    group: str


SECTIONS: Final = (
    Section("overview", "Overview", "/", "tenant.read", "Build"),
    Section("functions", "Functions", "/functions", "functions.read", "Build"),
    Section("logs", "Logs", "/logs", "logs.read", "Build"),
    Section("usage", "Usage", "/usage", "usage.read", "Build"),
    Section("keys", "Keys", "/keys", "keys.read", "Build"),
    Section("members", "Members", "/members", "members.read", "Tenant"),
    Section("billing", "Billing", "/billing", "billing.read", "Tenant"),
    Section("audit", "Audit log", "/audit", "audit.read", "Tenant"),
    Section("settings", "Settings", "/settings", "tenant.read", "Tenant"),
)


def sections_for(visitor: "Visitor | None") -> dict[str, list[Section]]:
    """Group → its sections that the visitor may see."""
    groups: dict[str, list[Section]] = {}
    for section in SECTIONS:
        if visitor is not None and visitor.may(section.permission):
            groups.setdefault(section.group, []).append(section)
    return groups
