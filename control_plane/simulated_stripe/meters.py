"""Meter events: taken once per identifier, refused outside of their window, summed up by the hour.

Window and identifiers as Stripe documents them: a time stamp within the past 35 days and at most five minutes ahead;
an identifier is unique for at least 24 hours (here: 24 hours exactly, so that what comes later is seen to count twice).
"""

from typing import Any, Final

from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import Store, listed

PAST_S_MAX: Final = 35 * 24 * 3600
AHEAD_S_MAX: Final = 5 * 60
IDENTIFIER_S: Final = 24 * 3600
_HOUR_S: Final = 3600


def create_event(store: Store, given: dict[str, Any]) -> Object:
    at = store.now()
    meter = next((each for each in store.all("billing.meter") if each["event_name"] == given["event_name"]), None)
    if meter is None or meter["status"] != "active":
        raise ApiError(f"No active meter found for event name {given['event_name']}.", param="event_name")
    payload, timestamp = given["payload"], given.get("timestamp", at)
    customer = store.get("customer", payload.get(meter["customer_mapping"]["event_payload_key"], ""))
    value = payload.get(meter["value_settings"]["event_payload_key"], "")
    if not value.isdecimal():
        raise ApiError(f"The value {value!r} of the meter event is not a whole number.", param="payload")
    if timestamp < at - PAST_S_MAX:
        raise ApiError("The timestamp is more than 35 days in the past.", code="timestamp_too_far_in_past")
    if timestamp > at + AHEAD_S_MAX:
        raise ApiError("The timestamp is in the future.", code="timestamp_in_future")
    identifier = given.get("identifier") or f"none-{at}-{timestamp}-{value}"
    known = store.connection.execute("SELECT value FROM state WHERE name = ?", (f"identifier {identifier}",)).fetchone()
    if known is not None and known[0] > at - IDENTIFIER_S:
        raise ApiError(
            f"An event already exists with identifier {identifier}.", code="resource_already_exists", param="identifier"
        )
    store.set_state(f"identifier {identifier}", at)
    store.connection.execute(
        "INSERT INTO meter_events (identifier, meter, customer, at, value) VALUES (?, ?, ?, ?, ?)",
        (f"{identifier}@{at}", meter["id"], customer["id"], timestamp, int(value)),
    )
    return make(
        "billing.meter_event",
        created=at,
        event_name=given["event_name"],
        identifier=identifier,
        payload=payload,
        timestamp=timestamp,
    ) | {"id": None}


def usage(store: Store, meter_id: str, customer_id: str, start: int, end: int) -> int:
    row = store.connection.execute(
        "SELECT coalesce(sum(value), 0) FROM meter_events WHERE meter = ? AND customer = ? AND at >= ? AND at < ?",
        (meter_id, customer_id, start, end),
    ).fetchone()
    return int(row[0])


def list_summaries(store: Store, given: dict[str, Any], meter_id: str) -> Object:
    """The newest first; without ``value_grouping_window`` one for the whole range."""
    store.get("billing.meter", meter_id)
    store.get("customer", given["customer"])
    start, end = int(given["start_time"]), int(given["end_time"])
    window: str = given.get("value_grouping_window") or ""
    step = {"hour": _HOUR_S, "day": 24 * _HOUR_S}.get(window, max(end - start, 1))
    unit = step if window else 60
    if start % unit or end % unit:
        raise ApiError(f"start_time and end_time must be aligned with {window or 'minute'} boundaries (UTC).")
    found = []
    for begin in range(start, end, step):
        value = usage(store, meter_id, given["customer"], begin, begin + step)
        if value:
            summary = make(
                "billing.meter_event_summary",
                id=f"mtrusg_{meter_id}_{begin}",
                aggregated_value=value,
                start_time=begin,
                end_time=begin + step,
                meter=meter_id,
            )
            found.append(summary)
    url = f"/v1/billing/meters/{meter_id}/event_summaries"
    return listed(url, found[::-1], given.get("limit", 10), given.get("starting_after"))
