"""Subscription schedules: what a subscription becomes at the end of its month.

Only the shape that plans a change: made from a subscription, two phases, released at the end. ``subscriptions`` asks
``planned_items`` when a month begins. As at Stripe, a subscription has at most one, and while it has one its
cancellation is the schedule's business.
"""

from typing import Any

from control_plane.simulated_stripe import webhooks
from control_plane.simulated_stripe.months import add_months_unix
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import Store, new_id

Given = dict[str, Any]


def create(store: Store, given: Given) -> Object:
    """Its first phase is the subscription as it is."""
    subscription = store.get("subscription", given["from_subscription"])
    if subscription["status"] == "canceled":
        raise ApiError(f"The subscription {subscription['id']} is canceled.", code="resource_missing")
    if subscription["schedule"] is not None:
        raise ApiError(
            "You cannot migrate a subscription that is already attached to a schedule: "
            f"{subscription['id']} has {subscription['schedule']}."
        )
    first = subscription["items"]["data"][0]
    start, end = first["current_period_start"], first["current_period_end"]
    items = [{"price": item["price"]["id"], "quantity": item["quantity"]} for item in subscription["items"]["data"]]
    schedule = make(
        "subscription_schedule",
        id=new_id("sub_sched"),
        created=store.now(),
        current_phase={"start_date": start, "end_date": end},
        customer=subscription["customer"],
        subscription=subscription["id"],
        phases=[_phase(items, start, end, subscription["currency"])],
    )
    subscription["schedule"] = schedule["id"]
    store.save(subscription)
    webhooks.record(store, "subscription_schedule.created", store.save(schedule))
    webhooks.record(store, "customer.subscription.updated", subscription)
    return schedule


def update(store: Store, given: Given, schedule_id: str) -> Object:
    schedule = _require_active(store, schedule_id)
    if "end_behavior" in given:
        schedule["end_behavior"] = given["end_behavior"]
    if "phases" in given:
        schedule["phases"] = _phases(store, schedule, given["phases"])
    webhooks.record(store, "subscription_schedule.updated", store.save(schedule))
    return schedule


def release(store: Store, given: Given, schedule_id: str) -> Object:
    """The subscription goes on as it is."""
    return end(store, _require_active(store, schedule_id), "released")


def end(store: Store, schedule: Object, status: str) -> Object:
    """``released`` or ``canceled``."""
    subscription = store.get("subscription", schedule["subscription"])
    subscription["schedule"] = None
    store.save(subscription)
    schedule["status"], schedule["current_phase"] = status, None
    if status == "released":
        schedule["released_at"], schedule["released_subscription"] = store.now(), schedule["subscription"]
        schedule["subscription"] = None
    else:
        schedule["canceled_at"] = store.now()
    webhooks.record(store, f"subscription_schedule.{status}", store.save(schedule))
    return schedule


def planned_items(store: Store, subscription: Object) -> list[tuple[Object, int | None]] | None:
    """Prices with quantities that hold after this month; None: nothing is planned."""
    if subscription["schedule"] is None:
        return None
    schedule = store.get("subscription_schedule", subscription["schedule"])
    later = schedule["phases"][1:]
    if not later:
        return None
    return [(store.get("price", item["price"]), item["quantity"]) for item in later[0]["items"]]


def _phases(store: Store, schedule: Object, wanted: list[Given]) -> list[Object]:
    if len(wanted) > 2:
        raise ApiError("This simulation knows two phases, the present one and the next.", param="phases")
    present, currency = schedule["phases"][0], schedule["phases"][0]["currency"]
    if wanted[0].get("start_date") != present["start_date"]:
        raise ApiError("You can not modify the start date of the current phase.", param="phases[0][start_date]")
    found: list[Object] = []
    start = present["start_date"]
    for index, phase in enumerate(wanted):
        if ("end_date" in phase) == ("duration" in phase):
            raise ApiError(
                f"Exactly one of end_date and duration must be given for phases[{index}].", param=f"phases[{index}]"
            )
        items = []
        for item in phase["items"]:
            metered = store.get("price", item["price"])["recurring"]["usage_type"] == "metered"
            if metered and "quantity" in item:
                raise ApiError(f"Quantity should not be specified for the metered price {item['price']}.")
            items.append({"price": item["price"], "quantity": None if metered else item.get("quantity", 1)})
        stop = phase["end_date"] if "end_date" in phase else _after(start, phase["duration"])
        if stop <= start:
            raise ApiError(f"phases[{index}] ends before it starts.", param=f"phases[{index}][end_date]")
        found.append(_phase(items, start, stop, currency, phase.get("proration_behavior", "create_prorations")))
        start = stop
    return found


def _after(start: int, duration: Given) -> int:
    if duration["interval"] != "month":
        raise ApiError("This simulation knows months.", param="duration[interval]")
    return add_months_unix(start, int(duration.get("interval_count", 1)))


def _phase(
    items: list[Given], start: int, stop: int, currency: str, proration_behavior: str = "create_prorations"
) -> Object:
    return {
        "add_invoice_items": [],
        "currency": currency,
        "discounts": [],
        "end_date": stop,
        "items": [{**item, "discounts": [], "metadata": {}, "tax_rates": []} for item in items],
        "metadata": {},
        "proration_behavior": proration_behavior,
        "start_date": start,
    }


def _require_active(store: Store, schedule_id: str) -> Object:
    schedule = store.get("subscription_schedule", schedule_id)
    if schedule["status"] != "active":
        raise ApiError(f"The schedule {schedule_id} is {schedule['status']}.", code="resource_missing")
    return schedule
