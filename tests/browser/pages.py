"""Every page of the dashboard: name → path. ``screenshots`` takes them, ``test_keyboard`` walks them.

``{…}`` are ids of what ``customer`` made. What always holds, by a test: each page that answers GET is in one of the
tables or in ``ELSEWHERE``, with the reason.
"""

from typing import Final

BEFORE: Final = {
    "sign-up": "/sign-up",
    "sign-up-finish": "/sign-up/finish?token={sign_up}",
    "sign-in": "/sign-in",
    "reset": "/reset",
    "invitation": "/invitation?token={invitation}",
    "errors": "/errors",
    "error": "/errors/tier-limit",
}
"""What one sees signed out."""
PAGES: Final = {
    "overview": "/",
    "overview-month": "/?range=month",
    "functions": "/functions",
    "deploy": "/deploy",
    "deploy-upload": "/deploy?way=upload",
    "function": "/functions/{function}",
    "code": "/functions/{function}/code",
    "try": "/functions/{function}/try",
    "secrets": "/functions/{function}/secrets",
    "secret-delete": "/functions/{function}/secrets/API_TOKEN/delete",
    "aliases": "/functions/{function}/aliases",
    "alias-delete": "/functions/{function}/aliases/canary/delete",
    "rollback": "/functions/{function}/rollback",
    "function-settings": "/functions/{function}/settings",
    "function-delete": "/functions/{function}/delete",
    "logs": "/logs",
    "usage": "/usage?range=month",
    "usage-function": "/usage?range=month&function={function}",
    "keys": "/keys",
    "key-new": "/keys/new",
    "key-revoke": "/keys/{key}/revoke",
    "members": "/members",
    "member": "/members/{member}",
    "invite": "/members/invite",
    "billing": "/billing",
    "tiers": "/billing/tiers",
    "upgrade": "/billing/change?tier=scale&add-on.cpu-reservation=1",
    "add-ons": "/billing/change?tier=pro",
    "spend-caps": "/billing/spend-caps",
    "invoices": "/billing/invoices",
    "invoice": "{invoice}",
    "cancel": "/billing/cancel",
    "audit": "/audit",
    "settings": "/settings",
    "delete": "/settings/delete",
    "security": "/security",
    "second-factor": "/security/second-factor",
    "confirm": "/security/confirm?next=/keys/new",
    "tenants": "/tenants",
}
"""As the tenant's owner sees them."""
ADMIN: Final = {
    "admin": "/admin",
    "admin-tenants": "/admin/tenants",
    "admin-tenant": "/admin/tenants/{tenant}",
    "admin-suspend": "/admin/tenants/{tenant}/suspend",
    "admin-nodes": "/admin/nodes",
    "admin-node": "/admin/nodes/{node}",
    "admin-usage": "/admin/usage",
    "admin-webhooks": "/admin/webhooks",
    "admin-reconciliation": "/admin/reconciliation",
    "admin-settings": "/admin/settings",
    "admin-audit": "/admin/audit",
    "admin-runbook": "/admin/runbook",
    "second-factor-off": "/security/second-factor/off",
}
"""For operators; and what only somebody with a second factor sees."""
FIRST: Final = {
    "first-overview": "/",
    "first-functions": "/functions",
    "first-logs": "/logs",
    "first-usage": "/usage",
    "first-keys": "/keys",
}
"""As somebody sees them who has only just signed up."""
ELSEWHERE: Final = {
    "/deploy/versions": "leads to /deploy",
    "/reset/finish": "the form of sign-up-finish with another heading; needs a link of its own",
    "/sign-in/link": "one button; needs a link of its own",
    "/usage/export.csv": "a file",
}


def paths(table: dict[str, str], places: dict[str, str]) -> dict[str, str]:
    return {name: path.format(**places) for name, path in table.items()}
