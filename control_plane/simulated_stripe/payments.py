"""Refunds, and disputes that a test or a person starts: enough for what a webhook tells about them."""

from typing import Any

from control_plane.simulated_stripe import webhooks
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import Store, listed, new_id

Given = dict[str, Any]
_DUE_S = 7 * 24 * 3600


def create_refund(store: Store, given: Given) -> Object:
    charge = store.get("charge", given["charge"])
    left = charge["amount"] - charge["amount_refunded"]
    amount = given.get("amount", left)
    if not 0 < amount <= left:
        raise ApiError(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    refund = make(
        "refund",
        id=new_id("re"),
        created=store.now(),
        amount=amount,
        charge=charge["id"],
        currency=charge["currency"],
        payment_intent=charge["payment_intent"],
        reason=given.get("reason"),
        metadata=given.get("metadata", {}),
    )
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    webhooks.record(store, "refund.created", store.save(refund))
    webhooks.record(store, "charge.refunded", store.save(charge))
    return refund


def create_dispute(store: Store, given: Given) -> Object:
    """Not in Stripe's API: cardholders do it."""
    charge = store.get("charge", given["charge"])
    dispute = make(
        "dispute",
        id=new_id("dp"),
        created=store.now(),
        amount=charge["amount"],
        charge=charge["id"],
        currency=charge["currency"],
        payment_intent=charge["payment_intent"],
        reason=given.get("reason", "general"),
    )
    dispute["evidence_details"]["due_by"] = store.now() + _DUE_S
    charge["disputed"] = True
    store.save(charge)
    webhooks.record(store, "charge.dispute.created", store.save(dispute))
    return dispute


def close_dispute(store: Store, given: Given, dispute_id: str) -> Object:
    dispute = store.get("dispute", dispute_id)
    dispute["status"] = given["status"]
    webhooks.record(store, "charge.dispute.closed", store.save(dispute))
    return dispute


def list_charges(store: Store, given: Given) -> Object:
    return listed("/v1/charges", store.all("charge", given.get("customer")), given.get("limit", 10))


def expanded(store: Store, body: Object, names: list[str]) -> Object:
    """``expand[]=charge`` puts the object where its id was."""
    for name in names:
        if name != "charge" or not isinstance(body.get("charge"), str):
            raise ApiError(f"This property cannot be expanded ({name}).", param="expand")
        body = {**body, "charge": store.get("charge", body["charge"])}
    return body
