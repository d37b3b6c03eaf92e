"""Speaks to Stripe: the only module that imports ``stripe``. Plain dictionaries come back.

Made once by ``app`` when there is a key, used by everything in ``billing``. Calls that make something carry an
idempotency key of the caller's, so that a repetition after a crash makes it once. Errors are two: ``StripeAway`` (try
again later; whether it was done is not known) and ``StripeRefused`` (it was not done, and why).

The import is delayed to the first use: a control plane without a key never pays for it.
"""

import json
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import stripe

Object = dict[str, Any]
Params = Mapping[str, Any]
_TIMEOUT_S: Final = 20
_RETRIES_MAX: Final = 2
_PAGE: Final = 100
_PAGES_MAX: Final = 1000


class StripeAway(Exception):  # noqa: N818 - what happened
    """No answer, or one that says "later"."""


class StripeRefused(Exception):  # noqa: N818
    def __init__(self, message: str, *, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def declined(self) -> bool:
        return self.code in ("card_declined", "payment_intent_authentication_failure") or self.status == 402

    @property
    def missing(self) -> bool:
        return self.status == 404

    @property
    def duplicate(self) -> bool:
        """A meter event with this identifier is there already."""
        return self.code == "resource_already_exists" or "already exists with identifier" in str(self)


class SignatureInvalid(Exception):  # noqa: N818
    """The webhook is not Stripe's, or not of now."""


class StripeClient:
    def __init__(self, api_key: str, base_url: str = "") -> None:
        import stripe

        self._stripe = stripe
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": base_url} if base_url else {},
            http_client=stripe.HTTPXClient(timeout=_TIMEOUT_S),
            max_network_retries=_RETRIES_MAX,
        )

    # -- customers, the catalogue ------------------------------------------------------------------------------------

    async def create_customer(self, params: Any, key: str) -> Object:
        return await self._do(self._client.v1.customers.create_async(params, {"idempotency_key": key}))

    async def create_product(self, params: Any) -> Object:
        return await self._do(self._client.v1.products.create_async(params))

    async def retrieve_product(self, product_id: str) -> Object:
        return await self._do(self._client.v1.products.retrieve_async(product_id))

    async def create_price(self, params: Any, key: str) -> Object:
        return await self._do(self._client.v1.prices.create_async(params, {"idempotency_key": key}))

    async def find_price(self, lookup_key: str) -> Object | None:
        found = await self._do(self._client.v1.prices.list_async({"lookup_keys": [lookup_key], "limit": 1}))
        return found["data"][0] if found["data"] else None

    async def create_meter(self, params: Any) -> Object:
        return await self._do(self._client.v1.billing.meters.create_async(params))

    async def list_meters(self) -> list[Object]:
        found = await self._do(self._client.v1.billing.meters.list_async({"status": "active", "limit": _PAGE}))
        return list(found["data"])

    # -- buying ------------------------------------------------------------------------------------------------------

    async def create_checkout(self, params: Any, key: str) -> Object:
        return await self._do(self._client.v1.checkout.sessions.create_async(params, {"idempotency_key": key}))

    async def retrieve_checkout(self, session_id: str) -> Object:
        return await self._do(self._client.v1.checkout.sessions.retrieve_async(session_id))

    async def expire_checkout(self, session_id: str) -> Object:
        return await self._do(self._client.v1.checkout.sessions.expire_async(session_id))

    async def create_portal(self, params: Any) -> Object:
        return await self._do(self._client.v1.billing_portal.sessions.create_async(params))

    async def list_subscriptions(self, customer_id: str) -> list[Object]:
        """All of the customer's, ended ones too."""
        found: list[Object] = []
        params: dict[str, Any] = {"customer": customer_id, "status": "all", "limit": _PAGE}
        for _ in range(_PAGES_MAX):
            page = await self._do(self._client.v1.subscriptions.list_async(params))  # type: ignore[arg-type]
            found += page["data"]
            if not page["has_more"]:
                break
            params["starting_after"] = page["data"][-1]["id"]
        return found

    async def update_subscription(self, subscription_id: str, params: Any, key: str) -> Object:
        call = self._client.v1.subscriptions.update_async(subscription_id, params, {"idempotency_key": key})
        return await self._do(call)

    async def cancel_subscription(self, subscription_id: str, params: Any) -> Object:
        return await self._do(self._client.v1.subscriptions.cancel_async(subscription_id, params))

    # -- what a subscription becomes at the end of its month ---------------------------------------------------------

    async def create_schedule(self, subscription_id: str) -> Object:
        call = self._client.v1.subscription_schedules.create_async({"from_subscription": subscription_id})
        return await self._do(call)

    async def retrieve_schedule(self, schedule_id: str) -> Object:
        return await self._do(self._client.v1.subscription_schedules.retrieve_async(schedule_id))

    async def update_schedule(self, schedule_id: str, params: Any) -> Object:
        return await self._do(self._client.v1.subscription_schedules.update_async(schedule_id, params))

    async def release_schedule(self, schedule_id: str) -> Object:
        return await self._do(self._client.v1.subscription_schedules.release_async(schedule_id))

    # -- invoices, refunds, disputes ---------------------------------------------------------------------------------

    async def list_invoices(self, customer_id: str, status: str | None = None) -> list[Object]:
        found: list[Object] = []
        params: dict[str, Any] = {"customer": customer_id, "limit": _PAGE} | ({"status": status} if status else {})
        for _ in range(_PAGES_MAX):
            page = await self._do(self._client.v1.invoices.list_async(params))  # type: ignore[arg-type]
            found += page["data"]
            if not page["has_more"]:
                break
            params["starting_after"] = page["data"][-1]["id"]
        return found

    async def retrieve_invoice(self, invoice_id: str) -> Object:
        return await self._do(self._client.v1.invoices.retrieve_async(invoice_id))

    async def preview_invoice(self, params: Any) -> Object:
        return await self._do(self._client.v1.invoices.create_preview_async(params))

    async def retrieve_refund(self, refund_id: str) -> Object:
        return await self._do(self._client.v1.refunds.retrieve_async(refund_id, {"expand": ["charge"]}))

    async def retrieve_dispute(self, dispute_id: str) -> Object:
        return await self._do(self._client.v1.disputes.retrieve_async(dispute_id, {"expand": ["charge"]}))

    # -- usage -------------------------------------------------------------------------------------------------------

    async def send_meter_event(self, params: Any) -> Object:
        return await self._do(self._client.v1.billing.meter_events.create_async(params))

    async def meter_total(self, meter_id: str, customer_id: str, start_s: int, end_s: int) -> int:
        """What Stripe counts in the range; both ends on the hour."""
        total = 0
        params: dict[str, Any] = {
            "customer": customer_id, "start_time": start_s, "end_time": end_s, "value_grouping_window": "hour",
            "limit": _PAGE,
        }  # fmt: skip
        for _ in range(_PAGES_MAX):
            call = self._client.v1.billing.meters.event_summaries.list_async(meter_id, params)  # type: ignore[arg-type]
            page = await self._do(call)
            total += sum(int(summary["aggregated_value"]) for summary in page["data"])
            if not page["has_more"]:
                break
            params["starting_after"] = page["data"][-1]["id"]
        return total

    async def _do(self, call: "Awaitable[stripe.StripeObject | Any]") -> Object:
        try:
            answer = await call
        except (self._stripe.APIConnectionError, self._stripe.RateLimitError) as error:
            raise StripeAway(str(error)) from error
        except self._stripe.StripeError as error:
            status = error.http_status or 0
            if status >= 500 or status == 409:
                raise StripeAway(str(error)) from error
            raise StripeRefused(str(error.user_message or error), status=status, code=error.code) from error
        found: Object = answer.to_dict(for_json=True)
        return found


def verify_webhook(body: bytes, signature: str | None, secret: str, tolerance_s: int) -> Object:
    """→ the event. The SDK refuses old time stamps; those of the future are refused here."""
    import stripe

    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, tolerance_s)
        stamps = [part[2:] for part in (signature or "").split(",") if part.startswith("t=")]
        if any(int(stamp) > time.time() + tolerance_s for stamp in stamps):
            raise SignatureInvalid("the time stamp lies in the future")
        event = json.loads(body)
    except (stripe.SignatureVerificationError, ValueError) as error:
        raise SignatureInvalid(str(error).split("\n")[0]) from None
    if not isinstance(event, dict) or event.get("object") != "event":
        raise SignatureInvalid("the body is no event")
    return event
