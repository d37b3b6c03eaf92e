"""A change at the end of the paid month: a subscription schedule of Stripe's, which we make, read and take back.

Called by ``purchasing`` and by ``overview``. It is kept at Stripe alone: when the month ends Stripe changes the
subscription and says so, and ``state.refresh`` copies that as it copies every change. What always holds: a subscription
has at most one plan, and each change or cancellation takes an earlier plan back first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from control_plane.billing.asking import asking
from control_plane.billing.state import bought
from control_plane.billing.stripe_client import Object, StripeClient
from control_plane.context import Context
from control_plane.models import Subscription
from control_plane.tiers import repository as tiers


@dataclass(frozen=True, slots=True)
class Planned:
    title: str
    """Of the tier."""
    price_minor: int
    """Of the tier, per month"""
    add_ons: list[tuple[str, int]]
    """Title and quantity"""
    at: datetime


async def schedule(
    context: Context, client: StripeClient, subscription: Subscription, lines: Sequence[dict[str, Any]]
) -> None:
    """``lines``: prices with quantities, as Stripe takes them. The caller has taken an earlier plan back."""
    made = await asking(client.create_schedule(str(subscription.stripe_subscription_id)))
    present = made["phases"][0]
    held = [_line(item) for item in present["items"]]
    phases = [
        {"items": held, "start_date": present["start_date"], "end_date": present["end_date"]},
        {
            "items": list(lines),
            "duration": {"interval": "month", "interval_count": 1},
            "proration_behavior": "none",
        },
    ]
    await asking(client.update_schedule(made["id"], {"phases": phases, "end_behavior": "release"}))


async def forget(context: Context, client: StripeClient, subscription: Subscription) -> bool:
    """Take back what is planned. False: nothing was."""
    schedule_id = await _schedule_id(client, subscription)
    if schedule_id is None:
        return False
    await asking(client.release_schedule(schedule_id))
    return True


async def find(context: Context, client: StripeClient, subscription: Subscription) -> Planned | None:
    schedule_id = await _schedule_id(client, subscription)
    if schedule_id is None:
        return None
    later = (await asking(client.retrieve_schedule(schedule_id)))["phases"][1:]
    if not later:
        return None
    async with context.reading() as session:
        version, add_ons = await bought(session, later[0]["items"])
        if version is None:
            return None
        titles = []
        for version_id, quantity in add_ons.items():
            add_on = await tiers.get_add_on_version(session, version_id)
            titles.append((add_on.document["title"] if add_on is not None else version_id, quantity))
    at = datetime.fromtimestamp(int(later[0]["start_date"]), UTC)
    return Planned(version.document["title"], version.document["price_minor"], titles, at)


async def _schedule_id(client: StripeClient, subscription: Subscription) -> str | None:
    found = await asking(client.list_subscriptions(str(subscription.stripe_customer_id)))
    current = next((each for each in found if each["id"] == subscription.stripe_subscription_id), None)
    if current is None or current["schedule"] is None:
        return None
    schedule = current["schedule"]
    return str(schedule["id"] if isinstance(schedule, dict) else schedule)


def _line(item: Object) -> dict[str, Any]:
    price = item["price"]
    line = {"price": price["id"] if isinstance(price, dict) else price}
    return line if item.get("quantity") is None else {**line, "quantity": item["quantity"]}
