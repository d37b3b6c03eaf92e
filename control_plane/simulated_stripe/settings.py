"""The two secrets that the simulated Stripe shares with the control plane; they come in the environment alone."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secrets:
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


def secrets_of_environment() -> Secrets:
    """Raises SystemExit with what is missing."""
    found = {name: os.environ.get(name, "") for name in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET")}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise SystemExit(f"simulated Stripe: set {' and '.join(missing)}")
    return Secrets(found["STRIPE_API_KEY"], found["STRIPE_WEBHOOK_SECRET"])
