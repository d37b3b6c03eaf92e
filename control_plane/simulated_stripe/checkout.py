"""Checkout sessions and portal sessions: the objects, and what pressing a button on their simulated pages does."""

from typing import Any

from control_plane.simulated_stripe import webhooks
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import HIDDEN, Store, new_id
from control_plane.simulated_stripe.subscriptions import Subscriptions

Given = dict[str, Any]
_LIFE_S = 24 * 3600


class Checkout:
    def __init__(self, store: Store, subscriptions: Subscriptions, base_url: str) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._base_url = base_url

    def create(self, given: Given) -> Object:
        store, at = self._store, self._store.now()
        customer = store.get("customer", given["customer"])
        lines = []
        for line in given["line_items"]:
            price = store.get("price", line["price"])
            metered = price["recurring"]["usage_type"] == "metered"
            if metered and "quantity" in line:
                raise ApiError(
                    f"Quantity should not be specified for the metered price {price['id']}.", param="line_items"
                )
            if not metered and "quantity" not in line:
                raise ApiError("Missing required param: line_items[0][quantity].", code="parameter_missing")
            lines.append((price, line.get("quantity")))
        total = sum(price["unit_amount"] * quantity for price, quantity in lines if quantity is not None)
        session_id = new_id("cs_test_simulated")
        expires_at = given.get("expires_at", at + _LIFE_S)
        session = make(
            "checkout.session",
            id=session_id,
            created=at,
            expires_at=expires_at,
            customer=customer["id"],
            currency=lines[0][0]["currency"],
            amount_subtotal=total,
            amount_total=total,
            success_url=given["success_url"],
            cancel_url=given.get("cancel_url"),
            client_reference_id=given.get("client_reference_id"),
            metadata=given.get("metadata", {}),
            url=f"{self._base_url}/pay/{session_id}",
        )
        session["automatic_tax"]["enabled"] = given.get("automatic_tax", {}).get("enabled", False)
        session[HIDDEN] = {
            "lines": [[price["id"], quantity] for price, quantity in lines],
            "metadata": given.get("subscription_data", {}).get("metadata", {}),
        }
        return store.save(session)

    def get(self, given: Given, session_id: str) -> Object:
        return self._store.get("checkout.session", session_id)

    def expire(self, given: Given, session_id: str) -> Object:
        session = self._store.get("checkout.session", session_id)
        if session["status"] != "open":
            raise ApiError(f"Only open sessions can be expired; this one is {session['status']}.")
        session["status"], session["url"] = "expired", None
        webhooks.record(self._store, "checkout.session.expired", self._store.save(session))
        return session

    def expire_due(self) -> None:
        at = self._store.now()
        for session in self._store.all("checkout.session"):
            if session["status"] == "open" and session["expires_at"] <= at:
                self.expire({}, session["id"])

    def pay(self, session_id: str, *, card_works: bool) -> Object:
        """The button. Pressing it twice buys once."""
        store = self._store
        session = store.get("checkout.session", session_id)
        if session["status"] == "complete":
            return session
        if session["status"] != "open":
            raise ApiError("This checkout has expired; begin again.")
        if not card_works:
            raise ApiError("Your card was declined.", status=402, kind="card_error", code="card_declined")
        customer = store.get("customer", session["customer"])
        customer[HIDDEN]["pays"] = True
        store.save(customer)
        prices = [(store.get("price", price_id), quantity) for price_id, quantity in session[HIDDEN]["lines"]]
        taxed = session["automatic_tax"]["enabled"]
        subscription = self._subscriptions.create(customer, prices, session[HIDDEN]["metadata"], taxed=taxed)
        session["status"], session["payment_status"], session["url"] = "complete", "paid", None
        session["subscription"], session["invoice"] = subscription["id"], subscription["latest_invoice"]
        webhooks.record(store, "checkout.session.completed", store.save(session))
        return session

    def create_portal(self, given: Given) -> Object:
        customer = self._store.get("customer", given["customer"])
        portal_id = new_id("bps_simulated")
        return self._store.save(
            make(
                "billing_portal.session",
                id=portal_id,
                created=self._store.now(),
                customer=customer["id"],
                return_url=given.get("return_url"),
                url=f"{self._base_url}/portal/{portal_id}",
            )
        )
