"""Every action that the audit log knows, and how the dashboard says it."""

from typing import Final

ACTIONS: Final[dict[str, str]] = {
    "alias.deleted": "deleted the alias",
    "alias.moved": "pointed the alias",
    "alerts.changed": "changed the usage alerts of",
    "billing.changed": "changed the billing of",
    "function.deleted": "deleted the function",
    "function.deployed": "deployed",
    "function.made-private": "made private",
    "function.made-public": "made public",
    "function.rolled-back": "rolled back",
    "invitation.accepted": "accepted the invitation as",
    "invitation.created": "invited",
    "invitation.withdrawn": "withdrew the invitation of",
    "key.created": "made the key",
    "key.revoked": "revoked the key",
    "limits.changed": "changed the limits of",
    "limits.overridden": "set limits of its own for",
    "member.added": "added the member",
    "member.removed": "removed the member",
    "member.role-changed": "changed the role of",
    "person.password-changed": "changed the own password",
    "person.password-reset": "reset the own password by mail",
    "person.recovery-code-used": "signed in with a recovery code",
    "person.second-factor-off": "turned the own second factor off",
    "person.second-factor-on": "turned the own second factor on",
    "person.signed-in": "signed in",
    "secret.deleted": "deleted the secret",
    "secret.set": "set the secret",
    "spend-cap.changed": "changed the spend cap of",
    "tenant.created": "made the tenant",
    "tenant.deletion-asked": "deleted the tenant",
    "tenant.reinstated": "reinstated the tenant",
    "tenant.suspended": "suspended the tenant",
    "tier.changed": "changed the tier to",
}
"""A noun and what happened to it → a sentence's middle: actor, this, subject."""

OPERATOR_ACTIONS: Final[dict[str, str]] = {
    "operator.added": "made an operator of",
    "operator.removed": "took the operator's rights from",
    "reconciliation.asked": "asked for a comparison with Stripe",
    "sign-in-link.made": "made a link that signs in",
    "webhooks.replayed": "had webhooks handled again",
}
"""What only the operators' own log has."""
