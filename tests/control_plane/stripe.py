"""The simulated Stripe as a process of its own, and a control plane that buys there."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.control_plane.running import PATIENCE_S, ControlPlane, Tenant, eventually

API_KEY = "sk_test_simulated_for_tests"
WEBHOOK_SECRET = "whsec_simulated_for_tests"


class SimulatedStripe:
    def __init__(self, folder: Path, webhook_url: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._webhook_url = webhook_url
        self.file = folder / "stripe.sqlite"
        self.port = 0
        self.start()

    def start(self) -> None:
        log_path = self._folder / "stripe.log"
        begin = log_path.stat().st_size if log_path.exists() else 0
        arguments = ("--port", str(self.port), "--file", str(self.file))
        env = {**os.environ, "STRIPE_API_KEY": API_KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "control_plane.simulated_stripe",
                    *arguments,
                    "--webhook-url",
                    self._webhook_url,
                ],
                env=env,
                stderr=log,
            )

        def listening() -> str:
            assert self.process.poll() is None, log_path.read_text()
            for line in log_path.read_bytes()[begin:].splitlines():
                if b'"listening"' in line:
                    return str(json.loads(line)["url"])
            return ""

        self.url = eventually(listening)
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=PATIENCE_S, trust_env=False
        )

    def kill(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def post(self, path: str, **form: Any) -> dict[str, Any]:
        answer = self.http.post(path, data=form)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def press(self, url: str, action: str, subject: str = "") -> httpx.Response:
        """A button on one of its pages; the redirect is not followed."""
        return httpx.post(url, data={"action": action, "subject": subject}, timeout=PATIENCE_S, trust_env=False)

    def advance(self, days: float) -> None:
        self.post("/simulator/advance", seconds=int(days * 86_400))


class Shop:
    """A control plane that sells, with a Stripe that it sells through."""

    def __init__(self, folder: Path, redis_url: str = "", **settings: object) -> None:
        self._database_url = str(settings.get("DATABASE_URL", ""))
        # The control plane needs Stripe's address and Stripe the control plane's: the port is fixed first.
        self.port = free_port()
        self.stripe = SimulatedStripe(folder / "stripe", f"http://127.0.0.1:{self.port}/webhooks/stripe")
        self.control_plane = ControlPlane(
            folder / "var",
            redis_url,
            TAILCUT_CONTROL_PLANE_PORT=self.port,
            STRIPE_API_KEY=API_KEY,
            STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
            TAILCUT_STRIPE_URL=self.stripe.url,
            TAILCUT_STRIPE_SIMULATED="true",
            TAILCUT_BILLING_INTERVAL="PT0.2S",
            TAILCUT_DUNNING_INTERVAL="PT0.5S",
            TAILCUT_USAGE_HOUR_GRACE="PT0S",
            **settings,
        )
        eventually(self._has_prices)

    def _has_prices(self) -> bool:
        """Two tiers with a price and three meters each, and two add-ons."""
        return self.sql("SELECT count(*) FROM stripe_objects WHERE kind = 'price'") == [(2 * 4 + 2,)]

    def stop(self) -> None:
        if self.control_plane.process.poll() is None:
            self.control_plane.kill()
        if self.stripe.process.poll() is None:
            self.stripe.kill()

    def buy(self, tenant: Tenant, tier: str, **add_ons: int) -> dict[str, Any]:
        """The offer, without paying."""
        body = {"tier": tier, "add_ons": {name.replace("_", "-"): quantity for name, quantity in add_ons.items()}}

        def offered() -> dict[str, Any]:
            answer = tenant.http.post("/v1/subscription/checkout", json=body)
            # Its prices are made in Stripe just after the start.
            assert answer.status_code == 200, answer.text
            offer: dict[str, Any] = answer.json()
            return offer

        return eventually(offered)

    def purchase(self, tenant: Tenant, tier: str, **add_ons: int) -> dict[str, Any]:
        """Bought, paid, and in force."""
        offer = self.buy(tenant, tier, **add_ons)
        if offer["kind"] == "checkout":
            paid = self.stripe.press(offer["url"], "pay")
            assert paid.status_code == 303, paid.text
        return self.wait(tenant, lambda held: held["tier"] == tier)

    def wait(self, tenant: Tenant, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            held: dict[str, Any] = tenant.http.get("/v1/subscription").json()
            assert condition(held), held
            return held

        found = eventually(look)
        assert found is not None
        return found

    def customer(self, tenant: Tenant) -> str:
        [row] = self.sql("SELECT stripe_customer_id FROM subscriptions WHERE tenant_id = ?", tenant.id)
        return str(row[0])

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Reads (or prepares) the database beside the running server; ``?`` stands for a value in both dialects."""
        import sqlite3

        if self._database_url:
            return asyncio.run(ask_postgres(self._database_url, query, values))
        with sqlite3.connect(self.control_plane.data_dir / "control-plane" / "database.sqlite", timeout=30) as found:
            return found.execute(query, values).fetchall()

    @property
    def database_url(self) -> str:
        """As ``control_plane.database`` takes it."""
        path = self.control_plane.data_dir / "control-plane" / "database.sqlite"
        return self._database_url.replace("postgresql:", "postgresql+asyncpg:") or f"sqlite+aiosqlite:///{path}"

    def events(self) -> dict[str, int]:
        return dict(self.sql("SELECT state, count(*) FROM stripe_events GROUP BY state"))  # type: ignore[arg-type]


async def ask_postgres(url: str, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        numbered = query
        for number in range(1, len(values) + 1):
            numbered = numbered.replace("?", f"${number}", 1)
        return [tuple(row) for row in await connection.fetch(numbered, *values)]
    finally:
        await connection.close()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
