"""What goes wrong at Stripe, as a problem for our caller. ``purchasing`` and ``planning`` put it around each call."""

from collections.abc import Awaitable

from control_plane.billing.stripe_client import StripeAway, StripeRefused
from control_plane.problems import Problem


async def asking[Answer](call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except StripeAway as error:
        raise away(error) from None
    except StripeRefused as error:
        if error.declined:
            raise Problem(
                "payment-failed", f"The payment failed: {error}. Nothing was changed; another payment method helps."
            ) from None
        raise Problem("conflict", f"Stripe refused: {error}") from None


def away(error: StripeAway) -> Problem:
    return Problem(
        "payment-provider-away",
        "The payment provider does not answer; nothing is lost, try again in a moment.",
        headers={"Retry-After": "5"},
        reason=str(error)[:200],
    )
