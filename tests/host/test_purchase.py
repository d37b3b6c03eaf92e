"""The whole story on a running server: a limit of the free tier, the simulated checkout, the larger limit enforced."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import httpx

from tests.support.server import Server, bundle

SLEEPER = """
import time

def handler(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"
"""


def test_a_tier_is_bought_and_the_running_gateway_allows_more(server: Server) -> None:
    """Prints how long after the payment the first call under the new limit succeeded."""
    token = (server.data_dir / "operator-token").read_text().strip()
    operator = client(server, token)
    created = operator.post("/v1/tenants", json={"name": "buyer"}).json()
    buyer = client(server, created["key"]["token"])
    # Ten functions of the free tier would make the test slow: one is enough to meet the bound.
    path = f"/v1/tenants/{created['id']}/subscription"
    assert operator.put(path, json={"overrides": {"admission": {"functions_max": 1}}}).is_success
    first, second = (upload(buyer, name, timeout_ms=2_000) for name in ("first", "second"))
    assert (first.status_code, second.status_code) == (201, 402)
    problem = second.json()
    assert problem["next_tier"] == "pro"
    assert problem["upgrade_url"] == f"{server.control_plane_url}/billing"
    assert operator.put(path, json={"overrides": {}}).is_success

    url = f"{server.gateway_url}/buyer/first"

    def call(seconds: float) -> int:
        body = {"seconds": seconds}
        return httpx.post(url, json=body, headers=buyer.headers, timeout=60, trust_env=False).status_code

    server.wait_for(lambda: call(0) == 200, what="the function served")
    offer = server.wait_for(lambda: offered(buyer), what="prices in the simulated Stripe")
    assert offer["simulated"] is True
    page = httpx.get(offer["url"], trust_env=False)
    assert "SIMULATED" in page.text
    assert httpx.post(offer["url"], data={"action": "pay"}, trust_env=False).status_code == 303
    began = time.monotonic()
    server.wait_for(lambda: subscription(buyer)["tier"] == "pro", what="the tier that was paid for")
    bought_s = time.monotonic() - began
    assert upload(buyer, "second", timeout_ms=2_000).status_code == 201
    print(f"{bought_s * 1000:.0f} ms from the payment to the tier")
    assert subscription(buyer)["simulated"] is True
    upcoming = buyer.get("/v1/invoices/upcoming").json()
    assert upcoming["total_minor"] == 2_900
    buyer.close()
    operator.close()


def client(server: Server, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=server.control_plane_url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    )


def upload(tenant: httpx.Client, name: str, **limits: int) -> httpx.Response:
    archive = bundle({"main.py": SLEEPER}, limits=limits)
    files = {"bundle": ("bundle.zip", archive, "application/zip")}
    return tenant.post(f"/v1/functions/{name}/versions", files=files)


def offered(tenant: httpx.Client) -> dict[str, Any] | None:
    answer = tenant.post("/v1/subscription/checkout", json={"tier": "pro"})
    return dict(answer.json()) if answer.is_success else None


def subscription(tenant: httpx.Client) -> dict[str, Any]:
    return dict(tenant.get("/v1/subscription").json())


def test_the_command_line_shows_compares_and_leads_to_the_checkout(server: Server) -> None:
    token = (server.data_dir / "operator-token").read_text().strip()
    with client(server, token) as operator:
        key = operator.post("/v1/tenants", json={"name": "typist"}).json()["key"]["token"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "160", "TAILCUT_SERVER": server.control_plane_url, "TAILCUT_KEY": key}
        command = [sys.executable, "-m", "tailcut", "tier", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    shown = json.loads(run("--json").stdout)
    assert (shown["tier"], shown["simulated"]) == ("free", True)
    assert "Free" in run().stdout
    compared = run("compare").stdout
    assert all(word in compared for word in ("free", "pro", "scale", "29.00 USD", "add-on concurrency"))

    def offered() -> str:
        return run("change", "pro", "--add-on", "concurrency=1").stdout.strip()

    offer = server.wait_for(offered, what="an offer")
    assert "SIMULATED" in httpx.get(offer, trust_env=False).text
    wrong = run("change", "pro", "--add-on", "concurrency")
    assert wrong.returncode == 2
    assert "NAME=N" in wrong.stderr
