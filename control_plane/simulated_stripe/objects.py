"""The members of Stripe's objects, with what they hold when nobody has said anything.

An object that we answer with has every member that Stripe's own example has (tests/control_plane/stripe_members.json
lists them; a test compares), so that code which reads one finds it. ``make`` copies, so that nobody changes these.
"""

import copy
from typing import Any, Final

from control_plane.simulated_stripe import members_contracts, members_payments, members_shop

Object = dict[str, Any]

TEMPLATES: Final[dict[str, Object]] = {
    **members_shop.MEMBERS,
    **members_contracts.MEMBERS,
    **members_payments.MEMBERS,
}


def make(kind: str, /, **members: Any) -> Object:
    """A new object of that name. A member that Stripe does not know is our defect."""
    made = copy.deepcopy(TEMPLATES[kind])
    unknown = members.keys() - made.keys()
    if unknown:
        raise AssertionError(f"{kind} has no {', '.join(sorted(unknown))}")
    made.update(members)
    return made
