"""Customers, products, prices and meters: what the rest refers to."""

from typing import Any

from control_plane.simulated_stripe import webhooks
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import HIDDEN, Store, listed, new_id

Given = dict[str, Any]


def create_customer(store: Store, given: Given) -> Object:
    customer = make(
        "customer",
        id=new_id("cus"),
        created=store.now(),
        email=given.get("email"),
        name=given.get("name"),
        description=given.get("description"),
        metadata=given.get("metadata", {}),
        invoice_prefix=new_id("x")[2:10].upper(),
    )
    # Whether the simulated card is charged without complaint; a page of ours changes it.
    customer[HIDDEN] = {"pays": True}
    webhooks.record(store, "customer.created", store.save(customer))
    return customer


def update_customer(store: Store, given: Given, customer_id: str) -> Object:
    customer = store.get("customer", customer_id)
    customer["metadata"].update(given.pop("metadata", {}))
    customer.update(given)
    webhooks.record(store, "customer.updated", store.save(customer))
    return customer


def create_product(store: Store, given: Given) -> Object:
    product_id = given.get("id") or new_id("prod")
    if store.find("product", product_id) is not None:
        raise ApiError(f"Product already exists: {product_id}", code="resource_already_exists", param="id")
    at = store.now()
    given.pop("id", None)
    return store.save(make("product", id=product_id, created=at, updated=at, **given))


def update_product(store: Store, given: Given, product_id: str) -> Object:
    product = store.get("product", product_id)
    product["metadata"].update(given.pop("metadata", {}))
    product.update(given, updated=store.now())
    return store.save(product)


def create_price(store: Store, given: Given) -> Object:
    store.get("product", given["product"])
    recurring = given.get("recurring", {})
    tiers = given.pop("tiers", None)
    if given.get("billing_scheme") == "tiered":
        if not tiers or "tiers_mode" not in given:
            raise ApiError("Missing required param: tiers.", code="parameter_missing", param="tiers")
        if tiers[-1]["up_to"] != "inf":
            raise ApiError("The last tier must have up_to=inf.", param="tiers")
    elif "unit_amount" not in given and "unit_amount_decimal" not in given:
        raise ApiError("Missing required param: unit_amount.", code="parameter_missing", param="unit_amount")
    if recurring.get("usage_type") == "metered":
        if "meter" not in recurring:
            raise ApiError(
                "Metered prices must be backed by meters.", code="parameter_missing", param="recurring[meter]"
            )
        store.get("billing.meter", recurring["meter"])
    lookup_key = given.get("lookup_key")
    if lookup_key is not None and any(price["lookup_key"] == lookup_key for price in store.all("price")):
        raise ApiError(f"A price already has the lookup key {lookup_key}.", param="lookup_key")
    given["recurring"] = {
        "interval": "month", "interval_count": 1, "meter": None, "usage_type": "licensed", "trial_period_days": None,
    } | recurring  # fmt: skip
    if "unit_amount" in given and "unit_amount_decimal" not in given:
        given["unit_amount_decimal"] = str(given["unit_amount"])
    price = make("price", id=new_id("price"), created=store.now(), **given)
    price[HIDDEN] = {"tiers": tiers or []}
    return store.save(price)


def update_price(store: Store, given: Given, price_id: str) -> Object:
    price = store.get("price", price_id)
    price["metadata"].update(given.pop("metadata", {}))
    price.update(given)
    return store.save(price)


def list_prices(store: Store, given: Given) -> Object:
    prices = store.all("price")
    if "lookup_keys" in given:
        prices = [price for price in prices if price["lookup_key"] in given["lookup_keys"]]
    if "active" in given:
        prices = [price for price in prices if price["active"] == given["active"]]
    if "product" in given:
        prices = [price for price in prices if price["product"] == given["product"]]
    return listed("/v1/prices", prices, given.get("limit", 10), given.get("starting_after"))


def create_meter(store: Store, given: Given) -> Object:
    if any(meter["event_name"] == given["event_name"] and meter["status"] == "active" for meter in _meters(store)):
        raise ApiError(f"An active meter with the event name {given['event_name']} exists.", param="event_name")
    at = store.now()
    return store.save(make("billing.meter", id=new_id("mtr"), created=at, updated=at, **given))


def list_meters(store: Store, given: Given) -> Object:
    meters = [meter for meter in _meters(store) if given.get("status") in (None, meter["status"])]
    return listed("/v1/billing/meters", meters, given.get("limit", 10), given.get("starting_after"))


def _meters(store: Store) -> list[Object]:
    return store.all("billing.meter")
