"""Invoices: lines from the items of a subscription, totals in whole minor units, payment by the simulated card.

``draw_up`` makes one (or a preview of one); ``settle`` finalises and charges it. Rounding happens here and nowhere
else: each line is rounded half up to a minor unit.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from control_plane.simulated_stripe import meters, webhooks
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import HIDDEN, Store, listed, new_id


def amount_of(price: Object, quantity: int) -> int:
    """Minor units of ``quantity`` pieces; graduated tiers if the price has them."""
    tiers = price[HIDDEN]["tiers"]
    if not tiers:
        return _rounded(Decimal(price["unit_amount_decimal"]) * quantity)
    total, below = Decimal(0), 0
    for tier in tiers:
        upper = quantity if tier["up_to"] == "inf" else min(quantity, int(tier["up_to"]))
        unit = Decimal(tier.get("unit_amount_decimal") or tier.get("unit_amount") or 0)
        total += unit * max(upper - below, 0)
        below = max(upper, below)
    return _rounded(total)


def prorated(amount: int, left_s: int, whole_s: int) -> int:
    return _rounded(Decimal(amount) * left_s / whole_s)


def licensed_line(subscription: Object, item: Object, start: int, end: int) -> Object:
    price = item["price"]
    amount = amount_of(price, item["quantity"])
    text = f"{item['quantity']} × {price['nickname']}"
    return line(subscription, item, amount, text, start, end, item["quantity"])


def metered_line(store: Store, subscription: Object, item: Object, end: int) -> Object:
    """Usage since the item began to count, or since the month did."""
    price, start = item["price"], item[HIDDEN]["usage_from"]
    used = meters.usage(store, price["recurring"]["meter"], subscription["customer"], start, end)
    return line(subscription, item, amount_of(price, used), f"{used:,} × {price['nickname']}", start, end, used)


def line(
    subscription: Object, item: Object, amount: int, text: str, start: int, end: int, quantity: int | None,
    *, proration: bool = False,
) -> Object:  # fmt: skip
    price = item["price"]
    details = {
        "invoice_item": None,
        "proration": proration,
        "proration_details": {"credited_items": None},
        "subscription": subscription["id"],
        "subscription_item": item["id"],
    }
    return make(
        "line_item",
        id=new_id("il"),
        amount=amount,
        subtotal=amount,
        currency=price["currency"],
        description=text,
        period={"start": start, "end": end},
        quantity=quantity,
        subscription=subscription["id"],
        parent={
            "type": "subscription_item_details",
            "subscription_item_details": details,
            "invoice_item_details": None,
        },
        pricing={
            "type": "price_details",
            "price_details": {"price": price["id"], "product": price["product"]},
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
    )


def draw_up(
    store: Store, subscription: Object, lines: Iterable[Object], reason: str, *, preview: bool = False
) -> Object:
    customer = store.get("customer", subscription["customer"])
    lines, at = list(lines), store.now()
    total = sum(each["amount"] for each in lines)
    credit = min(-customer["balance"], max(total, 0))
    invoice_id = new_id("upcoming_in" if preview else "in")
    for each in lines:
        each["invoice"] = invoice_id
    taxed = subscription["automatic_tax"]["enabled"]
    return make(
        "invoice",
        id=invoice_id,
        created=at,
        currency=subscription["currency"],
        customer=customer["id"],
        customer_email=customer["email"],
        customer_name=customer["name"],
        billing_reason=reason,
        status="draft",
        lines={"object": "list", "data": lines, "has_more": False, "url": f"/v1/invoices/{invoice_id}/lines"},
        period_start=min((each["period"]["start"] for each in lines), default=at),
        period_end=max((each["period"]["end"] for each in lines), default=at),
        subtotal=total,
        subtotal_excluding_tax=total,
        total=total,
        total_excluding_tax=total,
        starting_balance=customer["balance"],
        amount_due=max(total - credit, 0),
        amount_remaining=max(total - credit, 0),
        automatic_tax={
            "enabled": taxed, "liability": None, "status": "complete" if taxed else None, "disabled_reason": None,
            "provider": None,
        },
        parent={
            "type": "subscription_details",
            "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
            "quote_details": None,
        },
    )  # fmt: skip


def settle(store: Store, invoice: Object, base_url: str) -> bool:
    """Finalise and charge. False: the card declined, the invoice stays open."""
    customer = store.get("customer", invoice["customer"])
    at = store.now()
    invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
    customer["next_invoice_sequence"] += 1
    # A negative total becomes credit; credit pays for what comes later.
    customer["balance"] += min(invoice["total"], 0) + max(invoice["total"] - invoice["amount_due"], 0)
    invoice["ending_balance"] = customer["balance"]
    store.save(customer)
    invoice["status"], invoice["effective_at"] = "open", at
    invoice["status_transitions"]["finalized_at"] = at
    invoice["hosted_invoice_url"] = f"{base_url}/invoice/{invoice['id']}"
    invoice["invoice_pdf"] = f"{invoice['hosted_invoice_url']}/pdf"
    webhooks.record(store, "invoice.created", store.save(invoice))
    webhooks.record(store, "invoice.finalized", invoice)
    return attempt(store, invoice)


def attempt(store: Store, invoice: Object) -> bool:
    """Charge what is due."""
    customer = store.get("customer", invoice["customer"])
    invoice["attempted"], invoice["attempt_count"] = True, invoice["attempt_count"] + 1
    if invoice["amount_due"] and not customer[HIDDEN]["pays"]:
        webhooks.record(store, "invoice.payment_failed", store.save(invoice))
        return False
    if invoice["amount_due"]:
        invoice[HIDDEN] = {"charge": _charge(store, invoice)["id"]}
    invoice["status"], invoice["amount_paid"], invoice["amount_remaining"] = "paid", invoice["amount_due"], 0
    invoice["status_transitions"]["paid_at"] = store.now()
    webhooks.record(store, "invoice.paid", store.save(invoice))
    return True


def list_invoices(store: Store, given: dict[str, Any]) -> Object:
    found = store.all("invoice", given.get("customer"))
    if "status" in given:
        found = [invoice for invoice in found if invoice["status"] == given["status"]]
    if "subscription" in given:
        found = [invoice for invoice in found if subscription_of(invoice) == given["subscription"]]
    return listed("/v1/invoices", found, given.get("limit", 10), given.get("starting_after"))


def subscription_of(invoice: Object) -> str:
    return str(invoice["parent"]["subscription_details"]["subscription"])


def require_open(store: Store, invoice_id: str) -> Object:
    invoice = store.get("invoice", invoice_id)
    if invoice["status"] != "open":
        raise ApiError(f"Invoice is {invoice['status']}; only open ones can be paid.", code="invoice_not_open")
    return invoice


def _charge(store: Store, invoice: Object) -> Object:
    charge = make(
        "charge",
        id=new_id("ch"),
        created=store.now(),
        amount=invoice["amount_due"],
        amount_captured=invoice["amount_due"],
        currency=invoice["currency"],
        customer=invoice["customer"],
        payment_intent=new_id("pi"),
        description=f"Invoice {invoice['number']} (simulated)",
    )
    return store.save(charge)


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))
