"""Subscriptions: created by a completed checkout, changed with proration, renewed by the clock, cancelled.

The billing mode is "flexible": what a metered item has counted is invoiced when the item is removed.
"""

from typing import Any

from control_plane.simulated_stripe import invoices, schedules, webhooks
from control_plane.simulated_stripe.months import add_months_unix
from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.store import HIDDEN, Store, listed, new_id

Given = dict[str, Any]
_LIVE = ("active", "past_due", "trialing", "unpaid")


class Subscriptions:
    """``base_url``: of this server, for the pages that objects point to."""

    def __init__(self, store: Store, base_url: str) -> None:
        self._store = store
        self._base_url = base_url

    # -- made and read -----------------------------------------------------------------------------------------------

    def create(
        self, customer: Object, prices: list[tuple[Object, int | None]], metadata: Given, *, taxed: bool
    ) -> Object:
        """With its first invoice, which the card must pay."""
        at = self._store.now()
        subscription = make(
            "subscription",
            id=new_id("sub"),
            customer=customer["id"],
            created=at,
            start_date=at,
            billing_cycle_anchor=at,
            currency=prices[0][0]["currency"],
            metadata=metadata,
            billing_mode={"type": "flexible", "flexible": None, "updated_at": at},
        )
        subscription["automatic_tax"]["enabled"] = taxed
        items = [_item(subscription, price, quantity, at, add_months_unix(at, 1), at) for price, quantity in prices]
        subscription["items"] = listed(f"/v1/subscription_items?subscription={subscription['id']}", items, 100)
        lines = [_first_line(subscription, item) for item in items]
        invoice = invoices.draw_up(self._store, subscription, lines, "subscription_create")
        subscription["latest_invoice"] = invoice["id"]
        self._store.save(subscription)
        if not invoices.settle(self._store, invoice, self._base_url):
            raise ApiError("Your card was declined.", status=402, kind="card_error", code="card_declined")
        webhooks.record(self._store, "customer.subscription.created", subscription)
        return subscription

    def get(self, given: Given, subscription_id: str) -> Object:
        return self._store.get("subscription", subscription_id)

    def list_all(self, given: Given) -> Object:
        found = self._store.all("subscription", given.get("customer"))
        status = given.get("status")
        if status not in (None, "all"):
            found = [each for each in found if each["status"] == status]
        elif status is None:
            found = [each for each in found if each["status"] != "canceled"]
        return listed("/v1/subscriptions", found, given.get("limit", 10), given.get("starting_after"))

    # -- changed -----------------------------------------------------------------------------------------------------

    def update(self, given: Given, subscription_id: str) -> Object:
        subscription = self._require_live(subscription_id)
        if "metadata" in given:
            subscription["metadata"].update(given["metadata"])
        if "cancel_at_period_end" in given:
            if subscription["schedule"] is not None:
                raise ApiError(
                    f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
                    "updating any cancelation behavior directly is not allowed. Please update the schedule instead."
                )
            wanted = given["cancel_at_period_end"]
            subscription["cancel_at_period_end"] = wanted
            subscription["cancel_at"] = _period(subscription)[1] if wanted else None
            subscription["canceled_at"] = self._store.now() if wanted else None
        if "items" in given:
            self._change(subscription, given)
        webhooks.record(self._store, "customer.subscription.updated", self._store.save(subscription))
        return subscription

    def _change(self, subscription: Object, given: Given) -> None:
        at = given.get("proration_date", self._store.now())
        items, lines = self._changed(subscription, given["items"], at)
        if given.get("proration_behavior") == "always_invoice" and lines:
            invoice = invoices.draw_up(self._store, subscription, lines, "subscription_update")
            pays = self._store.get("customer", subscription["customer"])[HIDDEN]["pays"]
            if invoice["amount_due"] and not pays and given.get("payment_behavior") == "error_if_incomplete":
                raise ApiError("Your card was declined.", status=402, kind="card_error", code="card_declined")
            subscription["latest_invoice"] = invoice["id"]
            invoices.settle(self._store, invoice, self._base_url)
        subscription["items"]["data"] = items

    def _changed(self, subscription: Object, changes: list[Given], at: int) -> tuple[list[Object], list[Object]]:
        """→ the items as they will be, and the lines that the change costs or gives back."""
        start, end = _period(subscription)
        left_s, whole_s = max(end - at, 0), end - start
        items = {item["id"]: item for item in subscription["items"]["data"]}
        lines: list[Object] = []
        for change in changes:
            old = items.get(change["id"]) if "id" in change else None
            if "id" in change and old is None:
                raise ApiError(f"No such subscription item: '{change['id']}'", param="items", code="resource_missing")
            if old is not None:
                lines += self._ending_lines(subscription, old, at, end, left_s, whole_s)
                del items[old["id"]]
            if change.get("deleted"):
                continue
            price_id = change.get("price") or (old and old["price"]["id"])
            if price_id is None:
                raise ApiError("Missing required param: items[0][price].", code="parameter_missing", param="items")
            price = self._store.get("price", price_id)
            quantity = change.get("quantity", old["quantity"] if old is not None else 1)
            item = _item(subscription, price, None if _is_metered(price) else quantity, start, end, at)
            if old is not None:
                item["id"] = old["id"]
            items[item["id"]] = item
            if not _is_metered(price):
                amount = invoices.prorated(invoices.amount_of(price, quantity), left_s, whole_s)
                text = f"Remaining time on {quantity} × {price['nickname']}"
                lines.append(invoices.line(subscription, item, amount, text, at, end, quantity, proration=True))
        if not any(not _is_metered(item["price"]) for item in items.values()):
            raise ApiError("A subscription must have at least one licensed item.", param="items")
        return list(items.values()), lines

    def _ending_lines(
        self, subscription: Object, old: Object, at: int, end: int, left_s: int, whole_s: int
    ) -> list[Object]:
        if _is_metered(old["price"]):
            return [invoices.metered_line(self._store, subscription, old, at)]
        amount = -invoices.prorated(invoices.amount_of(old["price"], old["quantity"]), left_s, whole_s)
        text = f"Unused time on {old['quantity']} × {old['price']['nickname']}"
        return [invoices.line(subscription, old, amount, text, at, end, old["quantity"], proration=True)]

    # -- ended -------------------------------------------------------------------------------------------------------

    def cancel(self, given: Given, subscription_id: str) -> Object:
        subscription = self._require_live(subscription_id)
        at = self._store.now()
        lines: list[Object] = []
        start, end = _period(subscription)
        for item in subscription["items"]["data"]:
            if _is_metered(item["price"]):
                if given.get("invoice_now"):
                    lines.append(invoices.metered_line(self._store, subscription, item, at))
            elif given.get("prorate"):
                lines += self._ending_lines(subscription, item, at, end, max(end - at, 0), end - start)
        self._end(subscription, lines)
        return subscription

    def _end(self, subscription: Object, lines: list[Object]) -> None:
        at = self._store.now()
        if subscription["schedule"] is not None:
            schedules.end(self._store, self._store.get("subscription_schedule", subscription["schedule"]), "canceled")
            subscription["schedule"] = None
        if lines:
            invoice = invoices.draw_up(self._store, subscription, lines, "subscription_cycle")
            subscription["latest_invoice"] = invoice["id"]
            invoices.settle(self._store, invoice, self._base_url)
        subscription["status"], subscription["ended_at"] = "canceled", at
        subscription["canceled_at"] = subscription["canceled_at"] or at
        webhooks.record(self._store, "customer.subscription.deleted", self._store.save(subscription))

    # -- the clock ---------------------------------------------------------------------------------------------------

    def renew_due(self) -> None:
        at = self._store.now()
        for subscription in self._store.all("subscription"):
            while subscription["status"] in _LIVE and _period(subscription)[1] <= at:
                self._renew(subscription)

    def _renew(self, subscription: Object) -> None:
        _, start = _period(subscription)
        metered = [
            invoices.metered_line(self._store, subscription, item, start)
            for item in subscription["items"]["data"]
            if _is_metered(item["price"])
        ]
        if subscription["cancel_at_period_end"]:
            self._end(subscription, metered)
            return
        anchor = subscription["billing_cycle_anchor"]
        months = next(count for count in range(1, 10_000) if add_months_unix(anchor, count) > start)
        end = add_months_unix(anchor, months)
        self._become_planned(subscription, start, end)
        for item in subscription["items"]["data"]:
            item["current_period_start"], item["current_period_end"] = start, end
            item[HIDDEN]["usage_from"] = start
        licensed = [
            invoices.licensed_line(subscription, item, start, end)
            for item in subscription["items"]["data"]
            if not _is_metered(item["price"])
        ]
        invoice = invoices.draw_up(self._store, subscription, metered + licensed, "subscription_cycle")
        subscription["latest_invoice"] = invoice["id"]
        paid = invoices.settle(self._store, invoice, self._base_url)
        subscription["status"] = "active" if paid and subscription["status"] == "active" else "past_due"
        webhooks.record(self._store, "customer.subscription.updated", self._store.save(subscription))

    def _become_planned(self, subscription: Object, start: int, end: int) -> None:
        """What the schedule says of the month that begins; there is no more to it, so it is released."""
        planned = schedules.planned_items(self._store, subscription)
        if planned is None:
            return
        held = {item["price"]["id"]: item for item in subscription["items"]["data"]}
        items = []
        for price, quantity in planned:
            item = held.get(price["id"]) or _item(subscription, price, quantity, start, end, start)
            item["quantity"] = quantity
            items.append(item)
        subscription["items"]["data"] = items
        schedules.end(self._store, self._store.get("subscription_schedule", subscription["schedule"]), "released")
        subscription["schedule"] = None

    def pay(self, given: Given, invoice_id: str) -> Object:
        """An open invoice, once more. When none is open any more, the subscription is active again."""
        invoice = invoices.require_open(self._store, invoice_id)
        if not invoices.attempt(self._store, invoice):
            raise ApiError("Your card was declined.", status=402, kind="card_error", code="card_declined")
        subscription = self._store.get("subscription", invoices.subscription_of(invoice))
        still_open = any(
            each["status"] == "open" and invoices.subscription_of(each) == subscription["id"]
            for each in self._store.all("invoice", invoice["customer"])
        )
        if subscription["status"] in ("past_due", "unpaid") and not still_open:
            subscription["status"] = "active"
            webhooks.record(self._store, "customer.subscription.updated", self._store.save(subscription))
        return invoice

    def give_up(self, subscription_id: str) -> Object:
        """Not in Stripe's API: what its settings say of a subscription whose retries have ended, "mark as unpaid"."""
        subscription = self._require_live(subscription_id)
        if subscription["status"] != "past_due":
            raise ApiError(f"The subscription {subscription_id} is {subscription['status']}, not past_due.")
        subscription["status"] = "unpaid"
        webhooks.record(self._store, "customer.subscription.updated", self._store.save(subscription))
        return subscription

    # -- previews ----------------------------------------------------------------------------------------------------

    def preview(self, given: Given) -> Object:
        """What the change that is asked for would cost now; without one, the next invoice as it stands."""
        if "subscription" not in given:
            return self._preview_new(given)
        subscription = self._require_live(given["subscription"])
        details = given.get("subscription_details", {})
        if "items" in details:
            _, lines = self._changed(subscription, details["items"], details.get("proration_date", self._store.now()))
            return invoices.draw_up(self._store, subscription, lines, "upcoming", preview=True)
        _, end = _period(subscription)
        lines = []
        for item in subscription["items"]["data"]:
            if _is_metered(item["price"]):
                lines.append(invoices.metered_line(self._store, subscription, item, end))
        if not subscription["cancel_at_period_end"]:
            held = [(item["price"], item["quantity"]) for item in subscription["items"]["data"]]
            for price, quantity in schedules.planned_items(self._store, subscription) or held:
                if not _is_metered(price):
                    item = _item(subscription, price, quantity, end, add_months_unix(end, 1), end)
                    lines.append(invoices.licensed_line(subscription, item, end, add_months_unix(end, 1)))
        return invoices.draw_up(self._store, subscription, lines, "upcoming", preview=True)

    def _preview_new(self, given: Given) -> Object:
        changes = given.get("subscription_details", {}).get("items")
        if not changes:
            raise ApiError("Missing required param: subscription.", code="parameter_missing", param="subscription")
        customer = self._store.get("customer", given.get("customer", ""))
        at = self._store.now()
        prices = [(self._store.get("price", change["price"]), change.get("quantity", 1)) for change in changes]
        subscription = make(
            "subscription", id="sub_preview", customer=customer["id"], currency=prices[0][0]["currency"]
        )
        items = [_item(subscription, price, quantity, at, add_months_unix(at, 1), at) for price, quantity in prices]
        lines = [_first_line(subscription, item) for item in items]
        return invoices.draw_up(self._store, subscription, lines, "upcoming", preview=True)

    def _require_live(self, subscription_id: str) -> Object:
        subscription = self._store.get("subscription", subscription_id)
        if subscription["status"] not in _LIVE:
            raise ApiError(f"The subscription {subscription_id} is {subscription['status']}.", code="resource_missing")
        return subscription


def _item(
    subscription: Object, price: Object, quantity: int | None, start: int, end: int, usage_from: int
) -> Object:  # fmt: skip
    item = make(
        "subscription_item",
        id=new_id("si"),
        created=usage_from,
        price=price,
        quantity=quantity,
        subscription=subscription["id"],
        current_period_start=start,
        current_period_end=end,
    )
    item[HIDDEN] = {"usage_from": usage_from}
    return item


def _first_line(subscription: Object, item: Object) -> Object:
    start, end = item["current_period_start"], item["current_period_end"]
    if _is_metered(item["price"]):
        return invoices.line(subscription, item, 0, f"0 × {item['price']['nickname']}", start, end, 0)
    return invoices.licensed_line(subscription, item, start, end)


def _period(subscription: Object) -> tuple[int, int]:
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def _is_metered(price: Object) -> bool:
    return bool(price["recurring"]["usage_type"] == "metered")
