"""What there is: method and path → what it takes, and what it does.

``handlers`` is called once by ``server``. A path's ``{}`` is an id. Parameters are declared here and nowhere else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_plane.simulated_stripe import catalogue, invoices, meters, payments, schedules
from control_plane.simulated_stripe.checkout import Checkout
from control_plane.simulated_stripe.forms import (
    FLAG,
    TEXT_LIST,
    TEXTS,
    Kind,
    decimal,
    group,
    groups,
    number,
    text,
)
from control_plane.simulated_stripe.objects import Object
from control_plane.simulated_stripe.store import Store, listed
from control_plane.simulated_stripe.subscriptions import Subscriptions

Handler = Callable[..., Object]
_REQUIRED: Final = text(required=True)
_PAGE: Final = {"limit": number(), "starting_after": text()}
_ITEMS: Final = groups(id=text(), price=text(), quantity=number(), deleted=FLAG)
_PRORATION: Final = text("always_invoice", "create_prorations", "none")


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: re.Pattern[str]
    parameters: Mapping[str, Kind]
    handler: Handler


def find(routes: list[Route], method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    for route in routes:
        matched = route.path.fullmatch(path)
        if matched is not None and route.method == method:
            return route, matched.groups()
    return None


def handlers(store: Store, subscriptions: Subscriptions, checkout: Checkout) -> list[Route]:
    def of(handler: Handler) -> Handler:
        return lambda *rest: handler(store, *rest)

    def retrieve(kind: str) -> Handler:
        def handler(given: dict[str, Any], object_id: str) -> Object:
            return payments.expanded(store, store.get(kind, object_id), given.get("expand", []))

        return handler

    def list_events(given: dict[str, Any]) -> Object:
        created = given.get("created", {})
        found = [
            event
            for event in store.all("event")
            if event["type"] in given.get("types", [event["type"]])
            and created.get("gte", 0) <= event["created"] <= created.get("lte", event["created"])
        ]
        return listed("/v1/events", found, given.get("limit", 10), given.get("starting_after"))

    price = {
        "active": FLAG, "billing_scheme": text("per_unit", "tiered"), "currency": _REQUIRED, "lookup_key": text(),
        "metadata": TEXTS, "nickname": text(), "product": _REQUIRED, "tax_behavior": text(),
        "recurring": group(
            required=True, interval=text("day", "week", "month", "year", required=True), meter=text(),
            usage_type=text("licensed", "metered"),
        ),
        "tiers": groups(up_to=_REQUIRED, unit_amount=number(), unit_amount_decimal=decimal()),
        "tiers_mode": text("graduated"), "unit_amount": number(), "unit_amount_decimal": decimal(),
    }  # fmt: skip
    meter = {
        "display_name": _REQUIRED, "event_name": _REQUIRED,
        "default_aggregation": group(required=True, formula=text("sum", required=True)),
        "customer_mapping": group(type=text("by_id", required=True), event_payload_key=_REQUIRED),
        "value_settings": group(event_payload_key=_REQUIRED),
    }  # fmt: skip
    session = {
        "mode": text("subscription", required=True), "customer": _REQUIRED, "success_url": _REQUIRED,
        "line_items": groups(required=True, price=_REQUIRED, quantity=number()), "cancel_url": text(),
        "client_reference_id": text(), "metadata": TEXTS, "expires_at": number(),
        "automatic_tax": group(enabled=Kind("flag", required=True)),
        "billing_address_collection": text("auto", "required"), "customer_update": group(address=text(), name=text()),
        "tax_id_collection": group(enabled=Kind("flag", required=True)),
        "subscription_data": group(metadata=TEXTS, billing_mode=group(type=text("classic", "flexible", required=True))),
    }  # fmt: skip
    change = {
        "items": _ITEMS, "metadata": TEXTS, "cancel_at_period_end": FLAG, "proration_behavior": _PRORATION,
        "proration_date": number(),
        "payment_behavior": text("allow_incomplete", "error_if_incomplete", "pending_if_incomplete"),
    }  # fmt: skip
    preview = {
        "customer": text(), "subscription": text(),
        "subscription_details": group(
            items=_ITEMS, proration_behavior=_PRORATION, proration_date=number(),
            billing_mode=group(type=text("classic", "flexible", required=True)),
        ),
        "automatic_tax": group(enabled=Kind("flag", required=True)),
    }  # fmt: skip
    phase = groups(
        items=groups(required=True, price=_REQUIRED, quantity=number()), start_date=number(),
        end_date=number(), proration_behavior=_PRORATION, metadata=TEXTS,
        duration=group(interval=text("day", "week", "month", "year", required=True), interval_count=number()),
    )  # fmt: skip
    schedule = {"phases": phase, "end_behavior": text("release", "cancel"), "proration_behavior": _PRORATION}
    summaries = {
        "customer": _REQUIRED, "start_time": number(required=True), "end_time": number(required=True),
        "value_grouping_window": text("hour", "day"), **_PAGE,
    }  # fmt: skip
    customer = {"email": text(), "name": text(), "description": text(), "metadata": TEXTS}
    product = {"name": text(), "description": text(), "active": FLAG, "metadata": TEXTS, "tax_code": text()}
    meter_event = {"event_name": _REQUIRED, "payload": Kind("texts", required=True), "identifier": text()}
    refund = {"charge": _REQUIRED, "amount": number(), "reason": text(), "metadata": TEXTS}
    events = {"types": TEXT_LIST, "created": group(gte=number(), lte=number()), **_PAGE}
    table: list[tuple[str, str, Mapping[str, Kind], Handler]] = [
        ("POST", "/v1/customers", customer, of(catalogue.create_customer)),
        ("GET", "/v1/customers/{}", {}, retrieve("customer")),
        ("POST", "/v1/customers/{}", customer, of(catalogue.update_customer)),
        ("POST", "/v1/products", {**product, "id": text(), "name": _REQUIRED}, of(catalogue.create_product)),
        ("GET", "/v1/products/{}", {}, retrieve("product")),
        ("POST", "/v1/products/{}", product, of(catalogue.update_product)),
        ("POST", "/v1/prices", price, of(catalogue.create_price)),
        ("GET", "/v1/prices", {"lookup_keys": TEXT_LIST, "active": FLAG, "product": text(), **_PAGE},
         of(catalogue.list_prices)),
        ("GET", "/v1/prices/{}", {}, retrieve("price")),
        ("POST", "/v1/prices/{}", {"active": FLAG, "nickname": text(), "metadata": TEXTS}, of(catalogue.update_price)),
        ("POST", "/v1/billing/meters", meter, of(catalogue.create_meter)),
        ("GET", "/v1/billing/meters", {"status": text("active", "inactive"), **_PAGE}, of(catalogue.list_meters)),
        ("GET", "/v1/billing/meters/{}/event_summaries", summaries, of(meters.list_summaries)),
        ("POST", "/v1/billing/meter_events", {**meter_event, "timestamp": number()}, of(meters.create_event)),
        ("POST", "/v1/checkout/sessions", session, checkout.create),
        ("GET", "/v1/checkout/sessions/{}", {}, checkout.get),
        ("POST", "/v1/checkout/sessions/{}/expire", {}, checkout.expire),
        ("POST", "/v1/billing_portal/sessions", {"customer": _REQUIRED, "return_url": text()}, checkout.create_portal),
        ("GET", "/v1/subscriptions", {"customer": text(), "status": text(), **_PAGE}, subscriptions.list_all),
        ("GET", "/v1/subscriptions/{}", {}, subscriptions.get),
        ("POST", "/v1/subscriptions/{}", change, subscriptions.update),
        ("DELETE", "/v1/subscriptions/{}", {"invoice_now": FLAG, "prorate": FLAG}, subscriptions.cancel),
        ("POST", "/v1/subscription_schedules", {"from_subscription": _REQUIRED}, of(schedules.create)),
        ("GET", "/v1/subscription_schedules/{}", {}, retrieve("subscription_schedule")),
        ("POST", "/v1/subscription_schedules/{}", schedule, of(schedules.update)),
        ("POST", "/v1/subscription_schedules/{}/release", {}, of(schedules.release)),
        ("POST", "/v1/invoices/create_preview", preview, subscriptions.preview),
        ("GET", "/v1/invoices", {"customer": text(), "status": text(), "subscription": text(), **_PAGE},
         of(invoices.list_invoices)),
        ("GET", "/v1/invoices/{}", {}, retrieve("invoice")),
        ("POST", "/v1/invoices/{}/pay", {}, subscriptions.pay),
        ("GET", "/v1/charges", {"customer": text(), **_PAGE}, of(payments.list_charges)),
        ("GET", "/v1/charges/{}", {}, retrieve("charge")),
        ("POST", "/v1/refunds", refund, of(payments.create_refund)),
        ("GET", "/v1/refunds/{}", {"expand": TEXT_LIST}, retrieve("refund")),
        ("GET", "/v1/disputes/{}", {"expand": TEXT_LIST}, retrieve("dispute")),
        ("GET", "/v1/events", events, list_events),
        ("GET", "/v1/events/{}", {}, retrieve("event")),
    ]  # fmt: skip
    return [
        Route(method, re.compile(re.escape(path).replace(r"\{\}", "([A-Za-z0-9_]+)")), parameters, handler)
        for method, path, parameters, handler in table
    ]
