"""A tier changes while a function is deployed: gateways enforce the new limits without a redeploy."""

import time
from collections.abc import Callable

import httpx

from tests.support.server import Server

SLEEPER = """
import time

def handler(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"
"""


def test_a_changed_tier_is_enforced_without_a_redeploy(server: Server) -> None:
    """Prints the measured delay from the control plane's answer to the first call under the new limit."""
    server.deploy("sleeper", SLEEPER, timeout_ms=3_000)
    tenant_id = server.api().get("/v1/tenant").json()["id"]
    token = (server.data_dir / "operator-token").read_text().strip()
    path = f"{server.control_plane_url}/v1/tenants/{tenant_id}/subscription"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as operator:

        def limit(**invocation: int) -> None:
            answer = operator.put(path, json={"overrides": {"invocation": invocation}})
            assert answer.is_success, answer.text

        try:
            assert server.invoke("sleeper", seconds=0.3).status_code == 200
            limit(timeout_ms=100)
            tightened_s = until(server, lambda: server.invoke("sleeper", seconds=0.3).status_code == 504)
            limit()
            widened_s = until(server, lambda: server.invoke("sleeper", seconds=0.3).status_code == 200)
        finally:
            limit()
    print(f"a new limit held after {tightened_s * 1000:.0f} ms, the old one again after {widened_s * 1000:.0f} ms")
    assert tightened_s > 0
    assert server.version("sleeper", latest(server))["limits"]["timeout_ms"] == 3_000, "the function's own is kept"


def until(server: Server, condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    server.wait_for(condition, what="the new limit")
    return time.monotonic() - began


def latest(server: Server) -> str:
    return str(server.api().get("/v1/functions/sleeper").json()["latest"]["id"])
